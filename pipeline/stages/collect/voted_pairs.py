"""The rows of ``collect``'s datasets, from a source of judged comparisons: every comparison once.

The texts of a million judgements do not fit into memory, so they are kept in temporary files.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.annotators import Source
from pipeline.base.process import watched
from pipeline.base.records import Comparison, preference_from
from pipeline.base.stored_rows import StoredRows
from pipeline.labelling.judgements import KINDS, Decision, Judgements, summary

Row = dict[str, Any]
MOST_PROMPTS = 100_000
Side = Callable[[str, Sequence[str]], str | None]


class Voted:
    """The votes of a source, read once; see :class:`pipeline.stages.collect.answered_pairs.Rows`.

    Args:
        source: its attributes ``aggregate`` and ``margin``, where it has them, say how votes become outcomes.
        side: the split of a prompt's completions, None for neither.
        directory: of the temporary files.
    Attributes:
        prompts: the number of distinct prompts; no more than ``MOST_PROMPTS`` are counted.
        counts: for the manifest.
    """

    def __init__(self, source: Source, side: Side, directory: Path) -> None:
        self._judgements = Judgements(
            getattr(source, "aggregate", "majority"), getattr(source, "margin", "strength"), source.name
        )
        self._splits = array("B")  # an index into self._names
        self._names: list[str | None] = []
        self._stored: list[StoredRows] = []  # (number, comparison) by split
        self._line = array("I")  # of its split's
        prompts = set[int]()
        self._directory = directory if directory.is_dir() else None
        for comparison, vote in watched(source.judged(), "collect", "judgements read"):
            number, kept = self._judgements.add(comparison, vote)
            if kept:
                split = side(comparison.prompt, (comparison.completion_a, comparison.completion_b))
                self._keep(number, comparison, self._number_of(split))
                if len(prompts) < MOST_PROMPTS:
                    prompts.add(hash(comparison.prompt))
        self.prompts = len(prompts)
        self._kinds = Counter[tuple[str | None, str]]()
        for number, split in enumerate(self._splits):
            self._kinds[self._names[split], KINDS[self._judgements.choice(number)]] += 1
        self.counts = self._counted()

    def _keep(self, number: int, comparison: Comparison, split: int) -> None:
        if number == len(self._line):
            self._line.append(0)
            self._splits.append(0)
        self._line[number], self._splits[number] = len(self._stored[split]), split
        self._stored[split].append((number, *comparison.stored()) if self._names[split] is not None else ())

    def _number_of(self, split: str | None) -> int:
        if split not in self._names:
            self._names.append(split)
            self._stored.append(StoredRows(self._directory))
        return self._names.index(split)

    def _counted(self) -> Row:
        kinds = Counter[str]()
        for (_, kind), n in self._kinds.items():
            kinds[kind] += n
        by_kind = {kind: kinds[kind] for kind in dict.fromkeys(KINDS.values())}
        return {**self._judgements.counts(), **by_kind, "straddling_the_split": self._in_neither()}

    def _in_neither(self) -> int:
        return self._splits.count(self._names.index(None)) if None in self._names else 0

    def decided(self, split: str) -> int:
        """The number of training rows of a split."""
        return self._kinds[split, "decided"]

    def comparisons(self, split: str) -> Iterator[Row]:
        """The comparisons of a split, each once."""
        for _, c in self._texts(split):
            yield {"id": c.id, "prompt": c.prompt, "completion_a": c.completion_a, "completion_b": c.completion_b}

    def preferences(self, split: str) -> Iterator[Row]:
        """The training rows of the decided comparisons."""
        for decision in self._decisions(split):
            annotation = decision.annotation()
            row = preference_from(decision.comparison, annotation) if annotation is not None else None
            if row is not None:
                # The id is of the three texts in their order, as the comparison's is.
                row_id = decision.comparison.id if row.chosen == decision.comparison.completion_a else row.id
                yield {"id": row_id, **vars(row)}

    def votes(self, split: str) -> Iterator[Row]:
        """Every vote, ties included."""
        for decision in self._decisions(split):
            yield from decision.vote_rows()

    def outcomes(self, split: str) -> Iterator[Row] | None:
        """The outcome of each comparison's votes; None where no comparison has several."""
        if not self._judgements.several:
            return None
        return (decision.outcome_row() for decision in self._decisions(split))

    def unpaired(self, split: str) -> None:
        """None: comparisons were judged."""

    def sentence(self) -> str:
        """The counts of votes and outcomes, in one line."""
        return summary(self.counts)

    def _decisions(self, split: str) -> Iterator[Decision]:
        return (self._judgements.decide(number, comparison) for number, comparison in self._texts(split))

    def _texts(self, split: str) -> Iterator[tuple[int, Comparison]]:
        if split not in self._names:
            return
        own = self._names.index(split)
        stored = self._stored[own]
        rows = watched(stored, "collect", f"comparisons of split {split} written", len(stored))
        for at, (number, *comparison) in enumerate(rows):
            if self._line[number] == at and self._splits[number] == own:  # else longer texts came later
                yield number, Comparison.restored(*comparison)
