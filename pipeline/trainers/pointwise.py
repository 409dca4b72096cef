"""Train a reward model on single completions, liked or disliked: TRL's RewardTrainer with a pointwise loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from datasets import Dataset
from peft import get_peft_model
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.base.errors import DataError
from pipeline.base.process import main_process
from pipeline.base.records import reader_of
from pipeline.modeling.lora import lora_config, with_reward_adapter
from pipeline.modeling.reader_heads import read_reader_head
from pipeline.modeling.tokens import pad_id, right_pad
from pipeline.modeling.types import Tokenizer
from pipeline.scoring.reward_adapter import Position, score_rows
from pipeline.trainers.callbacks import MetricsFile, StopDiverged
from pipeline.trainers.packed_classifier import classifier, set_up_passes
from pipeline.trainers.reward import RewardSection, Trainer, finish, require_batch, score_head, tokenized
from pipeline.trainers.token_file import IDS, Columns, Figures, FileColumn, token_file


@dataclass(frozen=True)
class Labelled:
    """Tokenised completions with their prompts, each row ending on the scored token, and their labels.

    Attributes:
        labels: whether they are liked, or 1 and 0 for that.
        kept: numbers of the rows that they are.
        longest: tokens of the longest row, dropped ones included.
        readers: whose label each is, where readers have heads of their own; else empty.
        table: where they are in a file.
    """

    ids: Sequence[list[int]]
    labels: Sequence[float]
    kept: Sequence[int]
    dropped: int
    longest: int = 0
    readers: Sequence[str] = ()
    table: Dataset | None = None

    @property
    def names(self) -> list[str]:
        """The readers, in the order of their heads."""
        return sorted(set(self.readers))

    def dataset(self) -> Dataset:
        if self.table is None:
            rows = Dataset.from_dict({"input_ids": self.ids, "liked": [float(label) for label in self.labels]})
        else:
            rows = self.table.select_columns(["input_ids", "liked"])
        if not self.readers:
            return rows
        number = {name: i for i, name in enumerate(self.names, 1)}
        return rows.add_column("reader", [number[name] for name in self.readers])  # pyright: ignore[reportArgumentType, reportCallIssue]


def tokenize_labelled(
    tokenizer: Tokenizer,
    rows: Iterable[dict[str, Any]],
    max_length: int,
    position: Position,
    path: Path | None = None,
    readers: bool = False,
) -> Labelled:
    """Tokenise ``unpaired`` rows as pairs are; longer rows than ``max_length`` tokens are dropped and counted.

    Args:
        path: of the file of tokens, see :func:`pipeline.trainers.token_file.token_file`.
        readers: keep whose label each is, which memory holds.
    """

    def batches(figures: Figures) -> Iterator[Columns]:
        sides = ("completion",)
        for (ids,), kept, numbers in tokenized(tokenizer, rows, sides, max_length, position, figures):
            columns: Columns = {"input_ids": ids, "liked": [float(row["label"]) for row in kept], "row": numbers}
            yield columns | ({"reader": [reader_of(row["annotator"]) for row in kept]} if readers else {})

    schema = {"input_ids": IDS, "liked": pa.float64(), "row": pa.uint32()}
    table, figures = token_file(path, schema | ({"reader": pa.string()} if readers else {}), batches)
    return Labelled(
        ids=FileColumn(table, "input_ids", path),
        labels=FileColumn(table, "liked", path),
        kept=FileColumn(table, "row", path),
        **figures,
        readers=[*FileColumn(table, "reader", path)] if readers else (),
        table=table,
    )


def log_odds(labels: Sequence[float]) -> float:
    """The logarithm of likes per dislike.

    Raises:
        DataError: all labels are equal.
    """
    likes = int(sum(labels))
    if likes in (0, len(labels)):
        alike = "likes" if likes else "dislikes"
        raise DataError(
            "reward, split train, config unpaired",
            f"all {len(labels)} completions are {alike}: there is nothing to tell apart.",
            "Label more, or set reward.loss=pairwise where there are pairs.",
        )
    return math.log(likes / (len(labels) - likes))


def pointwise_loss(scores: Tensor, liked: Tensor, offset: float) -> Tensor:
    """Mean cross entropy of the labels under P(like) = sigmoid(score + offset).

    The head has no bias, and most completions may be liked. With the log-odds of the training labels as a constant
    ``offset``, shifting all scores gains nothing, so the adapter need not learn the share of likes. The offset is
    constant, so it needs no checkpoint; it is not part of the score, as PPO would subtract it with the mean. The
    rarer label has no weight: with much data a balanced loss has the same best scores (weights shift the log-odds
    by minus this offset), and with little it lets fewer rows decide.

    Args:
        scores: (B,) raw scores.
        liked: (B,) 1 for a like, 0 for a dislike.
    """
    return binary_cross_entropy_with_logits(scores.float() + offset, liked)


class PointwiseTrainer(Trainer):
    """TRL's RewardTrainer on single rows, with :func:`pointwise_loss`."""

    sides = 1

    def __init__(self, *args: Any, offset: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offset = offset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "liked", "reader"]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        mask, liked = inputs["attention_mask"], inputs["liked"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False)
        scores = outputs.logits[:, 0]
        if "reader" in inputs:
            scores = scores + outputs.logits.gather(1, inputs["reader"][:, None]).squeeze(1)
        loss = pointwise_loss(scores, liked, self.offset) * self.share
        with torch.no_grad():
            self._count(scores, liked, mask)
        return (loss, outputs) if return_outputs else loss

    def _count(self, scores: Tensor, liked: Tensor, mask: Tensor) -> None:
        """Count the figures that TRL logs for pairs; ``accuracy`` is that of P(like) above one half."""
        gather, metrics = self.accelerator.gather_for_metrics, self._metrics["train"]
        self._total_train_tokens += int(gather(mask.sum()).sum().item())  # type: ignore[union-attr]
        metrics["num_tokens"] = [self._total_train_tokens]
        all_scores = cast("Tensor", self.accelerator.gather(scores.float()))
        metrics["min_reward"].append(all_scores.min().item())
        metrics["mean_reward"].append(all_scores.mean().item())
        metrics["max_reward"].append(all_scores.max().item())
        correct = gather(((scores + self.offset > 0) == (liked > 0.5)).float().mean())
        metrics["accuracy"].append(cast("Tensor", correct).mean().item())


@dataclass(frozen=True)
class Trained:
    """A trained reward model.

    Attributes:
        model: the PEFT sequence classifier, with adapter ``default`` and head ``score``.
        figures: for the manifest; ``offset`` is the log-odds of a like: P(like) is sigmoid(score + offset).
        heads: (1, H) of each reader, where there are some.
        before: raw scores of held-out rows before training, of a model that was begun from another.
    """

    model: Any
    figures: dict[str, Any]
    heads: dict[str, Tensor]
    before: list[float]


class Collator:
    """Pads the rows of a batch on the right."""

    def __init__(self, fill: int) -> None:
        self.fill = fill

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids, lengths = right_pad([r["input_ids"] for r in rows], self.fill)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        columns = {name: torch.tensor([r[name] for r in rows]) for name in ("liked", "reader") if name in rows[0]}
        return {"input_ids": ids, "attention_mask": mask, **columns}


def train(
    args: RewardSection,
    base: str,
    revision: str | None,
    tokenizer: Tokenizer,
    rows: Labelled,
    metrics: Path,
    start: Path | None = None,
    held_out: Sequence[list[int]] = (),
) -> Trained:
    """Train a reward model on single labelled ``rows``, as :func:`pipeline.trainers.reward.train` does on pairs.

    Where ``rows`` have readers, each has a head besides the shared one, on the same trunk; a label is predicted by
    the sum of both, so that the trunk learns what readers go by though their tastes cancel out.

    Args:
        start: a reward adapter to go on from, with its LoRA settings and head, and the head of ``args.reader``
            where it has one; by default a new one.
        held_out: token rows that ``start`` scores before it is trained.
    Raises:
        DataError: too few completions for one batch, or all labels alike.
        ModelError: ``start`` does not fit the base.
    """
    require_batch(args, len(rows.kept), "completions")
    offset = log_odds(rows.labels)

    def fresh() -> Any:
        return classifier(base, revision, args.seed, 1 + len(rows.names))

    model = fresh()
    adapter = lora_config(model, **args.lora(), task_type="SEQ_CLS")
    per_pass = set_up_passes(model, args, (rows.ids,))
    before: list[float] = []
    if start is not None:
        model = with_reward_adapter(model, start)
        before = score_rows(model, score_head(model), held_out).tolist()
        go_on_from(start, model, args)
    trainer = PointwiseTrainer(
        model=model,
        args=args,
        rows_per_pass=per_pass,
        data_collator=Collator(pad_id(tokenizer)),
        processing_class=tokenizer,
        train_dataset=rows.dataset(),
        peft_config=adapter if start is None else None,
        callbacks=[MetricsFile(metrics), StopDiverged("reward")],
        offset=offset,
    )

    def untrained() -> Any:
        return get_peft_model(fresh(), adapter) if start is None else with_reward_adapter(fresh(), start)

    trained, figures = finish(trainer, tokenizer, untrained)
    figures |= {"completions": len(rows.kept), "likes": int(sum(rows.labels)), "offset": offset}
    # Of a sharded head another process has a part: to ask for the rest would wait for the main one forever.
    heads = dict(zip(rows.names, split_heads(trained), strict=True)) if main_process() else {}
    return Trained(trained, figures, heads, before)


@torch.no_grad()
def go_on_from(start: Path, model: Any, args: RewardSection) -> None:
    """Begin with the head of ``args.reader``, where ``start`` has one, and train what ``args`` says."""
    own = None if args.reader is None else read_reader_head(start, args.reader)
    score_head(model).add_(0 if own is None else own)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".default" in name and (".score." in name or not args.head_only))


def split_heads(model: Any) -> list[Tensor]:
    """Leave the shared head in the model, and return each reader's, (1, H)."""
    score = model.get_base_model().score.modules_to_save["default"]
    shared, *readers = score.weight.detach().clone().split(1)
    score.weight, score.out_features = torch.nn.Parameter(shared), 1
    return readers
