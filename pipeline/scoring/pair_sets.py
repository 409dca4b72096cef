"""Named sets of decided pairs to measure a reward model on: read them from third-party files, and score them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

from pipeline.base.errors import DataError
from pipeline.base.json_values import JsonObject
from pipeline.base.records import Annotation, Comparison, row_id
from pipeline.formats.detect import ALONE, JudgedRow, read_judged, render_plain
from pipeline.formats.messages import bot, turns_of
from pipeline.formats.read_options import Aggregation, Judged, Margin, Origins, Repeats
from pipeline.modeling.tokens import template_render
from pipeline.modeling.types import Tokenizer
from pipeline.scoring.foreign_reward_models import AdapterScorer, ClassifierScorer
from pipeline.scoring.reward_adapter import Scoring
from pipeline.scoring.scorer import Conversation, Samples, Scorer
from pipeline.sources.row_sources import require_columns
from pipeline.store.version import Version
from pipeline.workflow.named_sets import PairSet, parse_sets

__all__ = ["PairRows", "PairSet", "parse_sets", "read_pairs", "score_pairs", "score_unit", "vote_shares"]

_KIND = {"tie": "ties", "both_bad": "both_bad", None: "split_votes"}

Row = dict[str, Any]


@dataclass(frozen=True)
class PairRows:
    """The decided pairs of a set.

    Attributes:
        rows: id, prompt, chosen, rejected, margin (or None), share (of votes for the chosen one; None for fewer
            than two votes), item (the source row), slice.
        report: dataset, format, rows (of the source), pairs, and the number left out, by reason.
    """

    rows: list[Row]
    report: dict[str, Any]


class Decision(Protocol):
    """:class:`pipeline.labelling.judgements.Decision`."""

    @property
    def outcome(self) -> Any: ...
    @property
    def margin(self) -> float | None: ...


class Votes(Protocol):
    """:class:`pipeline.labelling.judgements.Judgements`, passed in: it decides the outcome of the votes."""

    def add(self, comparison: Comparison, vote: Annotation, within: str | None = None) -> tuple[int, bool]: ...
    def decide(self, number: int, comparison: Comparison) -> Decision: ...
    def counts(self) -> JsonObject: ...
    @property
    def several(self) -> bool: ...


def read_pairs(
    options: PairSet,
    where: str,
    trained_on: Container[str] = (),
    *,
    judgements: Callable[[Aggregation, Margin], Votes],
) -> PairRows:
    """Every decided pair of a set, in its order.

    Several rows on one comparison are votes, counted within a slice; but each row of RewardBench is an item. Ties,
    even votes, unusable rows, and pairs that were trained on (either way round) are left out and counted.

    Args:
        trained_on: ids of the training pairs, see :func:`pipeline.base.records.row_id`.
        where: the caller, for messages.
        judgements: takes the votes.
    Raises:
        DataError: there is nothing to read, a column does not exist, or no pair is usable.
    """
    how = options.reading(template_render(options.chat_template))
    format, first, first_place, located = options.rows(where)
    column = options.slice or ("subset" if format == "rewardbench" and "subset" in first else None)
    if column is not None:
        require_columns(first, [column], first_place, "Set slice to one of them.")
        how.notices.read_too.add(column)
    ballot = _Ballot(judgements(options.aggregate, options.margin), every_row=format == "rewardbench")
    left_out, details, n, origins = Counter[str](), dict[str, str](), 0, Origins(format)
    if format in ALONE and column is not None:
        mend = "Remove slice, or give a file for each."
        raise DataError(
            first_place, f"slice does not go with format {format}: a pair is made of several rows.", mend
        )
    value: object = None

    def read() -> Iterator[tuple[str, Row]]:
        nonlocal n, value
        for place, row in itertools.islice(located, options.limit):
            n += 1
            origins.start(row)
            value = row.get(column) if column is not None else None
            yield place, row

    for _, judged in read_judged(read(), format, how):
        if isinstance(judged, JudgedRow):
            ballot.take(judged, n, None if value is None else str(value), origins.next())
        else:
            left_out[judged.reason] += 1
            details.setdefault(judged.reason, judged.detail)
    rows, counts = ballot.decided(trained_on, left_out)
    if not rows:
        reasons = ", ".join(f"{reason} ({k})" for reason, k in left_out.most_common(3))
        reasons += "".join(f"; {details[reason]}" for reason, _ in left_out.most_common(1) if details.get(reason))
        raise DataError(where, f'none of {n} rows of "{options.dataset}" is a usable pair: {reasons}.')
    report = {"dataset": options.dataset, "format": format, "rows": n, "pairs": len(rows), "slice": column}
    notices = {"notices": lines} if (lines := how.notices.lines()) else {}
    return PairRows(rows, {**report, **counts, "left_out": dict(left_out.most_common()), **notices})


class _Ballot:
    """The votes of a set while its rows are read, and the comparisons in their first order."""

    def __init__(self, votes: Votes, every_row: bool) -> None:
        self._votes, self._every_row = votes, every_row
        self._repeats = Repeats()
        self._comparisons: list[tuple[Comparison, int, str | None]] = []

    def take(self, row: JudgedRow, item: int, slice: str | None, origin: bytes) -> None:
        """``item``: number of the source row. ``origin``: see :class:`pipeline.formats.read_options.Origins`."""
        within = json.dumps([slice, item if self._every_row else None])
        judged = Judged(row, *row.comparison(0), within)
        if self._every_row or self._repeats.is_vote(judged, origin):
            self._add(judged, item, slice)

    def _add(self, judged: Judged, item: int, slice: str | None) -> None:
        for vote in judged.votes(""):
            number, kept = self._votes.add(judged.comparison, vote, judged.within)
            if number == len(self._comparisons):
                self._comparisons.append((judged.comparison, item, slice))
            elif kept:
                self._comparisons[number] = (judged.comparison, *self._comparisons[number][1:])

    def decided(self, trained_on: Container[str], left_out: Counter[str]) -> tuple[list[Row], dict[str, Any]]:
        """(rows, counts of the votes if there are several); the other pairs are counted in ``left_out``."""
        for judged in self._repeats.copies():
            self._add(judged, 0, None)  # item and slice are the first one's
        left_out.update({"a duplicate": n} if (n := self._repeats.duplicates) else {})
        rows: list[Row] = []
        kinds = Counter[str]()
        for number, (comparison, item, slice) in enumerate(self._comparisons):
            decision = self._votes.decide(number, comparison)
            kinds[_KIND.get(decision.outcome.choice, "decided")] += 1
            row = _row(comparison, decision)
            reason = _why_not(decision.outcome.choice, row, trained_on)
            if reason is None:
                rows.append(row | {"item": str(item), "slice": slice})
            else:
                left_out[reason] += 1
        if not self._votes.several:
            return rows, {}
        by_kind = {kind: kinds[kind] for kind in ("decided", *_KIND.values())}
        return rows, self._votes.counts() | by_kind


def score_pairs(scorer: Scorer, rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Raw scores of the chosen and of the rejected completions, not normalised: their differences are log-odds if
    the model was trained on pairs.

    Too long texts lose their beginning, as in PPO. A classifier's chat template, if any, renders conversations.
    """
    scale, offset = 1.0, 0.0
    if (scoring := _scoring_of(scorer)) is not None:
        scale, offset = scoring.score_std, scoring.score_mean
    messages = isinstance(scorer, ClassifierScorer) and bool(
        getattr(scorer.classifier.tokenizer, "chat_template", None)
    )
    sides = [scorer(_samples(rows, side, messages)) * scale + offset for side in ("chosen", "rejected")]
    return sides[0].tolist(), sides[1].tolist()


def score_unit(scorer: Scorer) -> float:
    """The raw difference of a normalised score of 1; it puts an ensemble's members on one scale."""
    scoring = _scoring_of(scorer)
    return 1.0 if scoring is None else scoring.score_std


def _scoring_of(scorer: Scorer) -> Scoring | None:
    """How a reward adapter's score, also of a merged one, is normalised; None of other scorers."""
    return scorer.scoring if isinstance(scorer, AdapterScorer | ClassifierScorer) else None


def vote_shares(preferences: Version, split: str, rows: Sequence[Row]) -> list[float | None]:
    """The share of each pair's votes that the chosen completion has; None for fewer than two votes.

    Of weighted votes (Dawid and Skene) the probability of the choice. Repeats and gold items are left out; an
    adjudicated pair keeps the share of its votes.

    Args:
        preferences: a version with the configs ``votes`` and, if people voted, ``outcomes``.
        rows: its pairs.
    """
    votes, outcomes = (
        preferences.iter_rows(split, config) if preferences.has_split(split, config) else ()
        for config in ("votes", "outcomes")
    )
    # The row does not tell which of the two was A; the comparison's id does.
    orders = ("chosen", "rejected"), ("rejected", "chosen")
    ids = [[Comparison(r["prompt"], r[a], r[b]).id for a, b in orders] for r in rows]
    wanted = {comparison for both in ids for comparison in both}
    counts: dict[str, Counter[str]] = {}
    for row in votes:
        if row["choice"] and row["comparison_id"] in wanted and not (row.get("round") or row.get("gold")):
            counts.setdefault(row["comparison_id"], Counter())[row["choice"]] += row.get("count") or 1
    shares = {
        (comparison, choice): n / choices.total()
        for comparison, choices in counts.items()
        for choice, n in choices.items()
        if choices.total() > 1
    }
    shares |= {
        (row["comparison_id"], row["choice"]): row["confidence"]
        for row in outcomes
        if row["comparison_id"] in wanted and row["confidence"] is not None and row["votes"] > 1
    }
    return [
        as_a if (as_a := shares.get((first, "a"))) is not None else shares.get((second, "b"))
        for first, second in ids
    ]


@dataclass(frozen=True)
class _Texts(Samples):
    """Samples given as texts, without ids."""

    completion_texts: Sequence[str] = ()

    @cached_property
    def prompts(self) -> list[str]:
        return [g if isinstance(g, str) else render_plain(g, "")[0] for g in self.as_given]

    @cached_property
    def completions(self) -> list[str]:
        return list(self.completion_texts)

    @cached_property
    def texts(self) -> list[str]:
        return [prompt + text for prompt, text in zip(self.prompts, self.completions, strict=True)]


def _samples(rows: Sequence[Row], side: str, messages: bool) -> Samples:
    prompts: list[str | Conversation] = []
    completions: list[str] = []
    for row in rows:
        turns = turns_of(row["prompt"]) if messages else None
        prompts.append(turns or row["prompt"])
        completions.append(bot(row[side])[0]["content"] if turns else row[side])
    no_ids: list[list[int]] = [[] for _ in rows]
    return _Texts(no_ids, no_ids, cast("Tokenizer", None), prompts, completions)


def _why_not(choice: str | None, row: Row, trained_on: Container[str]) -> str | None:
    if choice not in ("a", "b"):
        return "an even split of votes" if choice is None else "a tie"
    texts = (row["prompt"], row["chosen"], row["rejected"])
    return (
        "trained on" if any(row_id(texts[0], *pair) in trained_on for pair in (texts[1:], texts[:0:-1])) else None
    )


def _row(comparison: Comparison, decision: Decision) -> Row:
    outcome = decision.outcome
    chosen, rejected = comparison.completion_a, comparison.completion_b
    if outcome.choice == "b":
        chosen, rejected = rejected, chosen
    share = None
    if outcome.n > 1:
        share = outcome.share if outcome.confidence is None else outcome.confidence
    texts = {"prompt": comparison.prompt, "chosen": chosen, "rejected": rejected}
    return {"id": row_id(*texts.values()), **texts, "margin": decision.margin, "share": share}
