"""Training the reward model: ours against TRL's RewardTrainer, in pairs a second.

Both train the same LoRA on the same pairs in the same batches for one epoch, TRL with its own collation. Lengths
vary by half around their mean, once with prompts as long as completions and once with short ones. ``trl bf16`` is
TRL's trainer under autocast, as its own counterpart of our ``bf16``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.harness import QUICK, Case, compare, peaks
from tests.bench.models import DEMO, GPT2, Size, saved_base, section_lora, text, varied
from tests.bench.step_clock import TrainerCase

LONG = 64
"""Mean tokens of a prompt that is as long as its completion."""


def bench(out: Path) -> dict[str, Any]:
    """Speedups by shape and precision, and ratios of memory."""
    big = shape(GPT2)
    short = replace(big, prompt=8)
    result: dict[str, Any] = {}
    for key, size in (("reward_speedup", big), ("reward_speedup_short", short), ("reward_speedup_demo", DEMO)):
        title = (
            f"reward model, {size.name}: {size.steps} steps of {size.micro} pairs, prompts of about {size.prompt} "
            f"tokens, completions of about {size.completion}"
        )
        makers = cases(size, out)
        if QUICK or size is not big:
            del makers["trl bf16"]
        found = compare(title, makers, amount=(size.micro * size.steps, "pairs"))
        result |= {key: found["fp32"].ratio, f"{key}_bf16": found["bf16"].ratio}
        if "trl bf16" in found:
            result[f"{key}_trl_bf16"] = found["trl bf16"].ratio
    if QUICK:
        return result
    memory = peaks("reward", "trl", "fp32", "bf16")
    result["reward_peak_gb"] = memory
    result["memory_ratio_reward"] = round(memory["trl"] / memory["fp32"], 2)
    result["memory_ratio_reward_bf16"] = round(memory["trl"] / memory["bf16"], 2)
    return result


def shape(size: Size) -> Size:
    length = size.prompt if QUICK else LONG
    return replace(size, prompt=length, completion=length)


def cases(size: Size, out: Path) -> dict[str, Callable[[], Case]]:
    return {
        "trl": lambda: Theirs(size, out),
        "fp32": lambda: Ours(size, out),
        "bf16": lambda: Ours(size, out, bf16=True),
        "trl bf16": lambda: Theirs(size, out, bf16=True),
    }


def peak_cases(out: Path) -> dict[str, Callable[[], Case]]:
    return cases(shape(GPT2), out)


class RewardCase(TrainerCase):
    """One epoch over the same pairs; the loading of the base is not counted."""

    def __init__(self, size: Size, out: Path, bf16: bool = False) -> None:
        from pipeline.modeling.loading import load_tokenizer
        from pipeline.trainers.reward import score_position, tokenize_pairs

        super().__init__(out, bf16, size.micro)
        self.settings["center_rewards_coefficient"] = 0.01
        self.base = saved_base(size, out)
        self.tokenizer = load_tokenizer(self.base)
        self.pairs = tokenize_pairs(self.tokenizer, pairs(size), 10**9, score_position(self.tokenizer))


class Ours(RewardCase):
    def train(self, settings: dict[str, Any]) -> None:
        from pipeline.trainers import reward

        args = reward.RewardSection(**settings, save_seconds=0.0)
        metrics = Path(settings["output_dir"]) / "metrics.jsonl"
        reward.train(args, self.base, None, self.tokenizer, self.pairs, metrics)


class Theirs(RewardCase):
    def train(self, settings: dict[str, Any]) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification
        from trl import RewardConfig, RewardTrainer

        model = AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=1, dtype=torch.float32)
        RewardTrainer(
            model=model,
            args=RewardConfig(**settings),
            processing_class=self.tokenizer,
            train_dataset=self.pairs.dataset(),
            peft_config=section_lora(model, "SEQ_CLS"),
        ).train()


def pairs(size: Size) -> list[dict[str, Any]]:
    """Rows of preferences whose two completions differ in length, as in real ones."""
    pace = random.Random(0)
    sides = ("chosen", "rejected")
    return [
        {"prompt": text(size, varied(size.prompt, pace), pace)}
        | {side: " " + text(size, varied(size.completion, pace), pace) for side in sides}
        for _ in range(size.micro * size.steps)
    ]
