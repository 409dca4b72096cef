"""Sampling completions to compare: ours against ``generate`` of transformers, in completions a second.

Both sample the same number of completions in batches of the same size, two of each prompt as the stage does, by
plain sampling at temperature 1. Once every completion has one length; once they end by themselves, prompts have
several lengths, and there are more prompts than a batch has rows. ``generate bf16`` is the library's own bf16.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.bench.harness import QUICK, Case, compare, peaks
from tests.bench.models import DEMO, EOS, GPT2, PAD, Size, saved_base, tokenizer, varied, vocabulary

PER_PROMPT = 2


def bench(out: Path) -> dict[str, Any]:
    """Speedups by lengths and precision, and ratios of memory."""
    result: dict[str, Any] = {}
    for name, size in (("", shape(GPT2)), ("_demo", shape(DEMO))):
        for key, natural in ((f"collect_speedup{name}", False), (f"collect_speedup{name}_natural", True)):
            if QUICK and natural and size.name == DEMO.name:
                continue
            count, makers = completions(size, natural), cases(size, out, natural)
            lengths = "natural lengths" if natural else f"{size.completion} tokens each"
            title = f"collect, {size.name}: {count} completions of {lengths}, {size.rows} at a time"
            if QUICK:
                del makers["generate bf16"]
            found = compare(title, makers, amount=(count, "completions"))
            result |= {f"{key}_fp32": found["fp32"].ratio, f"{key}_bf16": found["bf16"].ratio}
            if not QUICK:
                result[f"{key}_generate_bf16"] = found["generate bf16"].ratio
    if QUICK:
        return result
    memory = peaks("collect", "generate", "fp32", "bf16")
    result["collect_peak_gb"] = memory
    result["memory_ratio_collect"] = round(memory["generate"] / memory["fp32"], 2)
    result["memory_ratio_collect_bf16"] = round(memory["generate"] / memory["bf16"], 2)
    return result


def shape(size: Size) -> Size:
    return replace(size, rows=8 if QUICK else max(size.rows, 32))


def completions(size: Size, natural: bool) -> int:
    return size.rows * ((2 if QUICK else 3) if natural else 1)


def cases(size: Size, out: Path, natural: bool) -> dict[str, Callable[[], Case]]:
    from transformers import AutoModelForCausalLM

    from pipeline.modeling.loading import load_causal_lm

    path = saved_base(size, out, natural)

    def theirs(dtype: torch.dtype) -> Case:
        return Theirs(size, AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval(), natural)

    return {
        "generate": lambda: theirs(torch.float32),
        "fp32": lambda: Ours(size, load_causal_lm(path, None, torch.float32), natural),
        "bf16": lambda: Ours(size, load_causal_lm(path, None, torch.bfloat16), natural),
        "generate bf16": lambda: theirs(torch.bfloat16),
    }


def peak_cases(out: Path) -> dict[str, Callable[[], Case]]:
    return cases(shape(GPT2), out, natural=False)


class Ours(Case):
    """Our decode loop.

    Args:
        how: further arguments of ``generate``.
    """

    def __init__(self, size: Size, model: Any, natural: bool, **how: Any) -> None:
        self.size, self.model, self.natural, self.how = size, model, natural, how
        self.prompts = [p for p in prompts(size, natural) for _ in range(PER_PROMPT)]

    def run(self) -> None:
        from pipeline.modeling.decoding.generation import generate

        generate(
            self.model,
            self.prompts,
            max_new_tokens=self.size.completion,
            eos_id=EOS if self.natural else None,
            generator=torch.Generator().manual_seed(2),
            batch_size=self.size.rows,
            **self.how,
        )


class Theirs(Case):
    """The library's ``generate``, as its documentation shows it.

    Args:
        how: further arguments of ``generate``.
    """

    def __init__(self, size: Size, model: Any, natural: bool, **how: Any) -> None:
        self.size, self.model, self.how = size, model, how
        self.tokenizer = tokenizer(size)
        self.prompts = prompts(size, natural)
        self.model.generation_config.eos_token_id = EOS if natural else None

    @torch.no_grad()
    def run(self) -> None:
        torch.manual_seed(2)
        at_a_time = self.size.rows // PER_PROMPT
        for start in range(0, len(self.prompts), at_a_time):
            batch = self.tokenizer.pad(
                {"input_ids": self.prompts[start : start + at_a_time]}, return_tensors="pt", padding=True
            )
            self.model.generate(
                **batch.to(self.model.device),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=self.size.completion,
                num_return_sequences=PER_PROMPT,
                pad_token_id=PAD,
                **self.how,
            )


def prompts(size: Size, natural: bool) -> list[list[int]]:
    """Each once; of about the size's length where completions have natural ones too."""
    pace = random.Random(1)
    return [
        [pace.randrange(2, vocabulary(size)) for _ in range(varied(size.prompt, pace) if natural else size.prompt)]
        for _ in range(completions(size, natural) // PER_PROMPT)
    ]
