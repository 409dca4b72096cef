"""A section as TRL's arguments, with defaults that fit the machine; checks before training, and of the launch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from pipeline.base.errors import ConfigError
from pipeline.trainers.curves import announce_curves
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options
from pipeline.workflow.sections.training import TRACKERS, saving_defaults

T = TypeVar("T", bound=TrainingArguments)


def training_arguments(config: Experiment, stage: str, cls: type[T], output_dir: Path, **defaults: Any) -> T:
    """The stage's section as TRL's arguments, with defaults that fit this machine.

    TRL's defaults, bf16 and gradient checkpointing, fail or crawl on a CPU.
    """
    check_launch(stage)
    chosen = config.chosen[stage]
    if stage != "ppo":
        # Every trained parameter enters every loss; torch would search for others, and warn.
        defaults = {"ddp_find_unused_parameters": False, **defaults}
    arguments = parse_options(
        cls,
        {
            "output_dir": str(output_dir),
            "seed": config.seed,
            "report_to": os.environ.get("RLHF_REPORT_TO", "trackio").split(","),
            "project": config.name,
            "run_name": f"{stage}-seed{config.seed}",
            "bf16": has_accelerator() and torch.cuda.is_bf16_supported(),
            "use_cpu": not has_accelerator(),
            "disable_tqdm": False,
            "dataloader_pin_memory": has_accelerator(),
            **saving_defaults(chosen),
            **defaults,
            **chosen,
        },
        str(config.path),
        prefix=f"{stage}.",
    )
    require_packages(arguments, stage)
    announce_curves(config, stage, arguments)
    return arguments


def check_launch(stage: str) -> None:
    """Check that the stage supports the launcher's backend.

    Raises:
        ConfigError: FSDP without a GPU, which accelerate 1.15 silently turns into plain DDP; PPO under DeepSpeed,
            whose batch sizes only Hugging Face's own loop fills in, or FSDP, as it samples outside of a module's
            own pass.
    """
    if _is_on("ACCELERATE_USE_FSDP") and not has_accelerator():
        raise ConfigError(
            "accelerate",
            "FSDP needs GPUs, and there is none.",
            "Launch with configs/accelerate/cpu.yaml, or torchrun.",
        )
    if stage == "ppo" and is_sharded():
        name = "DeepSpeed" if _is_on("ACCELERATE_USE_DEEPSPEED") else "FSDP"
        raise ConfigError(
            "accelerate",
            f"ppo does not run under {name}.",
            f"Launch it with configs/accelerate/multi_gpu.yaml or gpu.yaml; sft and reward may keep {name}.",
        )


OPTIMISERS = {
    "8bit": "bitsandbytes",
    "32bit": "bitsandbytes",
    "ademamix": "bitsandbytes",
    "bnb": "bitsandbytes",
    "paged": "bitsandbytes",
    "galore": "galore_torch",
    "lomo": "lomo_optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "apollo": "apollo_torch",
    "anyprecision": "torchdistx",
    "torch_4bit": "torchao",
    "torch_8bit": "torchao",
    "stable_adamw": "optimi",
    "npu": "torch_npu",
    "xla": "torch_xla",
}
"""The module that each of transformers' optimisers needs, by a part of its name; the last match counts."""


def require_packages(args: TrainingArguments, stage: str) -> None:
    """Check that the packages which the arguments need are installed; transformers checks only after loading.

    Raises:
        ConfigError: a tracker, an optimiser or Liger's kernels are not installed, or the tracker is unknown.
    """
    needs: list[tuple[str, str, str | None]] = []
    for name in args.report_to or []:
        if name not in TRACKERS:
            raise ConfigError(f"{stage}.report_to", f"{name!r} is not a tracker.", f"Known: {', '.join(TRACKERS)}")
        needs.append(("report_to", name, TRACKERS[name]))
    optimiser = str(getattr(args.optim, "value", args.optim))
    needs.append(("optim", optimiser, next((m for p, m in reversed(OPTIMISERS.items()) if p in optimiser), None)))
    if args.use_liger_kernel:
        needs.append(("use_liger_kernel", "true", "liger_kernel"))
    for key, value, module in needs:
        if module is not None and find_spec(module) is None:
            package = module.replace("_", "-")
            raise ConfigError(
                f"{stage}.{key}", f"{value} needs {module}, which is not installed.", f"Run: pip install {package}"
            )


def has_accelerator() -> bool:
    """True when training should run on a GPU: there is one, and ``ACCELERATE_USE_CPU`` is not set."""
    return torch.cuda.is_available() and not _is_on("ACCELERATE_USE_CPU")


def is_sharded() -> bool:
    """True under FSDP or DeepSpeed, where only a module's own pass sees its whole weights."""
    return _is_on("ACCELERATE_USE_FSDP") or _is_on("ACCELERATE_USE_DEEPSPEED")


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "y", "on")
