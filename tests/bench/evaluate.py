"""Scoring completions for an evaluation: ours against a plain loop over the classifier, in completions a second.

Both read one reward adapter over the same base. The loop goes through the texts in their order, in batches of the
same size padded to their longest, as the library's documentation shows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.bench.harness import QUICK, Case, compare, peaks
from tests.bench.models import DEMO, EOS, GPT2, PAD, Size, base, section_lora, text, tokenizer, varied

BATCH = 64
"""Rows of a batch: ours by default."""


def bench(out: Path) -> dict[str, Any]:
    """Speedups by precision, and ratios of memory."""
    result: dict[str, Any] = {}
    for key, size in (("evaluate_speedup", shape(GPT2)), ("evaluate_speedup_demo", shape(DEMO))):
        count = len(rows(size)[0])
        title = f"evaluate, {size.name}: scores of {count} completions of about {size.completion} tokens"
        makers = cases(size, out)
        if QUICK:
            del makers["loop bf16"]
        found = compare(title, makers, amount=(count, "completions"))
        result |= {key: found["fp32"].ratio, f"{key}_bf16": found["bf16"].ratio}
        if not QUICK:
            result[f"{key}_loop_bf16"] = found["loop bf16"].ratio
    if QUICK:
        return result
    memory = peaks("evaluate", "loop", "fp32", "bf16")
    result["evaluate_peak_gb"] = memory
    result["memory_ratio_evaluate"] = round(memory["loop"] / memory["fp32"], 2)
    return result


def shape(size: Size) -> Size:
    return replace(size, rows=32 if QUICK else 256 if size is DEMO else 128)


def cases(size: Size, out: Path) -> dict[str, Callable[[], Case]]:
    del out
    return {
        "loop": lambda: Theirs(size),
        "fp32": lambda: Ours(size),
        "bf16": lambda: Ours(size, torch.bfloat16),
        "loop bf16": lambda: Theirs(size, torch.bfloat16),
    }


def peak_cases(out: Path) -> dict[str, Callable[[], Case]]:
    return cases(shape(GPT2), out)


class Ours(Case):
    """The reward adapter as a role of the shared base."""

    def __init__(self, size: Size, dtype: torch.dtype = torch.float32) -> None:
        from peft import get_peft_model

        from pipeline.modeling.loading import fuse_activations
        from pipeline.scoring.reward_adapter import RewardRole, Scoring

        model = fuse_activations(base(size, natural=False)).to(dtype)
        peft = get_peft_model(model, section_lora(model, "CAUSAL_LM"), adapter_name="reward").eval()
        torch.manual_seed(2)
        head = torch.randn(1, model.config.n_embd)
        self.role: Any = RewardRole(peft, head, Scoring("eos", 0.0, 1.0, 0), EOS)
        self.prompts, self.completions = rows(size)

    def run(self) -> None:
        self.role.score(self.prompts, self.completions)


class Theirs(Case):
    """A PEFT sequence classifier over batches of padded rows."""

    def __init__(self, size: Size, dtype: torch.dtype = torch.float32) -> None:
        from peft import get_peft_model
        from transformers import GPT2ForSequenceClassification

        body = base(size, natural=False)
        body.config.num_labels = 1
        model = GPT2ForSequenceClassification(body.config)
        model.transformer = body.transformer
        self.model: Any = get_peft_model(model.to(dtype), section_lora(model, "SEQ_CLS")).eval()
        self.tokenizer = tokenizer(size)
        self.tokenizer.padding_side = "right"
        self.rows = [[*p, *c, EOS] for p, c in zip(*rows(size), strict=True)]
        assert model.config.pad_token_id == PAD

    @torch.no_grad()
    def run(self) -> None:
        scores: list[torch.Tensor] = []
        for start in range(0, len(self.rows), BATCH):
            batch = self.tokenizer.pad({"input_ids": self.rows[start : start + BATCH]}, return_tensors="pt")
            scores.append(self.model(**batch).logits.squeeze(-1).float())
        torch.cat(scores)


def rows(size: Size) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of one length and completions of several, as ids."""
    pace, words = random.Random(0), tokenizer(size)
    texts = [[text(size, n, pace) for n in (size.prompt, varied(size.completion, pace))] for _ in range(size.rows)]
    prompts, completions = ([words(t)["input_ids"] for t in side] for side in zip(*texts, strict=True))
    return prompts, completions
