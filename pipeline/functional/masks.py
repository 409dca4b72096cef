"""Which positions count. Masks come from lengths, never from token ids: True always means "counts"."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """(B, width) bool, True on the first ``lengths[i]`` columns of row i."""
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]


def completion_positions(prompt_lengths: Tensor, width: int) -> Tensor:
    """(B, T) column, in right-padded rows of prompt + completion, of the state that predicts completion token t.

    That is ``prompt_length - 1 + t``: the last prompt token predicts the first completion token.
    """
    return prompt_lengths[:, None] - 1 + torch.arange(width, device=prompt_lengths.device)[None, :]


def take_positions(hidden: Tensor, positions: Tensor) -> Tensor:
    """(B, T, H) rows of ``hidden`` (B, L, H) at ``positions`` (B, T); columns past the end repeat the last one."""
    index = positions.clamp(0, hidden.shape[1] - 1)
    return hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions that count (a scalar); 0 where nothing counts."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def masked_var(values: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance over the positions that count; 0 for fewer than two."""
    count = mask.sum()
    centred = (values - masked_mean(values, mask)) * mask
    return (centred**2).sum() / (count - 1).clamp(min=1)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the positions that count; 0 when returns do not vary."""
    spread = masked_var(returns, mask)
    if spread < 1e-12:
        return torch.zeros(())
    return 1.0 - masked_var(returns - values, mask) / spread
