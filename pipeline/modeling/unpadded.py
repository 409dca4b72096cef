"""Run right-padded rows through a causal base without their padding.

The real tokens of a batch stand one behind the other in a single row, so that every layer but attention sees them
alone; attention puts them back into rows. The states are those of padded rows up to rounding. A base fits if its
attention goes through transformers' interface and is plain causal attention; :func:`fits` compares the states.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from pipeline.base.errors import ModelError
from pipeline.functional.masks import length_mask

NAME = "unpadded"
"""The attention's name in transformers' registry."""


@dataclass(frozen=True)
class Unpadded:
    """The N real tokens of B rows of up to L.

    Attributes:
        ids: (1, N).
        position_ids: (1, N), each token's position in its row.
        slots: (N,) the place of each token among the B x L.
        tokens: (B x L,) the inverse; 0 for padding.
        real: (B x L, 1) False for padding.
        rows: B.
    """

    ids: Tensor
    position_ids: Tensor
    slots: Tensor
    tokens: Tensor
    real: Tensor
    rows: int

    @property
    def full(self) -> bool:
        """No row is padded."""
        return len(self.slots) == len(self.tokens)


_running: ContextVar[Unpadded | None] = ContextVar("unpadded rows", default=None)


def unpad(input_ids: Tensor, lengths: Tensor) -> Unpadded:
    """The real tokens of (B, L) right-padded rows, of which ``lengths`` (B,) count."""
    mask = length_mask(lengths, input_ids.shape[1])
    flat = mask.flatten()
    slots = flat.nonzero().squeeze(1)
    return Unpadded(
        ids=input_ids.flatten()[slots][None],
        position_ids=(slots % input_ids.shape[1])[None],
        slots=slots,
        tokens=(flat.cumsum(0) - 1).clamp(min=0) * flat,
        real=flat[:, None],
        rows=len(input_ids),
    )


def unpadded_states(body: PreTrainedModel, batch: Unpadded) -> Tensor:
    """(N, H) last states of the real tokens, final norm included.

    Args:
        body: a decoder without its output embedding.
    Raises:
        ModelError: see :func:`unpadded_attention`.
    """
    with _attention(body, batch):
        output = body(input_ids=batch.ids, position_ids=batch.position_ids, use_cache=False)
    return output.last_hidden_state[0]


@torch.no_grad()
def fits(body: PreTrainedModel, input_ids: Tensor, lengths: Tensor) -> bool:
    """Whether the states of these rows without padding equal those with it, up to rounding in fp32.

    Args:
        input_ids: (B, L). The longest row should be among them, as some bases attend to the nearest tokens only.
    """
    training = body.training
    body.eval()
    mask = length_mask(lengths, input_ids.shape[1])
    try:
        expected = body(input_ids=input_ids, attention_mask=mask.long(), use_cache=False).last_hidden_state[mask]
        states = unpadded_states(body, unpad(input_ids, lengths))
    except (ModelError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError):
        return False  # a base that was not written for it can fail in any way
    finally:
        body.train(training)
    apart = (states - expected).norm(dim=-1) / expected.norm(dim=-1)
    return bool((apart < (1e-4 if states.dtype == torch.float32 else 0.05)).all())


def unpadded_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within the rows of the batch that runs, as transformers' interface wants it.

    Raises:
        ModelError: the base's attention has a window within the rows, a soft cap, sinks or a bias.
    """
    batch = _running.get()
    window = kwargs.get("sliding_window")
    special = [k for k in ("softcap", "s_aux", "position_bias", "head_mask") if kwargs.get(k) is not None]
    if batch is None or special or attention_mask is not None or not getattr(module, "is_causal", True):
        raise ModelError(type(module).__name__, "is not plain causal attention.")
    if window is not None and window < len(batch.tokens) // batch.rows:
        raise ModelError(type(module).__name__, "attends to the nearest tokens only.")
    query, key, value = (_to_rows(x, batch) for x in (query, key, value))
    return _from_rows(_causal(query, key, value, scaling, dropout), batch), None


AttentionInterface.register(NAME, unpadded_attention)


@contextmanager
def _attention(body: PreTrainedModel, batch: Unpadded) -> Iterator[None]:
    config = body.config
    before, token = config._attn_implementation, _running.set(batch)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _running.reset(token)


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float) -> Tensor:
    """(B, L, H, D) attention; by plain products where torch's fused backward is slow, see ``quick_attention``."""
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and length <= 384 and not dropout:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        future = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1)
        weights = torch.softmax((query * scale) @ key.transpose(2, 3) + future, -1)
        return (weights @ value).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, None, dropout, is_causal=True, scale=scaling)
    return out.transpose(1, 2)


class _Move(torch.autograd.Function):
    """Rows of x by index. The backward pass gathers too: index_select's own adds row by row on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None) -> Tensor:
        ctx.inverse, ctx.real = inverse, real
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].index_select(0, ctx.inverse)
        return (grad if ctx.real is None else grad.mul_(ctx.real)), None, None, None


def _move(x: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None = None) -> Tensor:
    return cast("Any", _Move.apply)(x, index, inverse, real)  # pyright: ignore[reportUnknownMemberType]


def _to_rows(x: Tensor, batch: Unpadded) -> Tensor:
    """(1, H, N, D) to (B, H, L, D). Padding repeats token 0: it lies behind every real token of its row."""
    heads, width = x.shape[1], x.shape[3]
    flat = x.transpose(1, 2).reshape(-1, heads * width)
    if not batch.full:
        flat = _move(flat, batch.tokens, batch.slots)
    return flat.view(batch.rows, -1, heads, width).transpose(1, 2)


def _from_rows(x: Tensor, batch: Unpadded) -> Tensor:
    """(B, L, H, D) to (1, N, H, D); the gradient of padding is 0."""
    heads, width = x.shape[2:]
    flat = x.reshape(-1, heads * width)
    if not batch.full:
        flat = _move(flat, batch.slots, batch.tokens, batch.real)
    return flat.view(1, -1, heads, width)
