"""Aggregate imported judgements by comparison, by the rules of :mod:`pipeline.labelling.aggregate`.

Holds about 40 bytes of numbers per judgement and no texts; more under Dawid and Skene or Bradley and Terry.
:class:`pipeline.formats.read_options.Repeats` decides which rows are votes.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.base.json_values import JsonObject
from pipeline.base.key_numbers import Column, KeyNumbers
from pipeline.base.records import CHOICES, Annotation, Choice, Comparison, digest, short_hash, turned
from pipeline.formats.read_options import Aggregation, Margin
from pipeline.labelling.aggregate import Outcome, aggregate_pairs, margin_of
from pipeline.labelling.agreement import Alpha, RawAgreement, agreement
from pipeline.results.stats import to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = dict[str, Any]

KINDS = {"a": "decided", "b": "decided", "tie": "ties", "both_bad": "both_bad", None: "split_votes"}
"""The count that a comparison belongs to, by its outcome."""

_CALLED = {"majority": "majority", "dawid_skene": "Dawid and Skene", "bradley_terry": "Bradley and Terry"}


@dataclass(frozen=True)
class Decision:
    """The aggregated result of one comparison.

    Attributes:
        comparison: its texts; ``a`` in ``outcome`` and ``votes`` is its first completion.
        votes: equal votes of one annotator are one entry with their ``count``.
        annotator: the only voter, else ``RULE:VOTES``.
    """

    comparison: Comparison
    outcome: Outcome
    votes: Sequence[Annotation]
    annotator: str
    margin: float | None

    def annotation(self) -> Annotation | None:
        """The aggregated judgement; None where the votes are even."""
        choice = self.outcome.choice
        if choice is None:
            return None
        assert choice in CHOICES, choice
        return Annotation(self.comparison.id, self.annotator, choice, margin=self.margin)

    def vote_rows(self) -> Iterator[Row]:
        """Rows of :data:`pipeline.base.records.VOTES`."""
        several = Counter(vote.annotator for vote in self.votes) if len(self.votes) > 1 else Counter[str]()
        for vote in self.votes:
            who: list[Any] = [vote.comparison_id, vote.annotator]
            if several[vote.annotator] > 1:
                who += [vote.choice, vote.score_a, vote.score_b, vote.margin]
            yield {"id": digest(who), "reason": None, **vars(vote)}

    def outcome_row(self) -> Row:
        """A row of :data:`pipeline.base.records.OUTCOMES`."""
        o, id = self.outcome, self.comparison.id
        numbers = {"share": o.share, "votes": o.n, "confidence": o.confidence, "adjudicated": o.adjudicated}
        return {"item_id": id, "comparison_id": id, "choice": o.choice, **numbers}


class Judgements:
    """Collects judgements and decides comparisons.

    Args:
        aggregate, margin: as in the section ``label``.
        set_name: the annotator in rows that name nobody, who is not counted as a person.
    """

    def __init__(
        self, aggregate: Aggregation = "majority", margin: Margin = "strength", set_name: str = ""
    ) -> None:
        self._how: Aggregation = aggregate
        self._margin: Margin = margin
        self._set_name = set_name
        self._numbers = KeyNumbers()
        self._rank = array("I"), array("I")
        self._people: dict[str, int] = {}
        # Columns with one entry per vote; NaN is a missing value. Sides are those of Comparison.alike.
        self._of, self._choice = array("I"), array("b")
        self._who, self._count = Column("I", 0), Column("q", 1)
        self._margins, self._scores = Column("d", math.nan), (Column("d", math.nan), Column("d", math.nan))
        self._ends: dict[int, tuple[int, int]] = {}
        self._settled: dict[int, Outcome] | None = None
        self._order: NDArray[np.uint32] | None = None
        self._names: list[str] = []

    def add(self, comparison: Comparison, vote: Annotation, within: str | None = None) -> tuple[int, bool]:
        """Add a vote; returns (number of the comparison, whether its texts are to be kept from now on).

        Rows may differ in the white space around their texts. The longest texts are kept, whatever the row order.

        Args:
            within: votes are aggregated together only where this is equal too.
        """
        key, in_order = comparison.alike()
        key = key if within is None else short_hash(key.hex(), within)
        number, _ = self._numbers.add(key)
        self._of.append(number)
        self._who.append(self._people.setdefault(vote.annotator, len(self._people)))
        self._choice.append(CHOICES.index(vote.choice if in_order else turned(vote.choice)))
        self._count.append(vote.count)
        self._margins.append(_nan(vote.margin))
        scores = (vote.score_a, vote.score_b) if in_order else (vote.score_b, vote.score_a)
        for column, score in zip(self._scores, scores, strict=True):
            column.append(_nan(score))
        self._settled = None
        if self._how == "bradley_terry" and number not in self._ends:
            self._ends[number] = _ends(comparison, in_order)
        return number, self._is_best(number, comparison)

    def _is_best(self, number: int, comparison: Comparison) -> bool:
        lengths, ids = self._rank
        length = sum(map(len, (comparison.prompt, comparison.completion_a, comparison.completion_b)))
        rank = (length, int(comparison.id[:8], 16))
        if number == len(lengths):
            lengths.append(rank[0])
            ids.append(rank[1])
            return True
        if rank <= (lengths[number], ids[number]):
            return False
        lengths[number], ids[number] = rank
        return True

    def decide(self, number: int, comparison: Comparison) -> Decision:
        """Aggregate the votes on a comparison.

        Args:
            comparison: the texts kept by :meth:`add`.
        """
        in_order = comparison.alike()[1]
        outcome = self._outcome(number, in_order)
        votes = self._votes(number, comparison.id, in_order)
        several = outcome.n > 1 or self._how == "bradley_terry"
        who = f"{self._how}:{outcome.n}" if several else votes[0].annotator
        strengths = ((v.choice, v.margin) for v in votes for _ in range(v.count))
        won = outcome.choice in ("a", "b") and (self._margin != "strength" or not self._margins.alike)
        margin = margin_of(outcome, self._margin, strengths) if won else None
        return Decision(comparison, outcome, votes, who, margin)

    def choice(self, number: int) -> str | None:
        """The outcome's choice; which completion is ``a`` is unspecified."""
        return self._outcome(number).choice

    @property
    def several(self) -> bool:
        """Whether any comparison has several votes."""
        return self._votes_counted() > len(self._numbers)

    def _votes_counted(self) -> int:
        return len(self._of) if self._count.alike else int(self._count.numpy().sum())

    def counts(self) -> JsonObject:
        """For the manifest: ``comparisons``, ``votes``, named ``people``.

        Where any comparison has several votes, also ``aggregate`` and ``agreement``: ``raw`` and ``alpha`` of
        :class:`pipeline.labelling.vote_summary.Summary`.
        """
        people = len(self._people.keys() - {self._set_name})
        counts: JsonObject = {"comparisons": len(self._numbers), "votes": self._votes_counted()}
        counts |= {"people": people} if people else {}
        if self.several:
            raw, alpha = self._agreement()
            counts |= {"aggregate": self._how, "agreement": {"raw": to_json(raw), "alpha": to_json(alpha)}}
        return counts

    def _agreement(self) -> tuple[RawAgreement, Alpha]:
        import numpy as np

        n, k = len(self._numbers), len(CHOICES)
        cell = np.array(self._of, np.int64) * k + np.array(self._choice)
        table = np.bincount(cell, weights=self._count.numpy(), minlength=n * k).reshape(n, k).astype(np.int64)
        return agreement(table, np.arange(n))

    def _outcome(self, number: int, in_order: bool = True) -> Outcome:
        if self._settled is None:
            self._settled = self._settle()
        outcome = self._settled.get(number)
        if outcome is None:
            choice = CHOICES[self._choice[self._places(number)[0]]]
            return _only(choice if in_order else turned(choice))
        if not in_order and outcome.choice in ("a", "b"):
            return replace(outcome, choice=turned(outcome.choice))
        return outcome

    def _settle(self) -> dict[int, Outcome]:
        """The outcomes, except of single votes under ``majority``, which :func:`_only` decides."""
        self._group()
        answers: dict[str, list[tuple[str, str]]] = {}
        numbers: dict[str, int] = {}
        for number in self._to_settle().tolist():
            key = self._numbers.key(number).hex()
            numbers[key] = number
            answers[key] = sorted(
                (self._names[self._who[i]], CHOICES[self._choice[i]])
                for i in self._places(number)
                for _ in range(self._count[i])
            )
        outcomes = aggregate_pairs(answers, self._how, lambda key: self._ends[numbers[key]])
        return {numbers[key]: outcome for key, outcome in outcomes.items()}

    def _to_settle(self) -> NDArray[np.int64]:
        """The comparisons to aggregate, in the order of their keys."""
        import numpy as np

        if not self.several and self._how == "majority":
            return np.empty(0, np.int64)
        weights = None if self._count.alike else self._count.numpy()
        votes = np.bincount(np.frombuffer(self._of, np.uint32), weights, len(self._numbers))
        several = np.flatnonzero(votes > 1) if self._how == "majority" else np.arange(len(self._numbers))
        return self._numbers.in_order(several)

    def _group(self) -> None:
        import numpy as np

        self._names = list(self._people)
        self._order = None
        if len(self._of) == len(self._numbers):
            return  # a comparison's vote is at its number
        of = np.array(self._of, np.uint32)
        self._order = np.argsort(of, kind="stable").astype(np.uint32)
        self._starts = np.zeros(len(self._numbers) + 1, np.uint32)
        np.cumsum(np.bincount(of, minlength=len(self._numbers)), out=self._starts[1:])

    def _places(self, number: int) -> list[int]:
        if self._order is None:
            return [number]
        return self._order[self._starts[number] : self._starts[number + 1]].tolist()

    def _votes(self, number: int, id: str, in_order: bool) -> list[Annotation]:
        counts: dict[tuple[Any, ...], int] = {}
        for i in self._places(number):
            choice: Choice = CHOICES[self._choice[i]]
            a, b = _value(self._scores[0][i]), _value(self._scores[1][i])
            if not in_order:
                choice, a, b = turned(choice), b, a
            vote = (id, self._names[self._who[i]], choice, a, b, _value(self._margins[i]))
            counts[vote] = counts.get(vote, 0) + self._count[i]
        votes = [Annotation(*vote, count=n) for vote, n in counts.items()]
        return sorted(votes, key=_in_order) if len(votes) > 1 else votes


def summary(counts: Row) -> str:
    """``96 comparisons from 480 votes of 5 people, by majority: 96 decided, 0 even``.

    Args:
        counts: of :meth:`Judgements.counts`, and of comparisons by :data:`KINDS`.
    """
    line = f"{counts['comparisons']:,} comparisons"
    several = "aggregate" in counts
    if several or counts.get("people"):
        line += f" from {counts['votes']:,} votes"
    if people := counts.get("people"):
        line += f" of {people:,} {'person' if people == 1 else 'people'}"
    line += f", by {_CALLED[counts['aggregate']]}" if several else ""
    names = {"decided": "decided", "ties": "tie" if counts["ties"] == 1 else "ties", "both_bad": "both bad"}
    kinds = [f"{counts[key]:,} {name}" for key, name in names.items() if counts[key] or key == "decided"]
    kinds += [f"{counts['split_votes']:,} even"] if several else []
    if counts.get("straddling_the_split"):
        kinds.append(f"{counts['straddling_the_split']:,} straddling the split")
    line += f": {', '.join(kinds)}"
    alpha = counts["agreement"]["alpha"]["value"] if several else None
    return line if alpha is None else f"{line}; agreement {alpha:.2f} (Krippendorff's alpha)"


@cache
def _only(choice: str) -> Outcome:
    return aggregate_pairs({"": [("", choice)]}, "majority", lambda _: (0, 1))[""]


def _ends(comparison: Comparison, in_order: bool) -> tuple[int, int]:
    """A hash of each completion with its prompt, the first of :meth:`Comparison.alike` first."""
    texts = (comparison.completion_a, comparison.completion_b)
    a, b = (int.from_bytes(short_hash(comparison.prompt.strip(), text.strip())) for text in texts)
    return (a, b) if in_order else (b, a)


def _in_order(vote: Annotation) -> tuple[Any, ...]:
    numbers = (vote.margin, vote.score_a, vote.score_b)
    return (vote.annotator, vote.choice, *((n is None, n or 0.0) for n in numbers))


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _value(value: float) -> float | None:
    return None if value != value else value
