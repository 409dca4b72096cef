"""Attention within the rows of a batch without padding, and which bases it fits.

A base fits if its attention goes through transformers' interface and is plain causal attention;
:func:`same_states` compares its states with those of padded rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from pipeline.base.errors import ModelError
from pipeline.functional.masks import length_mask
from pipeline.modeling.unpadded.layout import Layout

NAME = "unpadded"
"""The attention's name in transformers' registry."""
PLAIN = 384
"""Tokens of a row up to which plain attention is faster in bf16 on a CPU than the fused one, as in
``quick_attention``."""

Attend = Callable[[Layout, Tensor, Tensor, Tensor, float | None, float], Tensor]
"""(1, T, H, D) attention of a layout's (1, H, T, D) queries, keys and values, with their scale and dropout."""

_running: ContextVar[tuple[Layout, Attend] | None] = ContextVar("unpadded rows", default=None)


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
    """Attention within the rows of the batch that runs, as transformers' interface wants it.

    Raises:
        ModelError: the base's attention has a window within the rows, a soft cap, sinks or a bias.
    """
    running, window = _running.get(), kwargs.get("sliding_window")
    special = [k for k in ("softcap", "s_aux", "position_bias", "head_mask") if kwargs.get(k) is not None]
    if running is None or special or attention_mask is not None or not getattr(module, "is_causal", True):
        raise ModelError(type(module).__name__, "is not plain causal attention.")
    layout, attend = running
    if window is not None and window < layout.longest:
        raise ModelError(type(module).__name__, "attends to the nearest tokens only.")
    return attend(layout, query, key, value, scaling, dropout), None


AttentionInterface.register(NAME, unpadded_attention)


def attend_within_rows(
    layout: Layout, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float
) -> Tensor:
    """See :data:`Attend`."""
    query, key, value = (layout.pad(x) for x in (query, key, value))
    return layout.unpad(dot_product_attention(query, key, value, layout.mask, scaling, dropout))


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, dropout: float
) -> Tensor:
    """(R, T, H, D) attention of (R, H, T, D) queries; by plain products where torch's fused backward is slow.

    Args:
        mask: (R, 1, T, S), added to the scores; None for causal attention.
    """
    groups, length = query.shape[1] // key.shape[1], key.shape[2]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and length <= PLAIN and not dropout:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if mask is None:
            mask = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1)
        weights = torch.softmax((query * scale) @ key.transpose(2, 3) + mask, -1)
        return (weights @ value).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=mask is None, scale=scaling)
    return out.transpose(1, 2)


@contextmanager
def attending(layout: Layout, attend: Attend) -> Iterator[None]:
    """Let :func:`unpadded_attention` call ``attend``."""
    token = _running.set((layout, attend))
    try:
        yield
    finally:
        _running.reset(token)


@contextmanager
def unpadded(body: PreTrainedModel, layout: Layout) -> Iterator[None]:
    """Run the base's attention within the rows of ``layout``."""
    config = body.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        with attending(layout, attend_within_rows):
            yield
    finally:
        config._attn_implementation = before


@torch.no_grad()
def same_states(
    body: PreTrainedModel, ids: Tensor, lengths: Tensor, index: tuple[Tensor, ...], states_of: Callable[[], Tensor]
) -> bool:
    """Whether ``states_of`` gives the states that padded rows have at ``index``, up to rounding in fp32.

    Args:
        ids: (B, L) right-padded rows. The longest should be among them, as some bases attend to the nearest tokens
            only.
        lengths: (B,).
    """
    training = body.training
    body.eval()
    mask = length_mask(lengths, ids.shape[1]).long()
    try:
        expected = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[index]
        states = states_of()
    except (ModelError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError):
        return False  # a base that was not written for it can fail in any way
    finally:
        body.train(training)
    apart = (states - expected).norm(dim=-1) / expected.norm(dim=-1)
    return bool((apart < (1e-4 if states.dtype == torch.float32 else 0.05)).all())
