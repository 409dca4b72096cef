"""Train the reward model: TRL's RewardTrainer on a LoRA sequence classifier over the policy's base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from pipeline.base.errors import DataError
from pipeline.modeling.loading import silent
from pipeline.modeling.lora import lora_config
from pipeline.modeling.tokens import encode_completions, encode_prompts, eos_id, pad_id
from pipeline.modeling.types import Tokenizer
from pipeline.modeling.weights import require_finite
from pipeline.scoring.reward_adapter import Position, score_position, scored_rows
from pipeline.trainers.checkpointing import Checkpointed
from pipeline.trainers.common import MetricsFile, StopDiverged, diverged_advice, show_progress
from pipeline.workflow.key_checks.bounds import check_section
from pipeline.workflow.sections.reward import RewardFields


@dataclass
class RewardSection(RewardFields, RewardConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """TRL's ``RewardConfig`` with our further keys."""

    def __post_init__(self) -> None:
        check_section("reward", vars(self))
        self.check_rules()
        super().__post_init__()


class Trainer(Checkpointed, RewardTrainer):
    """TRL's trainer, which resumes after a kill."""


@dataclass(frozen=True)
class Pairs:
    """Tokenised preferences, each row ending on the scored token."""

    chosen_ids: list[list[int]]
    rejected_ids: list[list[int]]
    margin: list[float] | None
    kept: list[int]
    dropped: int
    longest: int = 0
    """Tokens of the longest side, dropped pairs included."""

    def dataset(self) -> Dataset:
        columns: dict[str, Any] = {"chosen_ids": self.chosen_ids, "rejected_ids": self.rejected_ids}
        if self.margin is not None:
            columns["margin"] = self.margin
        return Dataset.from_dict(columns)


def tokenize_pairs(
    tokenizer: Tokenizer, rows: Sequence[dict[str, Any]], max_length: int, position: Position
) -> Pairs:
    """Tokenise preference rows; pairs with a side over ``max_length`` tokens are dropped and counted."""
    prompts = encode_prompts(tokenizer, [r["prompt"] for r in rows])
    sides = [
        scored_rows(prompts, encode_completions(tokenizer, [r[k] for r in rows]), eos_id(tokenizer), position)
        for k in ("chosen", "rejected")
    ]
    lengths = [max(len(sides[0][i]), len(sides[1][i])) for i in range(len(rows))]
    kept = [i for i, length in enumerate(lengths) if length <= max_length]
    margins: list[Any] = [rows[i].get("margin") for i in kept]
    return Pairs(
        chosen_ids=[sides[0][i] for i in kept],
        rejected_ids=[sides[1][i] for i in kept],
        # A margin is only used when every row has one: a missing margin is not a margin of zero.
        margin=None if None in margins else [float(m) for m in margins],
        kept=kept,
        dropped=len(rows) - len(kept),
        longest=max(lengths, default=0),
    )


def train(
    args: RewardSection, base: str, revision: str | None, tokenizer: Tokenizer, pairs: Pairs, metrics: Path
) -> tuple[Any, dict[str, Any]]:
    """Train a reward model on ``pairs``, from the newest checkpoint if there is one; the base stays frozen.

    Returns:
        The PEFT sequence classifier (adapter ``default``, head ``score``) and figures for the manifest.
    Raises:
        DataError: too few pairs for one batch.
    """
    require_batch(args, len(pairs.kept), "pairs")
    model = classifier(base, revision, args.seed)
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=pairs.dataset(),
        peft_config=lora_config(model, **args.lora(), task_type="SEQ_CLS"),
        callbacks=[MetricsFile(metrics), StopDiverged("reward")],
    )
    trained, figures = finish(trainer, tokenizer)
    return trained, figures | {"pairs": len(pairs.kept)}


def require_batch(args: RewardSection, rows: int, what: str) -> None:
    """Raises DataError where ``rows`` training rows do not fill one batch."""
    if rows < args.per_device_train_batch_size:
        raise DataError(
            "reward, split train",
            f"{rows} {what} are too few for a batch of {args.per_device_train_batch_size}.",
            "Collect more, or lower reward.per_device_train_batch_size.",
        )


def classifier(base: str, revision: str | None, seed: int) -> Any:
    """A sequence classifier of one output over ``base``, its head drawn from ``seed``."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"revision": revision, "use_safetensors": True, "trust_remote_code": False}
    with silent():  # no base has the head
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=torch.float32, **options
        )
    model.config.id2label, model.config.label2id = {0: "reward"}, {"reward": 0}
    with torch.no_grad():
        model.score.weight.normal_(std=1 / (model.config.hidden_size + 1) ** 0.5)
    return model


def finish(trainer: Trainer, tokenizer: Tokenizer) -> tuple[Any, dict[str, Any]]:
    """Train to the end; return the model and the figures that every loss has."""
    # RewardTrainer scores the last token that is not padding: ours, if the rows were built for this padding.
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    assert trained.config.pad_token_id == pad_id(tokenizer)
    show_progress(trainer)
    train_loss = trainer.train_on("reward")
    require_finite(trained, "reward", diverged_advice("reward"))
    return trained.eval(), {"steps": trainer.state.global_step, "train_loss": train_loss}


def score_head(model: Any) -> torch.Tensor:
    """(1, H) weight of the trained head of a PEFT sequence classifier."""
    score = model.get_base_model().score
    return (score.modules_to_save["default"] if hasattr(score, "modules_to_save") else score).weight


__all__ = ["Pairs", "RewardSection", "score_head", "score_position", "tokenize_pairs", "train"]
