"""The causal LM that sft trains: its loss from states of real tokens, without logits that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from pipeline.functional.token_loss import IGNORED, summed_nll
from pipeline.modeling.unpadded.rows import fits, unpad, unpadded_states


@dataclass
class TokenLoss(ModelOutput):
    """What TRL's trainer reads of a model whose loss is chunked: a mean, and sums over this rank's tokens."""

    loss: Tensor | None = None
    num_correct_tokens: Tensor | None = None
    entropy_sum: Tensor | None = None
    num_valid_tokens: Tensor | None = None


def has_plain_loss(model: PreTrainedModel) -> bool:
    """Whether logits are the states times one matrix, and the loss has no further term."""
    config, head = cast("Any", model.config).get_text_config(), model.get_output_embeddings()
    scales = (
        "final_logit_softcapping",
        "logit_scale",
        "output_multiplier",
        "logits_scaling",
        "output_router_logits",
    )
    return type(head) is nn.Linear and head.bias is None and not any(getattr(config, k, None) for k in scales)


def set_token_loss(model: PreTrainedModel, sample: Tensor, lengths: Tensor) -> bool:
    """Let ``model`` compute the loss by :func:`summed_nll`; call it without labels for everything else.

    Args:
        model: a causal LM for which :func:`has_plain_loss` holds.
        sample: (B, L) right-padded rows, the longest among them.
        lengths: (B,).
    Returns:
        Whether the model runs without padding; some bases cannot.
    """
    unpadded = not model.is_gradient_checkpointing and fits(
        cast("PreTrainedModel", model.base_model), sample, lengths
    )
    model.forward = partial(_forward, model, model.forward, unpadded)
    return unpadded


def _forward(
    model: PreTrainedModel,
    other: Callable[..., Any],
    unpadded: bool,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    **kwargs: Any,
) -> Any:
    if input_ids is None or attention_mask is None or labels is None or kwargs.get("position_ids") is not None:
        return other(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            num_items_in_batch=num_items_in_batch,
            **kwargs,
        )
    targets = pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    body = cast("PreTrainedModel", model.base_model)
    if unpadded:
        batch = unpad(input_ids, attention_mask.sum(1))
        states, targets = unpadded_states(body, batch), targets[batch.slots]
    else:
        padded = body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        states = padded.last_hidden_state.flatten(0, 1)
    weight = cast("nn.Linear", model.get_output_embeddings()).weight
    device = states.device.type
    if torch.is_autocast_enabled(device):
        states, weight = (x.to(torch.get_autocast_dtype(device)) for x in (states, weight))
    with torch.autocast(device, enabled=False):
        nll, entropy, correct = summed_nll(states, weight, targets)
    count = (targets != IGNORED).sum()
    loss = nll / (count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
    return TokenLoss(loss=loss, num_correct_tokens=correct, entropy_sum=entropy, num_valid_tokens=count)
