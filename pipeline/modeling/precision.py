"""The precision of a frozen base: bf16 weights and activations under LoRA and heads in fp32, or all in fp32."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.modeling.types import Device


def base_dtype(bf16: bool | None, device: Device) -> torch.dtype:
    """The dtype of a base that is not trained: bf16 if so set, for None on a GPU that has it.

    Not on a CPU by itself: of two with bf16 instructions it halves a product's time on one, and doubles it on one.
    """
    if bf16 is None:
        bf16 = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if bf16 else torch.float32


def precision_name(dtype: torch.dtype) -> str:
    """``bf16`` or ``fp32``, as a stage records it."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


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
