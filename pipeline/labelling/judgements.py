"""Judgements that somebody else collected, by comparison, and what those on each come to: as on our own page.

Only numbers are held, some 200 bytes a judgement, and no texts. Which rows are votes is
:class:`pipeline.formats.read_options.Repeats`' to say; the rules are those of :mod:`pipeline.labelling.aggregate`.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pipeline.base.records import CHOICES, Annotation, Choice, Comparison, digest, short_hash, turned
from pipeline.formats.read_options import Aggregation, Margin
from pipeline.labelling.aggregate import Outcome, aggregate_pairs, margin_of
from pipeline.labelling.agreement import agreement

Row = dict[str, Any]

KINDS = {"a": "decided", "b": "decided", "tie": "ties", "both_bad": "both_bad", None: "split_votes"}
"""What a comparison is counted as, by its outcome."""

_CALLED = {"majority": "majority", "dawid_skene": "Dawid and Skene", "bradley_terry": "Bradley and Terry"}


@dataclass(frozen=True)
class Decision:
    """What the votes on one comparison come to.

    Attributes:
        comparison: its texts; ``outcome`` and ``votes`` say ``a`` for its first completion.
        votes: equal ones of one annotator together, with their ``count``.
        annotator: who gave the only vote, else how and from how many votes it was decided.
    """

    comparison: Comparison
    outcome: Outcome
    votes: Sequence[Annotation]
    annotator: str
    margin: float | None

    def annotation(self) -> Annotation | None:
        """The one judgement that stands for all; None where the votes are even."""
        choice = self.outcome.choice
        if choice is None:
            return None
        assert choice in CHOICES, choice
        return Annotation(self.comparison.id, self.annotator, choice, margin=self.margin)

    def vote_rows(self) -> Iterator[Row]:
        """Rows of :data:`pipeline.base.records.VOTES`."""
        several = Counter(vote.annotator for vote in self.votes)
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
    """See the module's text.

    Args:
        aggregate, margin: as in the section ``label``.
        nobody: the name that annotations bear where nobody is named: the set's.
    """

    def __init__(self, aggregate: Aggregation = "majority", margin: Margin = "strength", nobody: str = "") -> None:
        self._how: Aggregation = aggregate
        self._margin: Margin = margin
        self._nobody = nobody
        self._numbers: dict[bytes, int] = {}
        self._rank = array("d"), array("Q")
        self._people: dict[str, int] = {}
        # A vote a place, all of the same length. NaN: not said. Sides are those of Comparison.alike.
        self._of, self._who, self._choice, self._count = array("q"), array("q"), array("b"), array("q")
        self._margins, self._scores = array("d"), (array("d"), array("d"))
        self._ends: dict[int, tuple[int, int]] = {}
        self._settled: dict[int, Outcome] | None = None
        self._names: list[str] = []

    def add(self, comparison: Comparison, vote: Annotation, within: str | None = None) -> tuple[int, bool]:
        """(number of the comparison, whether these are its texts from now on).

        Rows may differ in blanks around their texts. The longest ones are kept, whatever the order of rows.

        Args:
            within: votes count together only where this is the same too.
        """
        key, in_order = comparison.alike()
        key = key if within is None else short_hash(key.hex(), within)
        number = self._numbers.setdefault(key, len(self._numbers))
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
        rank = (float(length), int(comparison.id[:16], 16))
        if number == len(lengths):
            lengths.append(rank[0])
            ids.append(rank[1])
            return True
        if rank <= (lengths[number], ids[number]):
            return False
        lengths[number], ids[number] = rank
        return True

    def decide(self, number: int, comparison: Comparison) -> Decision:
        """What the votes on a comparison come to.

        Args:
            comparison: the texts that :meth:`add` said to keep.
        """
        in_order = comparison.alike()[1]
        outcome = self._outcome(number)
        if not in_order and outcome.choice in ("a", "b"):
            outcome = replace(outcome, choice=turned(outcome.choice))
        votes = sorted(self._votes(number, comparison.id, in_order), key=_in_order)
        said = ((v.choice, v.margin) for v in votes for _ in range(v.count)) if self._margin == "strength" else ()
        who = votes[0].annotator
        if outcome.n > 1 or self._how == "bradley_terry":
            who = f"{self._how}:{outcome.n}"
        margin = margin_of(outcome, self._margin, said) if outcome.choice in ("a", "b") else None
        return Decision(comparison, outcome, votes, who, margin)

    def choice(self, number: int) -> str | None:
        """What it comes to; which completion is ``a`` is not said."""
        return self._outcome(number).choice

    @property
    def several(self) -> bool:
        """Whether some comparison has several votes."""
        return sum(self._count) > len(self._numbers)

    def counts(self) -> dict[str, Any]:
        """For the manifest: ``comparisons``, ``votes``, ``people`` that are named.

        Where some comparison has several votes, also ``aggregate`` and ``agreement``, whose ``raw`` and ``alpha``
        are those of :func:`pipeline.labelling.agreement.summary`.
        """
        people = len(self._people.keys() - {self._nobody})
        counts: dict[str, Any] = {"comparisons": len(self._numbers), "votes": sum(self._count)}
        counts |= {"people": people} if people else {}
        if self.several:
            raw, alpha = self._agreement()
            counts |= {"aggregate": self._how, "agreement": {"raw": raw, "alpha": alpha}}
        return counts

    def _agreement(self) -> tuple[Row, Row]:
        import numpy as np

        n, k = len(self._numbers), len(CHOICES)
        cell = np.array(self._of) * k + np.array(self._choice)
        table = np.bincount(cell, weights=np.array(self._count), minlength=n * k).reshape(n, k).astype(np.int64)
        return agreement(table, np.arange(n))

    def _outcome(self, number: int) -> Outcome:
        if self._settled is None:
            self._settled = self._settle()
        one = self._settled.get(number)
        return one if one is not None else _only(CHOICES[self._choice[self._places(number)[0]]])

    def _settle(self) -> dict[int, Outcome]:
        """The outcomes, but for those of single votes where these say nothing of others."""
        self._group()
        answers: dict[str, list[tuple[str, str]]] = {}
        for key in sorted(self._numbers):
            places = self._places(self._numbers[key])
            if self._how == "majority" and len(places) == 1 and self._count[places[0]] == 1:
                continue
            answers[key.hex()] = sorted(
                (self._names[self._who[i]], CHOICES[self._choice[i]])
                for i in places
                for _ in range(self._count[i])
            )

        def sides(key: str) -> tuple[int, int]:
            return self._ends[self._numbers[bytes.fromhex(key)]]

        found = aggregate_pairs(answers, self._how, sides)
        return {self._numbers[bytes.fromhex(key)]: outcome for key, outcome in found.items()}

    def _group(self) -> None:
        import numpy as np

        self._names = list(self._people)
        of = np.array(self._of)
        self._order = np.argsort(of, kind="stable")
        self._starts = np.searchsorted(of[self._order], np.arange(len(self._numbers) + 1))

    def _places(self, number: int) -> list[int]:
        return self._order[self._starts[number] : self._starts[number + 1]].tolist()

    def _votes(self, number: int, id: str, in_order: bool) -> Iterator[Annotation]:
        counts = Counter[Annotation]()
        for i in self._places(number):
            choice: Choice = CHOICES[self._choice[i]]
            first, second = (_known(column[i]) for column in self._scores)
            a, b = (first, second) if in_order else (second, first)
            choice = choice if in_order else turned(choice)
            counts[Annotation(id, self._names[self._who[i]], choice, a, b, _known(self._margins[i]))] += (
                self._count[i]
            )
        return (replace(vote, count=n) for vote, n in counts.items())


def summary(counts: Row) -> str:
    """``96 comparisons from 480 votes of 5 people, by majority: 96 decided, 0 even``.

    Args:
        counts: those of :meth:`Judgements.counts`, and how many there are of each of :data:`KINDS`.
    """
    said = f"{counts['comparisons']:,} comparisons"
    several = "aggregate" in counts
    if several or counts.get("people"):
        said += f" from {counts['votes']:,} votes"
    if people := counts.get("people"):
        said += f" of {people:,} {'person' if people == 1 else 'people'}"
    said += f", by {_CALLED[counts['aggregate']]}" if several else ""
    names = {"decided": "decided", "ties": "tie" if counts["ties"] == 1 else "ties", "both_bad": "both bad"}
    kinds = [f"{counts[key]:,} {name}" for key, name in names.items() if counts[key] or key == "decided"]
    kinds += [f"{counts['split_votes']:,} even"] if several else []
    if counts.get("straddling_the_split"):
        kinds.append(f"{counts['straddling_the_split']:,} straddling the split")
    said += f": {', '.join(kinds)}"
    alpha = counts["agreement"]["alpha"]["value"] if several else None
    return said if alpha is None else f"{said}; agreement {alpha:.2f} (Krippendorff's alpha)"


@cache
def _only(choice: str) -> Outcome:
    return aggregate_pairs({"": [("", choice)]}, "majority", lambda _: (0, 1))[""]


def _ends(comparison: Comparison, in_order: bool) -> tuple[int, int]:
    """A number for each completion of this prompt, the first of :meth:`Comparison.alike` first."""
    texts = [comparison.completion_a.strip(), comparison.completion_b.strip()]
    first, second = texts if in_order else texts[::-1]
    prompt = comparison.prompt.strip()
    number = (int.from_bytes(short_hash(prompt, said)) for said in (first, second))
    return next(number), next(number)


def _in_order(vote: Annotation) -> tuple[Any, ...]:
    numbers = (vote.margin, vote.score_a, vote.score_b)
    return (vote.annotator, vote.choice, *((n is None, n or 0.0) for n in numbers))


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return None if value != value else value
