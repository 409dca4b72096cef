"""Run right-padded rows through a causal base without their padding, for the states of all their tokens.

Every layer but attention sees the real tokens alone. The states are those of padded rows up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.functional.masks import length_mask
from pipeline.modeling.unpadded.attention import same_states, unpadded
from pipeline.modeling.unpadded.layout import Layout


def unpad(input_ids: Tensor, lengths: Tensor) -> Layout:
    """The real tokens of (B, L) right-padded rows, of which ``lengths`` (B,) count."""
    width = input_ids.shape[1]
    positions = torch.arange(width, device=input_ids.device).expand_as(input_ids)
    return Layout.of(input_ids, positions, length_mask(lengths, width), input_ids.device, longest=width)


def unpadded_states(body: PreTrainedModel, batch: Layout) -> Tensor:
    """(N, H) last states of the real tokens, final norm included.

    Args:
        body: a decoder without its output embedding.
    Raises:
        ModelError: see :func:`unpadded_attention`.
    """
    with unpadded(body, batch):
        output = body(input_ids=batch.ids, position_ids=batch.position_ids, use_cache=False)
    return output.last_hidden_state[0]


def fits(body: PreTrainedModel, input_ids: Tensor, lengths: Tensor) -> bool:
    """Whether these rows have the same states without padding, see :func:`same_states`."""
    index = (length_mask(lengths, input_ids.shape[1]),)
    return same_states(body, input_ids, lengths, index, lambda: unpadded_states(body, unpad(input_ids, lengths)))
