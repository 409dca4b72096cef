"""Measure a newly trained reward model, and make the rows of ``scores``."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.base.records import bucket, digest
from pipeline.evaluation.reward.chance_cause import at_chance, explain, probe_labels, probe_pairs
from pipeline.evaluation.reward.pair_set_metrics import PairContext, metrics_of_set, pair_metrics
from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs, pair_accuracy
from pipeline.evaluation.reward.pointwise_metrics import Completions, auc, pointwise_metrics
from pipeline.modeling.types import Tokenizer
from pipeline.results.reward import PairwiseMetrics, PointwiseMetrics
from pipeline.scoring.base_states import base_states
from pipeline.scoring.pair_sets import PairRows, vote_shares
from pipeline.scoring.reward_adapter import score_position, score_rows
from pipeline.tasks import load_task
from pipeline.trainers.pointwise import Labelled
from pipeline.trainers.reward import Pairs, score_head, tokenize_pairs
from pipeline.trainers.token_file import rows_at
from pipeline.workflow.stage import Run, say

NUMBERS = ("chosen_score", "rejected_score", "chosen_gold_score", "rejected_gold_score")
SCORES = {
    **dict.fromkeys(("id", "prompt", "chosen", "rejected"), "string"),
    **dict.fromkeys(NUMBERS, "double"),
}
SET_SCORES = {
    **{k: v for k, v in SCORES.items() if "gold" not in k},
    "item": "string",
    "slice": "string",
    "margin": "double",
    "share": "double",
}
UNPAIRED_SCORES = {
    "id": "string",
    "prompt": "string",
    "completion": "string",
    "label": "bool",
    "score": "double",
    "gold_score": "double",
}
SPLITS = ("train", "test")
NO_LIMIT = 10**9
MOST = 50_000
"""Held-out pairs that are measured, and training pairs that the baselines learn from, at most.

Of so many an accuracy's interval is a hundredth wide, and what is held of their texts fits into memory."""
PROBED, PROBED_TOKENS = 400, 25_000
"""Rows of a split, and their tokens, at most, that are read to explain a model at chance."""
Row = dict[str, Any]
Table = tuple[str, dict[str, str], list[Row]]
"""Config, schema and rows of ``scores``."""
Texts = list[tuple[str, str]]
"""(chosen, rejected) of the training pairs, from which the baselines learn."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out pairs that are measured: rows, their tokens, and of how many they are a sample."""

    rows: list[Row]
    chosen_ids: list[list[int]]
    rejected_ids: list[list[int]]
    of: int


@dataclass(frozen=True)
class HeldOutLabelled:
    """The held-out single completions that are measured: rows, their tokens, and of how many they are a sample."""

    rows: list[Row]
    ids: list[list[int]]
    of: int


def kept_rows(rows: Iterable[Row], kept: Sequence[int]) -> list[tuple[int, Row]]:
    """(place among the rows that were kept, row), in their order; of very many a sample by a hash of their ids.

    Args:
        kept: the rising numbers of those of ``rows`` that were kept.
    """
    numbers = iter(kept)
    after = next(numbers, None)

    def there() -> Iterator[tuple[int, Row]]:
        nonlocal after
        place = 0
        for number, row in enumerate(rows):
            if number == after:
                yield place, row
                place, after = place + 1, next(numbers, None)

    if len(kept) <= MOST:
        return list(there())
    sample = heapq.nsmallest(MOST, there(), key=lambda pair: bucket(pair[1]["id"], "measured"))
    return sorted(sample, key=lambda pair: pair[0])


def held_out(rows: Iterable[Row], pairs: Pairs) -> HeldOut:
    """The held-out pairs that are measured."""
    kept = kept_rows(rows, pairs.kept)
    places = [place for place, _ in kept]
    chosen, rejected = (rows_at(side, places) for side in (pairs.chosen_ids, pairs.rejected_ids))
    return HeldOut([row for _, row in kept], chosen, rejected, len(pairs.kept))


def training_texts(rows: Iterable[Row], pairs: Pairs) -> Texts:
    """:data:`Texts` of the pairs that were kept; of very many a sample."""
    return [(row["chosen"], row["rejected"]) for row in training_rows(rows, pairs.kept, "pairs")]


def held_out_labelled(rows: Iterable[Row], labelled: Labelled) -> HeldOutLabelled:
    """The held-out single completions that are measured."""
    kept = kept_rows(rows, labelled.kept)
    ids = rows_at(labelled.ids, [place for place, _ in kept])
    return HeldOutLabelled([row for _, row in kept], ids, len(labelled.kept))


def training_rows(rows: Iterable[Row], kept: Sequence[int], what: str) -> list[Row]:
    """The rows that were kept, from which the baselines learn; of very many a sample."""
    if len(kept) > MOST:
        say("reward", f"the baselines learn from {MOST:,} of the {len(kept):,} {what}")
    return [row for _, row in kept_rows(rows, kept)]


def measure_pairs(run: Run, model: Any, held: HeldOut, texts: Texts) -> tuple[PairwiseMetrics, Table]:
    """Metrics on the held-out pairs, and their rows of ``scores``."""
    test = held.rows
    chosen, rejected = pair_scores(model, held.chosen_ids, held.rejected_ids)
    gold = {side: gold_scores(run, test, side) for side in ("chosen", "rejected")}
    column = {name: [row[name] for row in test] for name in ("chosen", "rejected", "prompt")}
    scored = ScoredPairs(
        chosen, rejected, column["chosen"], column["rejected"], gold["chosen"], gold["rejected"], column["prompt"]
    )
    people = [r.get("annotator") for r in test]
    context = PairContext(
        margins=[r.get("margin") for r in test],
        shares=vote_shares(run.version("preferences"), "test", test),
        columns={"annotator": people} if len(set(people)) > 1 else {},
    )
    nothing = [None] * len(test)
    scores = zip(chosen, rejected, gold["chosen"] or nothing, gold["rejected"] or nothing, strict=True)
    table = [
        {name: row[name] for name in ("id", "prompt", "chosen", "rejected")}
        | dict(zip(NUMBERS, four, strict=True))
        for row, four in zip(test, scores, strict=True)
    ]
    metrics = pair_metrics(scored, context, texts, run.config.seed)
    notes = (*metrics.notes, *sampled(len(test), held.of, "pairs"))
    return replace(metrics, notes=notes), ("default", SCORES, table)


def sampled(n: int, of: int, what: str) -> list[str]:
    """That not all held-out rows were measured, where that is so."""
    return [f"Measured on {n:,} of the {of:,} held-out {what}, drawn by a hash of their ids."] if n < of else []


def measure_sets(
    run: Run, model: Any, tokenizer: Tokenizer, sets: dict[str, PairRows], texts: Texts
) -> tuple[dict[str, PairwiseMetrics], list[Table]]:
    """Metrics on each further set, and their rows of ``scores``."""
    metrics, tables = dict[str, PairwiseMetrics](), list[Table]()
    limit = getattr(model.config, "max_position_embeddings", None) or NO_LIMIT
    for name, pairs in sets.items():
        tokens = tokenize_pairs(tokenizer, pairs.rows, NO_LIMIT, score_position(tokenizer))
        # Texts that are too long lose their beginning, as in PPO.
        sides = [[ids[-limit:] for ids in side] for side in (tokens.chosen_ids, tokens.rejected_ids)]
        chosen, rejected = pair_scores(model, *sides)
        truncated = sum(len(ids) > limit for ids in (*tokens.chosen_ids, *tokens.rejected_ids))
        measured = metrics_of_set(chosen, rejected, pairs.rows, pairs.report["slice"], texts, run.config.seed)
        metrics[name] = replace(measured, set=pairs.report | {"truncated": truncated})
        scores = zip(pairs.rows, chosen, rejected, strict=True)
        rows = [row | {"chosen_score": c, "rejected_score": r} for row, c, r in scores]
        tables.append((name, SET_SCORES, rows))
    return metrics, tables


def measure_labelled(
    run: Run, model: Any, held: HeldOutLabelled, train_rows: list[Row], offset: float
) -> tuple[PointwiseMetrics, Table]:
    """Metrics on the held-out single completions, and their rows of ``scores``."""
    scores: list[float] = score_rows(model, score_head(model), held.ids).tolist()
    gold = gold_scores(run, held.rows, "completion")
    train, test = (
        Completions(
            [row["label"] for row in rows_of],
            [row["prompt"] for row in rows_of],
            [row["completion"] for row in rows_of],
            gold_of,
        )
        for rows_of, gold_of in ((train_rows, None), (held.rows, gold))
    )
    table = [
        {name: row[name] for name in ("id", "prompt", "completion", "label")}
        | {"score": score, "gold_score": truth}
        for row, score, truth in zip(held.rows, scores, gold or [None] * len(scores), strict=True)
    ]
    metrics = pointwise_metrics(scores, offset, test, train)
    notes = (*metrics.notes, *sampled(len(held.rows), held.of, "completions"))
    return replace(metrics, notes=notes), ("unpaired", UNPAIRED_SCORES, table)


def explain_chance(model: Any, metrics: PairwiseMetrics, pairs: Mapping[str, Pairs]) -> PairwiseMetrics:
    """``metrics`` with the likeliest cause, where the model is at chance on the held-out pairs."""
    if not at_chance(metrics):
        return metrics
    say("reward", "no better than chance on the held-out pairs: probing the base's states to say why")
    index = {split: probed(of_split.chosen_ids, of_split.rejected_ids) for split, of_split in pairs.items()}
    sides = {
        split: [[side[i] for i in index[split]] for side in (of_split.chosen_ids, of_split.rejected_ids)]
        for split, of_split in pairs.items()
    }
    train, test = (base_states(model, sides[s][0]) - base_states(model, sides[s][1]) for s in SPLITS)
    learnt = pair_accuracy(np.subtract(*pair_scores(model, *sides["train"])))
    probe = probe_pairs(train, test)
    labels = None if metrics.gold is None else metrics.gold.labels
    cause = explain(metrics, learnt, probe, len(pairs["train"].kept), labels)
    return replace(metrics, chance=cause, notes=(*metrics.notes, cause.sentence))


def explain_chance_of_labels(
    model: Any, metrics: PointwiseMetrics, labelled: Mapping[str, Labelled]
) -> PointwiseMetrics:
    """:func:`explain_chance` of single labelled completions."""
    if not at_chance(metrics):
        return metrics
    say("reward", "no better than chance on the held-out rows: probing the base's states to say why")
    index = {split: probed(of_split.ids) for split, of_split in labelled.items()}
    ids = {split: [labelled[split].ids[i] for i in index[split]] for split in SPLITS}
    liked = {split: [bool(labelled[split].labels[i]) for i in index[split]] for split in SPLITS}
    states = {split: base_states(model, ids[split]) for split in SPLITS}
    learnt = auc(score_rows(model, score_head(model), ids["train"]).numpy(), liked["train"])
    probe = probe_labels(states["train"], liked["train"], states["test"], liked["test"])
    cause = explain(metrics, learnt, probe, len(labelled["train"].kept))
    return replace(metrics, chance=cause, notes=(*metrics.notes, cause.sentence))


def probed(*sides: Sequence[list[int]]) -> list[int]:
    """The rows to probe, by hash, as a sorted set gives a fair sample then."""
    order = [i for i, _ in heapq.nsmallest(PROBED, enumerate(sides[0]), key=lambda row: digest(row[1]))]
    tokens = np.cumsum([sum(len(side[i]) for side in sides) for i in order])
    return order[: max(1, int((tokens <= PROBED_TOKENS).sum()))]


def pair_scores(
    model: Any, chosen: Sequence[list[int]], rejected: Sequence[list[int]]
) -> tuple[list[float], list[float]]:
    """Raw scores of both sides."""
    head = score_head(model)
    return score_rows(model, head, chosen).tolist(), score_rows(model, head, rejected).tolist()


def gold_scores(run: Run, rows: list[Row], column: str) -> list[float] | None:
    """The task's gold scores of a column of completions; None where it has none."""
    task = load_task(run.config.task, run.config.task_args, str(run.config.path))
    return task.gold_scores([row["prompt"] for row in rows], [row[column] for row in rows])
