"""What the three trainers share: arguments that fit the machine, LoRA settings, the metrics file."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pipeline.base.errors import ConfigError, ModelError
from pipeline.base.files import disk_errors
from pipeline.modeling.weights import non_finite
from pipeline.trainers.curves import announce_curves
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.sections.training import TRACKERS, saving_defaults
from pipeline.workflow.typed_keys import parse_options

T = TypeVar("T", bound=TrainingArguments)


def training_arguments(config: Experiment, stage: str, cls: type[T], output_dir: Path, **defaults: Any) -> T:
    """The stage's section as TRL's arguments, with defaults that fit this machine.

    TRL asks for bf16 and gradient checkpointing by default, which fails or crawls on a CPU.
    """
    check_launch(stage)
    chosen = config.chosen[stage]
    if stage != "ppo":
        # All that is trained takes part in every loss; torch would look for what does not, and say so.
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
    """Check that the stage runs under what it was launched with.

    Raises:
        ConfigError: FSDP without a GPU, which accelerate 1.15 turns into plain DDP without a word; PPO under
            DeepSpeed, whose batch sizes only Hugging Face's own loop fills in.
    """
    on = ("1", "true", "yes", "y", "on")
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in on and not has_accelerator():
        raise ConfigError(
            "accelerate",
            "FSDP needs GPUs, and there is none.",
            "Launch with configs/accelerate/cpu.yaml, or torchrun.",
        )
    if stage == "ppo" and os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in on:
        raise ConfigError(
            "accelerate",
            "ppo does not run under DeepSpeed.",
            "Launch it with configs/accelerate/multi_gpu.yaml or gpu.yaml; sft and reward may keep DeepSpeed.",
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
"""The module that transformers' optimisers need, by a part of their name; the last that fits counts."""


def require_packages(args: TrainingArguments, stage: str) -> None:
    """Check that what the arguments name is installed, which transformers finds out when it is too late.

    Raises:
        ConfigError: a tracker, an optimiser or Liger's kernels are not there, or there is no such tracker.
    """
    asked: list[tuple[str, str, str | None]] = []
    for name in args.report_to or []:
        if name not in TRACKERS:
            raise ConfigError(f"{stage}.report_to", f"{name!r} is no tracker.", f"Known: {', '.join(TRACKERS)}")
        asked.append(("report_to", name, TRACKERS[name]))
    optimiser = str(getattr(args.optim, "value", args.optim))
    asked.append(("optim", optimiser, next((m for p, m in reversed(OPTIMISERS.items()) if p in optimiser), None)))
    if args.use_liger_kernel:
        asked.append(("use_liger_kernel", "true", "liger_kernel"))
    for key, value, module in asked:
        if module is not None and find_spec(module) is None:
            package = module.replace("_", "-")
            raise ConfigError(
                f"{stage}.{key}", f"{value} needs {module}, which is not installed.", f"Run: pip install {package}"
            )


def has_accelerator() -> bool:
    """True when training should run on a GPU: there is one and Accelerate was not told to leave it."""
    return torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in (
        "1",
        "true",
        "yes",
    )


class MetricsFile(TrainerCallback):
    """Every logged row, as it is logged, appended to ``metrics.jsonl`` by the main process.

    Training that continues begins with the rows its checkpoint knows: what was logged after it is logged again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            with disk_errors(str(self.path)):
                self.path.write_text("".join(_line(row) for row in state.log_history), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            with disk_errors(str(self.path)), self.path.open("a", encoding="utf-8") as out:
                out.write(_line({"step": state.global_step, **logs}))


class StopDiverged(TrainerCallback):
    """Ends training at the first logged step whose trained weights are no numbers: no later one will mend them."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        trained = ((n, p) for n, p in given["model"].named_parameters() if p.requires_grad)
        if (name := non_finite(trained)) is not None:
            raise ModelError(
                f"{self.stage}, step {state.global_step}",
                f"training has diverged: the weights {name} hold NaN or infinity.",
                diverged_mend(self.stage),
            )


def diverged_mend(stage: str) -> str:
    """What to do about a run whose weights are no longer numbers."""
    return f"Lower {stage}.learning_rate or raise {stage}.warmup_steps, and start anew: add --fresh."


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True) + "\n"


class ProgressBar(ProgressCallback):
    """A bar with the few figures worth watching; all of them go to metrics.jsonl and the trackers."""

    SHOWN = ("loss", "accuracy")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        shown = {key: f"{logs[key]:.3g}" for key in self.SHOWN if key in logs}
        if shown and self.training_bar is not None:
            self.training_bar.set_postfix(shown)


@contextmanager
def closed_bar(trainer: Trainer) -> Generator[None]:
    """End the line of the bar where training ends in an error, so that what is said of it has its own."""
    try:
        yield
    except BaseException:
        for callback in trainer.callback_handler.callbacks:
            if (bar := getattr(callback, "training_bar", None)) is not None:
                bar.close()
        raise


def show_progress(trainer: Trainer) -> None:
    """Replace the bar that prints every logged dictionary; a run with ``disable_tqdm`` keeps its plain lines."""
    if not trainer.args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ProgressBar)
