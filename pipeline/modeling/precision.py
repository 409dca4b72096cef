"""The precision of a frozen base: bf16 weights and activations under LoRA and heads in fp32, or all in fp32."""

from __future__ import annotations

import time
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.base.process import main_process, say
from pipeline.modeling.types import CausalLM, Device

ROWS, WIDEST, TIMES = 256, 2048, 3
"""Of the products by which a processor's bf16 is judged: at most 2 GFLOP each, so all take under half a second."""
PRECISIONS = (torch.float32, torch.bfloat16)
SLOWER = 1.1
"""Times fp32's seconds from which bf16 is called slower; below is noise."""


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


def note_slow_bf16(stage: str, model: CausalLM, device: Device) -> None:
    """Say on the console that bf16, which was asked for, is slower than fp32 on this processor, where it is.

    Measured on products of the model's width, with the threads that the stage has; some milliseconds. A GPU is not
    measured.
    """
    if torch.device(device).type != "cpu" or not main_process():
        return
    seconds = product_seconds(cast("PreTrainedModel", model).config.get_text_config().hidden_size)
    if (line := slow_bf16(seconds[torch.float32], seconds[torch.bfloat16])) is not None:
        say(stage, line)


def slow_bf16(fp32: float, bf16: float) -> str | None:
    """The line for the seconds of the same products in both precisions; None where bf16 is not slower."""
    if bf16 < SLOWER * fp32:
        return None
    return (
        f"bf16 takes {bf16 / fp32:.1f} times as long as fp32 here (measured on matrix products): on this "
        "processor it saves memory, not time"
    )


@torch.no_grad()
def product_seconds(width: int) -> dict[torch.dtype, float]:
    """The least seconds of a product of 256 rows with a square of the width, in fp32 and bf16 by turns."""
    width = min(width, WIDEST)
    factors = {d: (torch.ones(ROWS, width, dtype=d), torch.ones(width, width, dtype=d)) for d in PRECISIONS}
    seconds = dict.fromkeys(PRECISIONS, float("inf"))
    for turn in range(TIMES + 1):
        for dtype, (rows, square) in factors.items():
            started = time.perf_counter()
            torch.mm(rows, square)
            if turn:  # the first makes oneDNN's kernel
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - started)
    return seconds
