"""Which positions count. Masks come from lengths, never from token ids: True always means "counts"."""

from __future__ import annotations

from typing import Any, cast

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


class _TakeRows(torch.autograd.Function):
    """The backward pass copies rows, where index_select's own adds them one by one on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.count = index, len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].new_zeros(ctx.count, grads[0].shape[1]).index_copy_(0, ctx.index, grads[0]), None


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """(M, H) rows of ``x`` (N, H) at ``index`` (M,), in which no row may stand twice."""
    return cast("Any", _TakeRows.apply)(x, index)  # pyright: ignore[reportUnknownMemberType]


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
