"""Run rows through a causal base without padding, a pair's common prefix once, for the last state of each row.

Two rows that begin alike (the chosen and the rejected side of a pair) keep their common prefix once: a tree of a
prefix and two branches, each with the positions it has in a row of its own. A causal base gives equal states up to
rounding. In the last block only the states that are read, the last of each row, go through attention's output and
the MLP: of the other tokens it needs keys and values alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.base.errors import ModelError
from pipeline.modeling.states import block_list
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.unpadded.attention import attending, dot_product_attention, same_states, unpadded
from pipeline.modeling.unpadded.layout import Layout


class _Kept(Exception):
    """Ends the last block's pass over all tokens as soon as their keys and values are there."""


@dataclass(frozen=True, kw_only=True)
class Packed(Layout):
    """Rows of a batch as trees, each a padded row of the layout; R trees with K rows each.

    Attributes:
        last: (R, K) each row's last token, as one of N.
        last_mask: (R, 1, K, S) the mask of these.
    """

    last: Tensor
    last_mask: Tensor


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
    prefix = common_prefix(ids[:trees], ids[trees:], own) if paired else torch.zeros_like(own[0])
    own = own - prefix
    first_end = prefix + own[0]
    size = prefix + own.sum(0)
    slot = torch.arange(int(size.max()))[None]
    real = slot < size[:, None]
    second = (slot >= first_end[:, None]) & paired
    branch = (slot >= prefix[:, None]).long() + second
    position = torch.where(second, slot - own[0][:, None], slot).clamp(max=ids.shape[1] - 1)
    row = torch.arange(trees)[:, None] + trees * second
    # Padding attends to the last row of its tree, so that its softmax is defined; nothing reads it. Where it had
    # nothing to attend to, plain products would make its weights NaN, and with them the row's gradients.
    sees = (slot[0][:, None] >= slot[0]) & ((branch[:, None] == 0) | (branch[:, None] == branch[:, :, None]))
    sees &= real[:, None]
    last_slots = torch.stack([first_end - 1, size - 1][:branches], 1)
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, float("-inf"))[:, None]
    place = (real.flatten().cumsum(0) - 1).view_as(real)
    return Packed.of(
        ids[row, position],
        position,
        real,
        device,
        longest=int(lengths.max()),
        mask=mask.to(device),
        last=place.gather(1, last_slots).to(device),
        last_mask=mask[torch.arange(trees)[:, None], 0, last_slots][:, None].to(device),
    )


def last_states(body: PreTrainedModel, packed: Packed) -> Tensor:
    """(rows, H) last state of each row, final norm included, under the active adapter.

    Args:
        body: a decoder without its output embedding or head.
    Raises:
        ModelError: see :func:`unpadded_attention`; or the base has no list of blocks.
    """
    with unpadded(body, packed), _last_tokens_alone(body, packed):
        output = body(input_ids=packed.ids, position_ids=packed.position_ids, use_cache=False)
    return output.last_hidden_state[0, packed.last.T.flatten()]


@contextmanager
def _last_tokens_alone(body: nn.Module, packed: Packed) -> Iterator[None]:
    """Run the last block by :func:`_last_block`."""
    blocks = block_list(body)
    if blocks is None:
        raise ModelError(type(body).__name__, "has no list of blocks.")
    block: Any = blocks[1][-1]
    own = vars(block).get("forward")
    block.forward = partial(_last_block, block.forward, packed)
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


def _last_block(forward: Any, packed: Packed, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The last block: keys and values of all tokens, the rest of the last tokens only.

    Returns:
        The block's output, with zeros for the tokens that are not read.
    """
    kept: list[Tensor] = []

    def keep(_: Layout, _query: Tensor, key: Tensor, value: Tensor, *_rest: Any) -> Tensor:
        kept[:] = packed.pad(key), packed.pad(value)
        raise _Kept

    def attend(
        _: Layout, query: Tensor, _key: Tensor, _value: Tensor, scaling: float | None, dropout: float
    ) -> Tensor:
        trees, rows = packed.last.shape
        query = query.transpose(1, 2).view(trees, rows, *query.shape[1::2]).transpose(1, 2)
        out = dot_product_attention(query, kept[0], kept[1], packed.last_mask, scaling, dropout)
        return out.reshape(1, trees * rows, *out.shape[2:])

    with suppress(_Kept), attending(packed, keep):
        forward(hidden_states, *args, **kwargs)
    index = packed.last.flatten()

    def read(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(read(v) for v in cast("tuple[Any, ...]", value))
        along = isinstance(value, Tensor) and value.dim() > 1 and value.shape[1] == hidden_states.shape[1]
        return value[:, index] if along else value

    with attending(packed, attend):
        output = forward(read(hidden_states), *map(read, args), **{k: read(v) for k, v in kwargs.items()})
    states = output[0] if isinstance(output, tuple) else output
    whole = hidden_states.new_zeros(hidden_states.shape).index_copy(1, index, states.to(hidden_states.dtype))
    return (whole, *output[1:]) if isinstance(output, tuple) else whole


def fits(body: PreTrainedModel, rows: Sequence[Sequence[int]], paired: bool) -> bool:
    """Whether packed ``rows`` have the same last states, see :func:`same_states`.

    Args:
        paired: as in :func:`pack`.
    """
    ids, lengths = right_pad(rows, 0, body.device)
    index = (torch.arange(len(rows), device=ids.device), lengths - 1)
    return same_states(
        body, ids, lengths, index, lambda: last_states(body, pack(ids, lengths, paired, body.dtype))
    )
