"""The types of models, tokenizers and devices in the package's signatures. Importing them loads no library."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CausalLM: TypeAlias = "PreTrainedModel | PeftModel"
"""A model that predicts the next token, with LoRA adapters on it or without."""

Tokenizer: TypeAlias = "PreTrainedTokenizerBase"

Device: TypeAlias = "torch.device | str"
