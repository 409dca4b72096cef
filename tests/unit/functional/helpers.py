"""Rows of numbers, and rows of which some positions count."""

from __future__ import annotations

import torch

from pipeline.functional.masks import length_mask

LENGTHS = torch.tensor([5, 1, 3])
MASK = length_mask(LENGTHS, 5)


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
