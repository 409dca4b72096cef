"""Whether a model's weights are numbers, and whether training has moved them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from pipeline.base.errors import ModelError


def non_finite(parameters: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, or None."""
    return next((name for name, p in parameters if not bool(torch.isfinite(p.detach()).all())), None)


def require_finite(model: Any, where: str, mend: str) -> None:
    """Check all weights of ``model``, adapters included.

    Raises:
        ModelError: one is NaN or infinite.
    """
    name = non_finite(model.named_parameters())
    if name is not None:
        raise ModelError(where, f"the weights {name} hold NaN or infinity.", mend)


def norms(parameters: Iterable[torch.Tensor]) -> list[float]:
    """The length of every tensor in double precision: a change of any of them shows that something was learnt."""
    return [torch.linalg.vector_norm(p.detach(), dtype=torch.float64).item() for p in parameters]


def require_moved(before: list[float], parameters: Iterable[torch.Tensor], stage: str, steps: int) -> None:
    """Check that training has changed a weight.

    Args:
        before: :func:`norms` of the same parameters before training.
    Raises:
        ModelError: all are as they were.
    """
    if steps < 1 or norms(parameters) == before:
        raise ModelError(
            stage,
            f"nothing was learnt: {steps} steps have left every weight as it was.",
            f"Train longer, or lower {stage}.warmup_steps (the first step of a warm-up has a rate of 0).",
        )
