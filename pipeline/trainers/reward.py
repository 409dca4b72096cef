"""Train the reward model: TRL's RewardTrainer on a LoRA sequence classifier over the policy's base."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from datasets import Dataset
from peft import get_peft_model
from torch import Tensor, nn
from trl import RewardConfig, RewardTrainer

from pipeline.base.errors import DataError
from pipeline.modeling.lora import fuse_lora, lora_config
from pipeline.modeling.tokens import encode_completions, encode_prompts, eos_id, pad_id
from pipeline.modeling.types import Tokenizer
from pipeline.modeling.weights import require_finite
from pipeline.scoring.reward_adapter import Position, score_position, scored_rows
from pipeline.trainers.callbacks import MetricsFile, StopDiverged, diverged_advice, show_progress
from pipeline.trainers.checkpointing import Checkpointed
from pipeline.trainers.packed_classifier import classifier, set_up_passes
from pipeline.trainers.rank_batches import Place, gathering_ragged
from pipeline.trainers.sharded import in_one_process
from pipeline.trainers.token_file import IDS, ROWS, Columns, Figures, FileColumn, token_file
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
    """TRL's trainer, which resumes after a kill, and takes a step in several passes.

    Args:
        rows_per_pass: what :func:`set_up_passes` gave: pairs of a forward and backward pass.
    """

    sides = 2
    """Rows of an example."""

    def __init__(self, *args: Any, rows_per_pass: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows_per_pass = rows_per_pass
        self.share = 1.0
        if rows_per_pass is not None:
            fuse_lora(cast("nn.Module", self.model))

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Leave it as it is: tokenised, and without rows that are too long."""
        return dataset

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Take a batch in passes of like lengths: its loss is a mean over pairs, so the gradient is the same."""
        place: Place | None = inputs.pop("place", None)  # of a run that goes on with another number of ranks
        passes = split_batch(inputs, self.sides, self.rows_per_pass, place and place.largest)
        losses: list[Tensor] = []
        with gathering_ragged(self.accelerator) if place else nullcontext():
            for i, (part, share) in enumerate(passes):
                self.share = share * (place.share if place else 1.0)
                last = i == len(passes) - 1
                with nullcontext() if last else self.accelerator.no_sync(model):
                    losses.append(super().training_step(model, part, num_items_in_batch))
        merge_metrics(self._metrics["train"], [share for _, share in passes])
        self.share = 1.0
        return torch.stack(losses).sum()

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, times the pass's share of the batch."""
        result = super().compute_loss(*args, **kwargs)
        return (result[0] * self.share, *result[1:]) if isinstance(result, tuple) else result * self.share

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Transformers' optimiser; the head is in a group of its own where it has a learning rate of its own."""
        optimizer = super().create_optimizer(model)
        rate, model = cast("RewardSection", self.args).head_learning_rate, cast("nn.Module", self.model)
        heads = {id(p) for n, p in model.named_parameters() if ".score." in n and p.requires_grad}
        for group in list(optimizer.param_groups) if rate is not None else ():
            inside = [p for p in group["params"] if id(p) in heads]
            if inside:
                group["params"] = [p for p in group["params"] if id(p) not in heads]
                optimizer.add_param_group({**group, "params": inside, "lr": rate})
        return optimizer


def split_batch(
    inputs: dict[str, Tensor], sides: int, size: int | None, largest: int | None = None
) -> list[tuple[dict[str, Tensor], float]]:
    """Split a batch into parts of like length, with their shares of it.

    Args:
        inputs: tensors of a row for each side (all chosen before all rejected) or one for each pair.
        sides: 2 for pairs, 1 for single rows.
        size: pairs of a part.
        largest: pairs of the largest batch of any rank, where they differ: all need the same number of parts, and
            one without pairs has a share of 0.
    """
    lengths = inputs["attention_mask"].sum(1).cpu()
    count = len(lengths) // sides
    parts = 1 if size is None else math.ceil((largest or count) / size)
    if parts == 1:
        return [(inputs, 1.0)]
    order = lengths.view(sides, -1).sum(0).argsort(stable=True)
    split: list[tuple[dict[str, Tensor], float]] = []
    for pairs in order.tensor_split(parts):
        share = len(pairs) / count
        pairs = pairs if len(pairs) else order[:1]
        rows = torch.cat([pairs + count * side for side in range(sides)])
        width = int(lengths[rows].max())
        part = {k: v[rows if len(v) == len(lengths) else pairs] for k, v in inputs.items()}
        part |= {k: part[k][:, :width] for k in ("input_ids", "attention_mask")}
        split.append((part, share))
    return split


def merge_metrics(metrics: dict[str, list[float]], shares: list[float]) -> None:
    """Turn the figures of a batch's passes, the last of each list, into those of the batch."""
    parts = len(shares)
    for name, values in metrics.items():
        if parts == 1 or name == "num_tokens":
            continue
        last = values[-parts:]
        if name.startswith(("min_", "max_")):
            merged = (min if name.startswith("min_") else max)(last)
        else:
            merged = sum(v * s for v, s in zip(last, shares, strict=True))
        values[-parts:] = [merged]


@dataclass(frozen=True)
class Pairs:
    """Tokenised preferences, each row ending on the scored token.

    Attributes:
        kept: numbers of the rows that they are.
        longest: tokens of the longest side, dropped pairs included.
        without_margin: how many of them have none; then none is used.
        table: where they are in a file.
    """

    chosen_ids: Sequence[list[int]]
    rejected_ids: Sequence[list[int]]
    margin: Sequence[float] | None
    kept: Sequence[int]
    dropped: int
    longest: int = 0
    without_margin: int = 0
    table: Dataset | None = None

    def dataset(self) -> Dataset:
        columns = ["chosen_ids", "rejected_ids", *(["margin"] if self.margin is not None else [])]
        if self.table is not None:
            return self.table.select_columns(columns)
        return Dataset.from_dict({name: getattr(self, name) for name in columns})


def tokenized(
    tokenizer: Tokenizer,
    rows: Iterable[dict[str, Any]],
    sides: Sequence[str],
    max_length: int,
    position: Position,
    figures: Figures,
) -> Iterator[tuple[list[list[list[int]]], list[dict[str, Any]], list[int]]]:
    """Batches of the rows none of whose sides has more than ``max_length`` tokens: tokens by side, rows, numbers.

    Args:
        sides: the columns of completions to one prompt.
        figures: gets ``dropped`` rows, and the tokens of the ``longest`` side, those of dropped rows included.
    """
    stream, number = iter(rows), 0
    figures.update(dropped=0, longest=0)
    while batch := list(islice(stream, ROWS)):
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in batch])
        completions = [encode_completions(tokenizer, [row[side] for row in batch]) for side in sides]
        ids = [scored_rows(prompts, of_side, eos_id(tokenizer), position) for of_side in completions]
        lengths = [max(map(len, of_row)) for of_row in zip(*ids, strict=True)]
        kept = [i for i, length in enumerate(lengths) if length <= max_length]
        figures["dropped"] += len(batch) - len(kept)
        figures["longest"] = max(figures["longest"], *lengths)
        of_kept = [[of_side[i] for i in kept] for of_side in ids]
        yield of_kept, [batch[i] for i in kept], [number + i for i in kept]
        number += len(batch)


def tokenize_pairs(
    tokenizer: Tokenizer,
    rows: Iterable[dict[str, Any]],
    max_length: int,
    position: Position,
    path: Path | None = None,
) -> Pairs:
    """Tokenise preference rows; pairs with a side over ``max_length`` tokens are dropped and counted.

    Args:
        path: of the file of tokens, see :func:`pipeline.trainers.token_file.token_file`.
    """

    def batches(figures: Figures) -> Iterator[Columns]:
        sides = ("chosen", "rejected")
        for (chosen, rejected), kept, numbers in tokenized(tokenizer, rows, sides, max_length, position, figures):
            margins = [row.get("margin") for row in kept]
            yield {"chosen_ids": chosen, "rejected_ids": rejected, "margin": margins, "row": numbers}

    schema = {"chosen_ids": IDS, "rejected_ids": IDS, "margin": pa.float64(), "row": pa.uint32()}
    table, figures = token_file(path, schema, batches)
    without = table.data.column("margin").null_count
    return Pairs(
        chosen_ids=FileColumn(table, "chosen_ids", path),
        rejected_ids=FileColumn(table, "rejected_ids", path),
        # A margin is only used when every row has one: a missing margin is not a margin of zero.
        margin=None if without else FileColumn(table, "margin", path),
        kept=FileColumn(table, "row", path),
        **figures,
        without_margin=without,
        table=table,
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
    sides = (pairs.chosen_ids, pairs.rejected_ids)
    adapter = lora_config(model, **args.lora(), task_type="SEQ_CLS")
    trainer = Trainer(
        model=model,
        args=args,
        rows_per_pass=set_up_passes(model, args, sides),
        processing_class=tokenizer,
        train_dataset=pairs.dataset(),
        peft_config=adapter,
        callbacks=[MetricsFile(metrics), StopDiverged("reward")],
    )
    trained, figures = finish(
        trainer, tokenizer, lambda: get_peft_model(classifier(base, revision, args.seed), adapter)
    )
    return trained, figures | {"pairs": len(pairs.kept)}


def require_batch(args: RewardSection, rows: int, what: str) -> None:
    """Raises DataError where ``rows`` training rows do not fill one batch."""
    if rows < args.per_device_train_batch_size:
        raise DataError(
            "reward, split train",
            f"{rows} {what} are too few for a batch of {args.per_device_train_batch_size}.",
            "Collect more, or lower reward.per_device_train_batch_size.",
        )


def finish(trainer: Trainer, tokenizer: Tokenizer, fresh: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """Train to the end; return the model and the figures that every loss has.

    Args:
        fresh: makes the model as it was before training, for one that is sharded in training.
    """
    # RewardTrainer scores the last token that is not padding: ours, if the rows were built for this padding.
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    assert trained.config.pad_token_id == pad_id(tokenizer)
    show_progress(trainer)
    train_loss = trainer.train_on("reward")
    if trainer.is_fsdp_enabled:
        trained = in_one_process(trained, fresh)
    require_finite(trained, "reward", diverged_advice("reward"))
    return trained.eval(), {"steps": trainer.state.global_step, "train_loss": train_loss}


def score_head(model: Any) -> torch.Tensor:
    """(1, H) weight of the trained head of a PEFT sequence classifier."""
    score = model.get_base_model().score
    return (score.modules_to_save["default"] if hasattr(score, "modules_to_save") else score).weight


__all__ = ["Pairs", "RewardSection", "score_head", "score_position", "tokenize_pairs", "train"]
