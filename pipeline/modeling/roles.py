"""Roles on one frozen base, each a LoRA adapter: load a policy, activate a role, merge it for decoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pipeline.modeling.loading import load_causal_lm, load_tokenizer, require_fit
from pipeline.modeling.lora import add_role, with_adapter
from pipeline.modeling.one_base import load_base
from pipeline.modeling.types import CausalLM, Tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Role:
    """A model under one of its adapters; None for adapters off, or for a model that has none."""

    model: CausalLM
    adapter: str | None = None


@contextmanager
def active_adapter(model: CausalLM, adapter: str | None) -> Iterator[None]:
    """Activate one adapter, or none for None (the base, bit for bit), and restore the earlier one afterwards.

    Every ``requires_grad`` flag is restored too, also after an exception. A model without adapters is unchanged.
    """
    if not hasattr(model, "peft_config"):
        yield
        return
    peft = cast("PeftModel", model)
    before, flags = str(peft.active_adapter), [(p, p.requires_grad) for p in model.parameters()]
    try:
        if adapter is None:
            with peft.disable_adapter():
                yield
        else:
            peft.set_adapter(adapter)
            yield
    finally:
        if adapter is not None:
            peft.set_adapter(before)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def language_model(model: CausalLM) -> PreTrainedModel:
    """The Hugging Face causal LM inside a PEFT model, or the model itself."""
    return cast(
        "PreTrainedModel", cast("PeftModel", model).get_base_model() if hasattr(model, "peft_config") else model
    )


def output_embedding(model: CausalLM) -> Tensor:
    """(V, H) weight that turns states into logits."""
    return cast("nn.Linear", language_model(model).get_output_embeddings()).weight


@contextmanager
def merged_adapter(model: CausalLM, adapter: str | None) -> Iterator[None]:
    """Merge one adapter into the base's weights for decoding, and restore the original tensors afterwards.

    PEFT's own merge and unmerge add and subtract, which changes the base in the last bits. Here the base is
    restored bit for bit, also after an exception.
    """
    from peft.tuners.lora import LoraLayer

    if adapter is None or not hasattr(model, "peft_config"):
        with active_adapter(model, adapter):
            yield
        return
    layers: list[Any] = [m for m in model.modules() if isinstance(m, LoraLayer) and adapter in m.lora_A]
    originals = [layer.get_base_layer().weight.data for layer in layers]
    try:
        with torch.no_grad(), active_adapter(model, None):
            for layer, weight in zip(layers, originals, strict=True):
                layer.get_base_layer().weight.data = weight + layer.get_delta_weight(adapter).to(weight.dtype)
            yield
    finally:
        for layer, weight in zip(layers, originals, strict=True):
            layer.get_base_layer().weight.data = weight


def load_policy(
    source: str, revision: str | None, policy: Path | None = None, dtype: torch.dtype = torch.float32
) -> tuple[CausalLM, Tokenizer]:
    """The base with its tokenizer, and on it the adapter in directory ``policy`` as role ``policy``.

    A whole model in that directory (trained without LoRA) replaces the base.

    Raises:
        ModelError: the base or the adapter cannot be loaded, or do not fit each other.
    """
    if policy is not None and not (policy / "adapter_config.json").is_file():
        return load_causal_lm(str(policy), None, dtype), load_tokenizer(source, revision)
    model, tokenizer = load_base(source, revision, dtype), load_tokenizer(source, revision)
    require_fit(model, tokenizer, source)
    if policy is None:
        return model, tokenizer
    model = with_adapter(model, policy, "policy", source)
    add_role(model, policy, "policy")
    return model.eval(), tokenizer
