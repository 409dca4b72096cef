"""One PPO update: ours against TRL 1.12's own trainer, on the same random GPT-2, prompts and sizes.

GPT-2 124M with completions of one length, with twice as many that end by themselves, as a batch thins out while it
is decoded, and with LoRA on the upper half of the blocks alone (``trunk_layers``); then the demo's model.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.bench import floor
from tests.bench.harness import QUICK, Case, compare, peaks, say
from tests.bench.models import DEMO, EOS, GPT2, Size, base, lora, prompts, tokenizer

TRUNK = 6
"""Blocks without LoRA: the lower half of GPT-2 124M."""


def bench(out: Path) -> dict[str, Any]:
    """Speedups, ratios to the floor, ratios of memory; with ``PART=trunk`` of one part alone."""
    parts = {"fixed": fixed, "natural": natural, "trunk": trunk, "demo": demo, "memory": memory}
    if QUICK:
        del parts["trunk"]
    result: dict[str, Any] = {}
    for part in [p for p in os.environ.get("PART", "").split(",") if p] or parts:
        result |= parts[part](out)
    return result


def fixed(out: Path) -> dict[str, Any]:
    """Completions of one length, beside their floor."""
    timings = compare(
        f"ppo, {GPT2.name}: {GPT2.rows} completions of {GPT2.completion} tokens each, {GPT2.epochs} epochs",
        {
            "trl": lambda: Theirs(GPT2, out),
            "fp32": lambda: Ours(GPT2, out),
            "bf16": lambda: Ours(GPT2, out, bf16=True),
        },
        amount=(GPT2.rows, "completions"),
    )
    result: dict[str, Any] = {"rows": GPT2.rows}
    result |= {f"speedup_{k}": timings[k].ratio for k in ("fp32", "bf16")}
    result["seconds"] = {k: timing.seconds for k, timing in timings.items()}
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        seconds, flops = floor.seconds(GPT2, dtype)
        result[f"floor_ratio_{name}"] = round(timings[name].seconds / seconds, 2)
        say(f"  floor {name}: {seconds:.2f} s for {flops / 1e12:.2f} TFLOP of matrix products")
    return result


def natural(out: Path) -> dict[str, Any]:
    """Twice as many completions, which end by themselves."""
    many = replace(GPT2, rows=2 * GPT2.rows)
    makers: dict[str, Callable[[], Case]] = {
        "trl": lambda: Theirs(many, out, natural=True),
        "bf16": lambda: Ours(many, out, natural=True, bf16=True),
    }
    if not QUICK:
        makers["fp32"] = lambda: Ours(many, out, natural=True)
    timings = compare(f"ppo, {many.name}: {many.rows} completions of natural lengths", makers)
    result = {"rows_natural": many.rows, "speedup_natural_lengths": timings["bf16"].ratio}
    return result if QUICK else result | {"speedup_natural_lengths_fp32": timings["fp32"].ratio}


def trunk(out: Path) -> dict[str, Any]:
    """LoRA on the upper half of the blocks alone."""
    timings = compare(
        f"ppo, {GPT2.name}: as the first, LoRA from block {TRUNK} up in both",
        {
            "trl": lambda: Theirs(GPT2, out, trunk_layers=TRUNK),
            "fp32": lambda: Ours(GPT2, out, trunk_layers=TRUNK),
            "bf16": lambda: Ours(GPT2, out, bf16=True, trunk_layers=TRUNK),
        },
    )
    return {f"speedup_trunk_{k}": timings[k].ratio for k in ("fp32", "bf16")}


def demo(out: Path) -> dict[str, Any]:
    """The demo's model and batch."""
    timings = compare(
        "ppo, the demo's model",
        {
            "trl": lambda: Theirs(DEMO, out),
            "fp32": lambda: Ours(DEMO, out),
            "bf16": lambda: Ours(DEMO, out, bf16=True),
        },
    )
    return {f"speedup_demo_{k}": timings[k].ratio for k in ("fp32", "bf16")}


def memory(out: Path) -> dict[str, Any]:
    """Peaks of two epochs of the first part."""
    del out
    gigabytes = peaks("ppo", "trl", "fp32", "bf16")
    ratios = {f"memory_ratio_{k}": round(gigabytes["trl"] / gigabytes[k], 2) for k in ("fp32", "bf16")}
    return ratios | {"peak_gb": gigabytes}


def peak_cases(out: Path) -> dict[str, Callable[[], Case]]:
    """Of two epochs: in the second, optimisers have state."""
    size = replace(GPT2, epochs=2)
    return {
        "trl": lambda: Theirs(size, out),
        "fp32": lambda: Ours(size, out),
        "bf16": lambda: Ours(size, out, bf16=True),
    }


def settings(size: Size, directory: str, natural: bool, updates: int, device: str) -> dict[str, Any]:
    return {
        "output_dir": directory, "per_device_train_batch_size": size.micro,
        "gradient_accumulation_steps": size.rows // size.micro, "total_episodes": size.rows * updates,
        "response_length": size.completion, "num_ppo_epochs": size.epochs, "learning_rate": 1e-5,
        "temperature": 1.0, "stop_token": "eos" if natural else None, "num_sample_generations": 0,
        "local_rollout_forward_batch_size": size.rows, "report_to": "none", "use_cpu": device == "cpu",
        "bf16": False, "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


class PPOCase(Case):
    """A trainer that does one update at a time."""

    trainer: Any

    def warm(self) -> None:
        """A first update of one epoch."""
        epochs, self.trainer.args.num_ppo_epochs = self.trainer.args.num_ppo_epochs, 1
        self.run()
        self.trainer.args.num_ppo_epochs = epochs


class Ours(PPOCase):
    """One update at a time of this project's trainer: policy, reference, reward model and value on one base.

    Args:
        more: further keys of the section ``ppo``.
    """

    def __init__(
        self,
        size: Size,
        directory: Path,
        natural: bool = False,
        bf16: bool = False,
        device: str = "cpu",
        **more: Any,
    ) -> None:
        from peft import get_peft_model

        from pipeline.modeling.loading import fuse_activations
        from pipeline.scoring.reward_adapter import RewardRole, Scoring
        from pipeline.trainers.ppo.section import PPOSection
        from pipeline.trainers.ppo.trainer import PPOTrainer

        model = fuse_activations(base(size, natural, device)).to(torch.bfloat16 if bf16 else torch.float32)
        config = lora(model, more.get("trunk_layers", 0))
        peft = get_peft_model(model, config, adapter_name="policy")
        peft.add_adapter("reward", copy.deepcopy(config))
        for name, parameter in peft.named_parameters():
            parameter.requires_grad_(".policy." in name)
        torch.manual_seed(2)
        head = torch.randn(1, model.config.hidden_size).to(device)
        reward = RewardRole(peft, head, Scoring("last", 0.0, 1.0, 0), EOS)
        shared = settings(size, str(directory), natural, 10**6 // size.rows, device)
        args = PPOSection(**shared, save_seconds=0.0, **more)
        self.trainer = PPOTrainer(args, tokenizer(size), peft, None, reward, prompts(size))
        self.done = 0

    def run(self) -> None:
        self.trainer.step(self.done)
        self.done += 1


class Theirs(PPOCase):
    """One update at a time of TRL 1.12's: it wants a reward model and a value model as large."""

    def __init__(
        self,
        size: Size,
        directory: Path,
        natural: bool = False,
        bf16: bool = False,
        device: str = "cpu",
        trunk_layers: int = 0,
    ) -> None:
        from datasets import Dataset
        from transformers import AutoModelForSequenceClassification
        from trl.experimental.ppo import PPOConfig, PPOTrainer

        dtype = torch.bfloat16 if bf16 else torch.float32
        model = base(size, natural, device).to(dtype)
        config = copy.deepcopy(model.config)
        config.num_labels = 1
        with torch.device(device):
            value, reward = (AutoModelForSequenceClassification.from_config(config).to(dtype) for _ in range(2))
        args = PPOConfig(**settings(size, str(directory), natural, 1, device))
        data = Dataset.from_dict({"input_ids": prompts(size)})
        lora_of_both = lora(model, trunk_layers)
        self.trainer = PPOTrainer(
            args, tokenizer(size), model, None, reward, data, value, eval_dataset=data, peft_config=lora_of_both
        )
        self.trainer.log = lambda *_: None  # type: ignore[method-assign]
        self.trainer.accelerator.print = lambda *_: None  # type: ignore[method-assign]

    def run(self) -> None:
        self.trainer.train()
