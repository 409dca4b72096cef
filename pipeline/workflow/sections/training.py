"""What ``sft``, ``reward`` and ``ppo`` have in common: LoRA, checkpoints, and rules between TRL's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from pipeline.workflow.sections import trl_keys

TRACKERS = {
    "azure_ml": "azureml",
    "flyte": "flytekit",
    **{k: k for k in ("clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "kubeflow", "mlflow", "neptune")},
    **{k: k for k in ("swanlab", "tensorboard", "trackio", "wandb")},
}
"""The module that each of transformers' trackers needs."""


class LoraOptions(TypedDict):
    """Keyword arguments of :func:`pipeline.modeling.lora.lora_config`."""

    r: int
    alpha: int
    dropout: float
    target_modules: list[str] | None
    first_layer: NotRequired[int]


@dataclass(init=False, repr=False, eq=False)
class TrainingFields:
    """Our keys of every section that trains. LoRA's have the names of TRL's ``ModelConfig``."""

    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations again in the backward pass: less memory, more time."}
    )
    save_seconds: float = field(
        default=5.0,
        metadata={
            "help": "Least seconds between checkpoints, where neither `save_steps` nor `save_strategy` is given; "
            "more where saving would take over 2 % of the time."
        },
    )
    lora_r: int = field(default=8, metadata={"help": "Rank; vLLM serves at most 16 by default."})
    lora_alpha: int = field(default=16, metadata={"help": "Scale: the update is alpha / r times B A."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout before A."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Layers to adapt; every linear layer of the blocks by default."}
    )

    def lora(self) -> LoraOptions:
        return {
            "r": self.lora_r,
            "alpha": self.lora_alpha,
            "dropout": self.lora_dropout,
            "target_modules": self.lora_target_modules,
        }


def saving_defaults(chosen: Mapping[str, Any]) -> dict[str, str | float]:
    """How checkpoints are saved, as far as the chosen keys leave it open."""
    defaults: dict[str, str | float] = {"save_strategy": "steps" if "save_steps" in chosen else "no"}
    if "save_steps" in chosen or "save_strategy" in chosen:
        defaults["save_seconds"] = 0.0
    return defaults


def check_training(args: trl_keys.TrainingArguments) -> None:
    """Refuse what transformers refuses, before anything is trained.

    Raises:
        ValueError: keys contradict each other, or a tracker is not known.
    """
    asked = args.report_to if isinstance(args.report_to, list) else [args.report_to or "none"]
    for name in asked:
        if name not in (*TRACKERS, "none", "all"):
            raise ValueError(f"report_to: {name!r} is no tracker. Known: {', '.join(TRACKERS)}")
    if args.fp16 and args.bf16:
        raise ValueError("fp16 and bf16 exclude each other")
    if args.fp16_full_eval and args.bf16_full_eval:
        raise ValueError("fp16_full_eval and bf16_full_eval exclude each other")
    for kind, steps in (("logging", args.logging_steps), ("eval", args.eval_steps), ("save", args.save_steps)):
        if getattr(args, f"{kind}_strategy") == "steps" and steps is not None and steps > 1 and steps % 1:
            raise ValueError(f"{kind}_steps {steps} should be a whole number, or a share below 1 of all steps")
    if args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy") and args.eval_strategy == "no":
        raise ValueError(f"lr_scheduler_type {args.lr_scheduler_type} goes by evaluations: set eval_strategy")
    if args.dataloader_prefetch_factor is not None and not args.dataloader_num_workers:
        raise ValueError("dataloader_prefetch_factor needs dataloader_num_workers above 0")
    if args.load_best_model_at_end and args.save_strategy not in ("best", args.eval_strategy):
        raise ValueError("load_best_model_at_end needs save_strategy and eval_strategy to be the same")
