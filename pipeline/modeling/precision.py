"""The precision of a frozen base: bf16 weights and activations under LoRA and heads in fp32."""

from __future__ import annotations

import torch
from torch import nn


def cast_base_to_bf16(model: nn.Module, adapted: bool) -> None:
    """Cast the frozen base to bf16; LoRA stays fp32, and so does a model without LoRA: bf16 rounds steps away.

    Args:
        adapted: LoRA will be added.
    """
    if not adapted and not hasattr(model, "peft_config"):
        return
    for name, parameter in model.named_parameters():
        if "lora_" not in name and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)
