"""Run rows of tokens through a base without padding, the prefix two rows share once, for their last states only.

The rows of a batch stand one behind the other in a single row, so no layer but attention sees padding. Two rows
that begin alike (the chosen and the rejected side of a pair) keep their common prefix once: a tree of a prefix
and two branches, each with the positions it has in a row of its own. A causal base gives equal states up to
rounding. In the last block only the states that are read, the last of each row, go through attention's output and
the MLP: of the other tokens it needs keys and values alone.

A base fits if its attention goes through transformers' interface and is plain causal attention within the rows;
:func:`fits` compares its states with those of padded rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from pipeline.modeling.roles import block_list
from pipeline.modeling.tokens import right_pad

NAME = "packed_rows"
"""The attention's name in transformers' registry."""
PLAIN = 384
"""Tokens of a tree up to which plain attention is faster than the fused one in bf16 on a CPU, as in PPO."""


class DoesNotFit(Exception):
    """The base's attention is not plain causal attention."""


class _Kept(Exception):
    """Ends the last block's pass over all tokens as soon as their keys and values are there."""


@dataclass
class Packed:
    """Rows of a batch as trees in one row of N tokens; G trees of S tokens at most, with K rows each.

    Attributes:
        ids: (1, N).
        position_ids: (1, N), each token's position in its own row.
        slots: (N,) the place of each token among the G x S of padded trees.
        tokens: (G x S,) the inverse; 0 for padding.
        real: (G x S, 1) False for padding.
        mask: (G, 1, S, S) 0 where a token attends to another, else minus infinity.
        last: (G, K) each row's last token, as one of N.
        last_mask: (G, 1, K, S) the mask of these.
        longest: tokens of the longest row.
        kept: keys and values of the last block.
        read_last: the block that runs has the last tokens only.
    """

    ids: Tensor
    position_ids: Tensor
    slots: Tensor
    tokens: Tensor
    real: Tensor
    mask: Tensor
    last: Tensor
    last_mask: Tensor
    longest: int
    kept: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    keeping: bool = False

    @property
    def trees(self) -> int:
        return len(self.last)

    @property
    def full(self) -> bool:
        """No tree is padded."""
        return len(self.slots) == len(self.tokens)


_running: ContextVar[Packed | None] = ContextVar("packed rows", default=None)


def common_prefix(first: Tensor, second: Tensor, lengths: Tensor) -> Tensor:
    """(G,) leading tokens that two sets of padded rows share; every row keeps at least one token of its own.

    Args:
        first, second: (G, L) ids.
        lengths: (2, G).
    """
    alike = (first == second).long().cumprod(1).sum(1)
    return torch.minimum(alike, lengths.amin(0) - 1)


def pack(input_ids: Tensor, lengths: Tensor, paired: bool, dtype: torch.dtype = torch.float32) -> Packed:
    """Pack right-padded rows.

    Args:
        input_ids: (R, L).
        lengths: (R,).
        paired: row i and row i + R / 2 share their common prefix.
        dtype: of the masks.
    """
    device = input_ids.device
    ids, lengths = input_ids.cpu(), lengths.cpu()
    branches = 2 if paired else 1
    own = lengths.view(branches, -1)
    trees = own.shape[1]
    prefix = common_prefix(*ids.view(2, trees, -1), own) if paired else torch.zeros_like(own[0])
    own = own - prefix
    first_end = prefix + own[0]
    size = prefix + own.sum(0)
    slot = torch.arange(int(size.max()))[None]
    real = slot < size[:, None]
    branch = (slot >= prefix[:, None]).long() + (slot >= first_end[:, None])
    second = branch == 2 if paired else torch.zeros_like(real)
    position = torch.where(second, slot - own[0][:, None], slot).clamp(max=ids.shape[1] - 1)
    row = torch.arange(trees)[:, None] + trees * second
    # Padding of a tree attends to the tree before it, so that its softmax is defined; nothing reads it.
    sees = (slot[0][:, None] >= slot[0]) & ((branch[:, None] == 0) | (branch[:, None] == branch[:, :, None]))
    sees &= real[:, None]
    flat = real.flatten()
    slots = flat.nonzero().squeeze(1)
    tokens = (flat.cumsum(0) - 1).clamp(min=0) * flat
    last_slots = torch.stack([first_end - 1, size - 1][:branches], 1)
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, float("-inf"))[:, None]
    last = tokens.view(trees, -1).gather(1, last_slots)
    last_mask = mask[torch.arange(trees)[:, None], 0, last_slots][:, None]
    return Packed(
        ids=ids[row, position][real][None].to(device),
        position_ids=position[real][None].to(device),
        slots=slots.to(device),
        tokens=tokens.to(device),
        real=flat[:, None].to(device),
        mask=mask.to(device),
        last=last.to(device),
        last_mask=last_mask.to(device),
        longest=int(lengths.max()),
    )


class _Move(torch.autograd.Function):
    """Rows of x by index, with a gather as its backward pass too: index_select's adds row by row on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None) -> Tensor:
        ctx.inverse, ctx.real = inverse, real
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad = grads[0].index_select(0, ctx.inverse)
        return (grad if ctx.real is None else grad * ctx.real), None, None, None


def _to_trees(x: Tensor, packed: Packed) -> Tensor:
    """(1, H, N, D) to (G, H, S, D)."""
    heads, width = x.shape[1], x.shape[3]
    flat = x.transpose(1, 2).reshape(-1, heads * width)
    if not packed.full:
        flat = cast("Tensor", _Move.apply(flat, packed.tokens, packed.slots, None))
    return flat.view(packed.trees, -1, heads, width).transpose(1, 2)


def _from_trees(x: Tensor, packed: Packed) -> Tensor:
    """(G, S, H, D) to (1, N, H, D)."""
    heads, width = x.shape[2:]
    flat = x.reshape(-1, heads * width)
    if not packed.full:
        flat = cast("Tensor", _Move.apply(flat, packed.slots, packed.tokens, packed.real))
    return flat.view(1, -1, heads, width)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, dropout: float
) -> Tensor:
    """(G, T, H, D) attention of (G, H, T, D) queries; by plain products where torch's fused backward is slow."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and key.shape[2] <= PLAIN and not dropout:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        weights = torch.softmax((query * scale) @ key.transpose(2, 3) + mask, -1)
        return (weights @ value).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
    return out.transpose(1, 2)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within the trees of the batch that runs, as transformers' interface wants it.

    Raises:
        DoesNotFit: the base's attention has a window within the rows, a soft cap, sinks or a bias.
    """
    packed = _running.get()
    window = kwargs.get("sliding_window")
    special = [k for k in ("softcap", "s_aux", "position_bias", "head_mask") if kwargs.get(k) is not None]
    if packed is None or special or (window is not None and window < packed.longest) or attention_mask is not None:
        raise DoesNotFit
    if not getattr(module, "is_causal", True):
        raise DoesNotFit
    if packed.keeping:
        packed.kept = (_to_trees(key, packed), _to_trees(value, packed))
        raise _Kept
    if packed.kept is not None:
        trees, rows = packed.last.shape
        query = query.transpose(1, 2).view(trees, rows, *query.shape[1::2]).transpose(1, 2)
        out = _attend(query, *packed.kept, packed.last_mask, scaling, dropout)
        return out.reshape(1, trees * rows, *out.shape[2:]), None
    query, key, value = (_to_trees(x, packed) for x in (query, key, value))
    return _from_trees(_attend(query, key, value, packed.mask, scaling, dropout), packed), None


AttentionInterface.register(NAME, packed_attention)


@contextmanager
def _attention(model: PreTrainedModel, packed: Packed) -> Iterator[None]:
    """Run the base's attention within the trees of ``packed``."""
    config = model.config
    before, token = config._attn_implementation, _running.set(packed)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _running.reset(token)


def _last_block(forward: Any, packed: Packed, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The last block: keys and values of all tokens, the rest of the last tokens only.

    Returns:
        The block's output, with zeros for the tokens that are not read.
    """
    packed.keeping = True
    try:
        forward(hidden_states, *args, **kwargs)
    except _Kept:
        pass
    finally:
        packed.keeping = False
    index = packed.last.flatten()

    def read(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(read(v) for v in cast("tuple[Any, ...]", value))
        along = isinstance(value, Tensor) and value.dim() > 1 and value.shape[1] == hidden_states.shape[1]
        return value[:, index] if along else value

    try:
        output = forward(read(hidden_states), *map(read, args), **{k: read(v) for k, v in kwargs.items()})
    finally:
        packed.kept = None
    states = output[0] if isinstance(output, tuple) else output
    whole = hidden_states.new_zeros(hidden_states.shape).index_copy(1, index, states.to(hidden_states.dtype))
    return (whole, *output[1:]) if isinstance(output, tuple) else whole


def last_states(model: PreTrainedModel, packed: Packed) -> Tensor:
    """(R, H) last state of each row, final norm included, under the active adapter.

    Args:
        model: a model with a decoder ``base_model``.
    Raises:
        DoesNotFit: see :func:`packed_attention`; or the base has no list of blocks.
    """
    body: Any = model.base_model
    with _attention(model, packed), _last_tokens_alone(body, packed):
        states = body(input_ids=packed.ids, position_ids=packed.position_ids, use_cache=False).last_hidden_state
    return states[0, packed.last.T.flatten()]


@contextmanager
def _last_tokens_alone(body: nn.Module, packed: Packed) -> Iterator[None]:
    """Run the last block by :func:`_last_block`."""
    blocks = block_list(body)
    if blocks is None:
        raise DoesNotFit
    block: Any = blocks[1][-1]
    own = vars(block).get("forward")
    block.forward = partial(_last_block, block.forward, packed)
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


@torch.no_grad()
def fits(model: PreTrainedModel, rows: Sequence[Sequence[int]], paired: bool) -> bool:
    """Whether ``model`` gives packed ``rows`` the last states that it gives padded ones, up to rounding in fp32.

    Args:
        rows: the longest should be among them, as some bases attend to the nearest tokens only.
        paired: as in :func:`pack`.
    """
    ids, lengths = right_pad(rows, 0, model.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    body: Any = model.base_model
    padded = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    expected = padded[torch.arange(len(rows), device=ids.device), lengths - 1]
    try:
        states = last_states(model, pack(ids, lengths, paired, padded.dtype))
    except (DoesNotFit, _Kept, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError):
        return False  # a base that was not written for it can fail in any way
    apart = (states - expected).norm(dim=-1) / expected.norm(dim=-1)
    return bool((apart < 1e-4).all())
