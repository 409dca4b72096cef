"""Where the real tokens of a batch stand: one behind the other in a single row, and among padded rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Rows of x by index. The backward pass gathers too: index_select's own adds row by row on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None) -> Tensor:
        ctx.inverse, ctx.real = inverse, real
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].index_select(0, ctx.inverse)
        return (grad if ctx.real is None else grad.mul_(ctx.real)), None, None, None


def _gather(x: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None = None) -> Tensor:
    return cast("Any", _Gather.apply)(x, index, inverse, real)  # pyright: ignore[reportUnknownMemberType]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The N real tokens of R padded rows of S.

    Attributes:
        ids: (1, N).
        position_ids: (1, N).
        slots: (N,) the place of each token among the R x S.
        tokens: (R x S,) the inverse; 0 for padding.
        real: (R x S, 1) False for padding.
        rows: R.
        longest: how far a token may attend, itself included.
        mask: (R, 1, S, S) 0 where a token attends to another, else minus infinity; None for causal attention.
    """

    ids: Tensor
    position_ids: Tensor
    slots: Tensor
    tokens: Tensor
    real: Tensor
    rows: int
    longest: int
    mask: Tensor | None = None

    @classmethod
    def of(cls, ids: Tensor, positions: Tensor, real: Tensor, device: torch.device, **more: Any) -> Self:
        """The layout of (R, S) padded ids with their positions, of which the ``real`` count."""
        flat = real.flatten()
        slots = flat.nonzero().squeeze(1)
        return cls(
            ids=ids.flatten()[slots][None].to(device),
            position_ids=positions.flatten()[slots][None].to(device),
            slots=slots.to(device),
            tokens=((flat.cumsum(0) - 1).clamp(min=0) * flat).to(device),
            real=flat[:, None].to(device),
            rows=len(real),
            **more,
        )

    @property
    def full(self) -> bool:
        """No row is padded."""
        return len(self.slots) == len(self.tokens)

    def pad(self, x: Tensor) -> Tensor:
        """(1, H, N, D) to (R, H, S, D). Padding repeats token 0: no real token attends to it."""
        heads, width = x.shape[1], x.shape[3]
        flat = x.transpose(1, 2).reshape(-1, heads * width)
        if not self.full:
            flat = _gather(flat, self.tokens, self.slots)
        return flat.view(self.rows, -1, heads, width).transpose(1, 2)

    def unpad(self, x: Tensor) -> Tensor:
        """(R, S, H, D) to (1, N, H, D); the gradient of padding is 0."""
        heads, width = x.shape[2:]
        flat = x.reshape(-1, heads * width)
        if not self.full:
            flat = _gather(flat, self.slots, self.tokens, self.real)
        return flat.view(1, -1, heads, width)
