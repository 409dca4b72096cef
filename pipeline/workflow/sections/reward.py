"""The ``reward`` section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.workflow.sections import trl_keys
from pipeline.workflow.sections.training import TrainingFields, check_training


@dataclass(init=False, repr=False, eq=False)
class RewardFields(TrainingFields):
    """Our keys, and TRL's with another default: one epoch and a centring term."""

    loss: Literal["pairwise", "pointwise"] = field(
        default="pairwise",
        metadata={"help": "`pairwise`: chosen above rejected; `pointwise`: single completions, liked or not."},
    )
    num_train_epochs: float = 1.0
    center_rewards_coefficient: float | None = 0.01
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Base and activations in bfloat16; LoRA, head and loss stay in fp32, without autocast."},
    )
    disable_dropout: bool | None = field(
        default=None, metadata={"help": "Of the base and LoRA; on by itself where `lora_dropout` is 0."}
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the head; that of LoRA (`learning_rate`) by default."}
    )
    reader: str | None = field(
        default=None,
        metadata={
            "help": "Learn from the votes of this reader alone, as `readers` calls them; needs `pointwise`."
        },
    )
    reader_heads: bool = field(
        default=False,
        metadata={
            "help": "Learn from everybody's own votes, with a head for each reader beside the shared one on the "
            "same trunk; needs `pointwise`. A reader's model begins with theirs."
        },
    )
    head_only: bool = field(
        default=False, metadata={"help": "Train the head of `inputs.start` alone; its LoRA stays as it is."}
    )
    old_share: float = field(
        default=1.0,
        metadata={
            "help": "Share of the training pairs that `inputs.earlier` has too, drawn by their hashes; 0: only "
            "the new ones."
        },
    )
    reference_samples: int = field(
        default=512,
        metadata={"help": "Completions on which the score's mean and standard deviation are measured."},
    )
    test_sets: dict[str, Any] = field(
        default_factory=dict[str, Any],
        metadata={"help": "Sets of pairs to measure it on besides the held-out ones: `{name: dataset}`."},
    )

    def check_rules(self) -> None:
        """Raises ValueError where our keys contradict each other."""
        if self.reader is not None and self.reader_heads:
            raise ValueError("reader_heads are of everybody's model, and reader is one of them; give one of them")
        if self.disable_dropout and self.lora_dropout:
            raise ValueError(
                f"lora_dropout {self.lora_dropout} does nothing under disable_dropout: true; give one of them"
            )
        if self.disable_dropout is None:  # TRL's True would set LoRA's dropout to 0 as well
            self.disable_dropout = not self.lora_dropout


@dataclass(repr=False, eq=False)
class RewardKeys(RewardFields, trl_keys.RewardConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """All keys of the section: ours and TRL's."""

    def __post_init__(self) -> None:
        self.check_rules()
        check_training(self)
