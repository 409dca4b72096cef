"""Named sets of decided pairs, to measure a reward model on: read from anybody's files, and scored.

What is measured of the scores is left to :mod:`pipeline.evaluation`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.core.config import parse_options
from pipeline.core.errors import ConfigError, DataError
from pipeline.core.formats import JudgedRow, Unusable, parse_rows, render_plain
from pipeline.core.formats.messages import bot, turns_of
from pipeline.core.judged_sets import JudgedSet
from pipeline.core.records import Comparison, row_id
from pipeline.core.rows import require_columns
from pipeline.core.version import Version
from pipeline.modeling.reward_models import AdapterScorer, ClassifierScorer
from pipeline.modeling.samples import Conversation, Samples, Scorer
from pipeline.modeling.tokens import template_render

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TAKEN = ("default", "unpaired")

Row = dict[str, Any]


@dataclass(frozen=True)
class PairSet(JudgedSet):
    """Where the pairs are and how to read them: :class:`pipeline.core.judged_sets.JudgedSet`, and

    Args:
        slice: their column whose values make slices; of RewardBench it is ``subset``.
    """

    slice: str | None = None


@dataclass(frozen=True)
class PairRows:
    """The decided pairs of a set.

    Attributes:
        rows: id, prompt, chosen, rejected, margin (or None), share (of the votes, those for the chosen one; None
            of fewer than two), item (the row of theirs it came from), slice.
        report: dataset, format, rows (theirs), pairs, and what was left out, by reason.
    """

    rows: list[Row]
    report: dict[str, Any]


def parse_sets(value: Mapping[str, Any], where: str, key: str = "reward.test_sets") -> dict[str, PairSet]:
    """The sets of a config by name: ``{name: dataset}`` or ``{name: {dataset: ..., format: ...}}``.

    Raises:
        ConfigError: an unknown key, a value of a wrong type, a name that is no plain word.
    """
    found: dict[str, PairSet] = {}
    for name, given in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
            mend = "Use letters, digits, _ and -; not default or unpaired."
            raise ConfigError(where, f"{key}: {name!r} is no name for a set.", mend)
        options = {"dataset": given} if isinstance(given, str) else given
        if not isinstance(options, dict) or not options.get("dataset"):
            mend = f"Write {key}: {{{name}: pairs.jsonl}}, or {{{name}: {{dataset: pairs.jsonl, format: trl}}}}."
            raise ConfigError(where, f"{key}.{name} names no dataset.", mend)
        found[name] = parse_options(PairSet, options, where, prefix=f"{key}.{name}.")
    return found


def read_pairs(options: PairSet, where: str, trained_on: Collection[str] = ()) -> PairRows:
    """Every decided pair of a set, in its order.

    Ties, rows that cannot be used, and pairs that were trained on (either way round) are left out and counted.

    Args:
        trained_on: ids of the training pairs, see :func:`pipeline.core.records.row_id`.
        where: who asked, for messages.
    Raises:
        DataError: nothing to read, a column that is not there, or no usable pair.
    """
    how = options.reading(template_render(options.chat_template))
    format, first, first_place, located = options.rows(where)
    column = options.slice or ("subset" if format == "rewardbench" and "subset" in first else None)
    if column is not None:
        require_columns(first, [column], first_place, "Set slice to one of them.")
        how.notices.read_too.add(column)
    rows: list[Row] = []
    left_out, n = Counter[str](), 0
    for place, theirs in itertools.islice(located, options.limit):
        n += 1
        for one in parse_rows(theirs, format, place, how):
            reason = _why_not(one, trained_on)
            if reason is None and isinstance(one, JudgedRow):
                value = theirs.get(column) if column is not None else None
                rows.append(_row(one) | {"item": str(n), "slice": None if value is None else str(value)})
            else:
                left_out[str(reason)] += 1
    if not rows:
        reasons = ", ".join(f"{reason} ({k})" for reason, k in left_out.most_common(3))
        raise DataError(where, f'none of {n} rows of "{options.dataset}" is a usable pair: {reasons}.')
    report = {"dataset": options.dataset, "format": format, "rows": n, "pairs": len(rows), "slice": column}
    notices = {"notices": lines} if (lines := how.notices.lines()) else {}
    return PairRows(rows, {**report, "left_out": dict(left_out.most_common()), **notices})


def score_pairs(scorer: Scorer, rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Raw scores of the chosen and of the rejected completions: before any normalisation, so that differences are
    log-odds where the model was trained on pairs.

    What is too long loses its beginning, as in PPO. A classifier with a chat template reads conversations by it.
    """
    unit, zero = 1.0, 0.0
    if isinstance(scorer, AdapterScorer):
        unit, zero = scorer.role.scoring.score_std, scorer.role.scoring.score_mean
    messages = isinstance(scorer, ClassifierScorer) and bool(
        getattr(scorer.classifier.tokenizer, "chat_template", None)
    )
    sides = [scorer(_samples(rows, side, messages)) * unit + zero for side in ("chosen", "rejected")]
    return sides[0].tolist(), sides[1].tolist()


def score_unit(scorer: Scorer) -> float:
    """What a normalised score of 1 is in raw ones: an ensemble's members are put on one scale by it."""
    return scorer.role.scoring.score_std if isinstance(scorer, AdapterScorer) else 1.0


def vote_shares(preferences: Version, split: str, rows: Sequence[Row]) -> list[float | None]:
    """How sure the annotators were of each pair: the share of its votes that the chosen completion has.

    None where fewer than two voted. Where votes were weighed (Dawid and Skene), the probability of the choice.
    Repeats and known answers are left out; an adjudicated pair keeps the share of its votes.

    Args:
        preferences: a version with the configs ``votes`` and, where people voted, ``outcomes``.
        rows: of its pairs.
    """
    votes, outcomes = (
        preferences.iter_rows(split, config) if preferences.has_split(split, config) else ()
        for config in ("votes", "outcomes")
    )
    counts: dict[str, Counter[str]] = {}
    for row in votes:
        if row["choice"] and row["comparison_id"] and not (row.get("round") or row.get("gold")):
            counts.setdefault(row["comparison_id"], Counter())[row["choice"]] += 1
    shares = {
        (comparison, choice): n / given.total()
        for comparison, given in counts.items()
        for choice, n in given.items()
        if given.total() > 1
    }
    shares |= {
        (row["comparison_id"], row["choice"]): row["confidence"]
        for row in outcomes
        if row["comparison_id"] and row["confidence"] is not None and row["votes"] > 1
    }

    def share(prompt: str, chosen: str, rejected: str) -> float | None:
        # Which of the two was A is not in the row, but the comparison's id says it.
        as_a = shares.get((Comparison(prompt, chosen, rejected).id, "a"))
        return as_a if as_a is not None else shares.get((Comparison(prompt, rejected, chosen).id, "b"))

    return [share(r["prompt"], r["chosen"], r["rejected"]) for r in rows]


@dataclass(frozen=True)
class _Texts(Samples):
    """Samples that were never tokens."""

    said: Sequence[str] = ()

    @cached_property
    def prompts(self) -> list[str]:
        return [g if isinstance(g, str) else render_plain(g, "")[0] for g in self.as_given]

    @cached_property
    def completions(self) -> list[str]:
        return list(self.said)

    @cached_property
    def texts(self) -> list[str]:
        return [prompt + said for prompt, said in zip(self.prompts, self.said, strict=True)]


def _samples(rows: Sequence[Row], side: str, messages: bool) -> Samples:
    prompts: list[str | Conversation] = []
    said: list[str] = []
    for row in rows:
        turns = turns_of(row["prompt"]) if messages else None
        prompts.append(turns or row["prompt"])
        said.append(bot(row[side])[0]["content"] if turns else row[side])
    nothing: list[list[int]] = [[] for _ in rows]
    return _Texts(nothing, nothing, None, prompts, said)


def _why_not(one: JudgedRow | Unusable, trained_on: Collection[str]) -> str | None:
    if isinstance(one, Unusable):
        return one.reason
    if one.tie:
        return "a tie"
    ids = (row_id(one.prompt, one.chosen, one.rejected), row_id(one.prompt, one.rejected, one.chosen))
    return "trained on" if any(i in trained_on for i in ids) else None


def _row(one: JudgedRow) -> Row:
    votes = {k: float(v) for k, v in one.meta.items() if k.startswith("votes_")}
    total = sum(votes.values())
    share = votes["votes_chosen"] / total if "votes_chosen" in votes and total > 1 else None
    texts = {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected}
    return {"id": row_id(*texts.values()), **texts, "margin": one.margin, "share": share}
