"""Read a base's own states of whole texts, to see what a linear head could make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.modeling.roles import active_adapter
from pipeline.modeling.states import hidden_states
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.types import CausalLM

if TYPE_CHECKING:
    from numpy.typing import NDArray


@torch.no_grad()
def base_states(model: CausalLM, rows: Sequence[Sequence[int]], batch_size: int = 16) -> NDArray[np.float64]:
    """(N, 2H) last and mean state of each row, adapters off."""
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    states: dict[int, NDArray[np.float64]] = {}
    with active_adapter(model, None):
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            ids, lengths = right_pad([rows[i] for i in index], 0, device)
            batch = hidden_states(model, ids).float()
            for i, row, length in zip(index, batch, lengths.tolist(), strict=True):
                states[i] = torch.cat([row[length - 1], row[:length].mean(0)]).double().cpu().numpy()
    return np.stack([states[i] for i in range(len(rows))])
