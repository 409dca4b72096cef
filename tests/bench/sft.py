"""Training the base on texts: ours against TRL's SFTTrainer, in tokens a second.

GPT-2 124M gets LoRA, as a pretrained base does in the stage ``sft``; the demo's model is trained whole, from
scratch. Both train on the same texts, whose lengths vary by half around their mean, in the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.harness import QUICK, Case, compare, peaks
from tests.bench.models import DEMO, GPT2, Size, saved_base, section_lora, text, varied
from tests.bench.step_clock import TrainerCase

LENGTH = 48 if QUICK else 128
"""Mean tokens of a text at 124M."""
EVAL_SHARE = 0.02
"""The section's default: the first texts are held out."""


def bench(out: Path) -> dict[str, Any]:
    """Speedups by precision, and ratios of memory."""
    result: dict[str, Any] = {}
    big = shape(GPT2)
    for key, size, adapt in (("sft_speedup", big, True), ("sft_speedup_demo", DEMO, False)):
        how = "LoRA" if adapt else "all weights"
        length = size.prompt + size.completion
        title = f"sft, {size.name}, {how}: {size.steps} steps of {size.micro} texts of about {length} tokens"
        makers = cases(size, out, adapt)
        if QUICK or size is not big:
            del makers["trl bf16"]
        tokens = sum(len(t.split()) + 1 for t in texts(size)[held_out(size) :])
        found = compare(title, makers, amount=(tokens, "tokens"))
        result |= {key: found["fp32"].ratio, f"{key}_bf16": found["bf16"].ratio}
        if "trl bf16" in found:
            result[f"{key}_trl_bf16"] = found["trl bf16"].ratio
    if QUICK:
        return result
    memory = peaks("sft", "trl", "fp32", "bf16")
    result["sft_peak_gb"] = memory
    result["memory_ratio_sft"] = round(memory["trl"] / memory["fp32"], 2)
    result["memory_ratio_sft_bf16"] = round(memory["trl"] / memory["bf16"], 2)
    return result


def shape(size: Size) -> Size:
    return replace(size, prompt=0, completion=LENGTH)


def cases(size: Size, out: Path, adapt: bool) -> dict[str, Callable[[], Case]]:
    return {
        "trl": lambda: Theirs(size, out, adapt),
        "fp32": lambda: Ours(size, out, adapt),
        "bf16": lambda: Ours(size, out, adapt, bf16=True),
        "trl bf16": lambda: Theirs(size, out, adapt, bf16=True),
    }


def peak_cases(out: Path) -> dict[str, Callable[[], Case]]:
    return cases(shape(GPT2), out, adapt=True)


class SFTCase(TrainerCase):
    """One epoch over the same texts; the loading of the base and the held-out loss are not counted."""

    def __init__(self, size: Size, out: Path, adapt: bool, bf16: bool = False) -> None:
        from pipeline.modeling.loading import load_tokenizer

        super().__init__(out, bf16, size.micro)
        self.base, self.size, self.adapt = saved_base(size, out), size, adapt
        self.tokenizer = load_tokenizer(self.base)


class Ours(SFTCase):
    def train(self, settings: dict[str, Any]) -> None:
        from pipeline.modeling.loading import load_causal_lm
        from pipeline.trainers import sft

        args = sft.SFTSection(**settings, save_seconds=0.0, eval_share=EVAL_SHARE)
        metrics, model = Path(settings["output_dir"]) / "metrics.jsonl", load_causal_lm(self.base)
        whole = partial(load_causal_lm, self.base) if self.adapt else None
        sft.train(args, model, self.tokenizer, texts(self.size), whole=whole, metrics=metrics)


class Theirs(SFTCase):
    def train(self, settings: dict[str, Any]) -> None:
        import torch
        from datasets import Dataset
        from transformers import AutoModelForCausalLM
        from trl import SFTConfig, SFTTrainer

        from pipeline.trainers.sft import tokenize_corpus

        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        rows = tokenize_corpus(self.tokenizer, texts(self.size), 10**9).rows
        SFTTrainer(
            model=model,
            args=SFTConfig(**settings),
            processing_class=self.tokenizer,
            train_dataset=Dataset.from_dict({"input_ids": rows[held_out(self.size) :]}),
            peft_config=section_lora(model, "CAUSAL_LM") if self.adapt else None,
        ).train()


def held_out(size: Size) -> int:
    """Texts of :func:`texts` that our trainer holds out."""
    return max(1, int(len(texts(size)) * EVAL_SHARE))


def texts(size: Size) -> list[str]:
    """Texts for ``steps`` batches and one to hold out."""
    pace, length = random.Random(0), size.prompt + size.completion
    return [text(size, varied(length, pace), pace) for _ in range(size.micro * size.steps + 1)]
