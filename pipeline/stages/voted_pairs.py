"""The rows of ``collect``'s datasets, from a source of judged comparisons: every comparison once.

The texts of a million judgements do not fit into memory, so they are kept in a temporary file.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.annotators import Source
from pipeline.base.files import disk_errors
from pipeline.base.records import Comparison, preference_from
from pipeline.labelling.judgements import KINDS, Decision, Judgements, summary

Row = dict[str, Any]
Side = Callable[[str, Sequence[str]], str | None]


class Voted:
    """The votes of a source, read once; see :class:`pipeline.stages.answered_pairs.Rows`.

    Args:
        source: its attributes ``aggregate`` and ``margin``, where it has them, say how votes become outcomes.
        side: the split of a prompt's completions, None for neither.
        directory: of the temporary file.
    Attributes:
        prompts: the number of distinct prompts.
        counts: for the manifest.
    """

    def __init__(self, source: Source, side: Side, directory: Path) -> None:
        self._judgements = Judgements(
            getattr(source, "aggregate", "majority"), getattr(source, "margin", "strength"), source.name
        )
        self._splits: list[str | None] = []
        self._line = array("q")  # of the file, which holds the texts of each comparison
        self._written = 0
        prompts = set[int]()
        with disk_errors(str(directory)):
            place = directory if directory.is_dir() else None
            self._file: IO[str] = tempfile.TemporaryFile("w+", dir=place, encoding="utf-8")  # noqa: SIM115
            for comparison, vote in source.judged():
                number, kept = self._judgements.add(comparison, vote)
                if kept:
                    self._keep(number, comparison)
                    self._splits[number] = side(
                        comparison.prompt, (comparison.completion_a, comparison.completion_b)
                    )
                    prompts.add(hash(comparison.prompt))
        self.prompts = len(prompts)
        self._kinds = Counter[tuple[str | None, str]]()
        for number, split in enumerate(self._splits):
            self._kinds[split, KINDS[self._judgements.choice(number)]] += 1
        self.counts = self._counted()

    def _keep(self, number: int, comparison: Comparison) -> None:
        if number == len(self._line):
            self._line.append(0)
            self._splits.append(None)
        self._line[number] = self._written
        self._written += 1
        texts = (comparison.prompt, comparison.completion_a, comparison.completion_b)
        self._file.write(json.dumps([number, *texts], ensure_ascii=False) + "\n")

    def _counted(self) -> Row:
        kinds = Counter[str]()
        for (_, kind), n in self._kinds.items():
            kinds[kind] += n
        by_kind = {kind: kinds[kind] for kind in dict.fromkeys(KINDS.values())}
        return {**self._judgements.counts(), **by_kind, "straddling_the_split": self._splits.count(None)}

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
                yield {"id": row.id, **vars(row)}

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

    def _decisions(self, split: str | None) -> Iterator[Decision]:
        return (self._judgements.decide(number, comparison) for number, comparison in self._texts(split))

    def _texts(self, split: str | None) -> Iterator[tuple[int, Comparison]]:
        self._file.seek(0)
        for at, line in enumerate(self._file):
            number, *texts = json.loads(line)
            if self._line[number] == at and self._splits[number] == split:
                yield number, Comparison(*texts)
