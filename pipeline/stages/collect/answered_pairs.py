"""The rows of ``collect``'s datasets, from an annotator's answers to sampled comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.base.records import LIKED, VOTES, Abstention, Annotation, Comparison, digest, preference_from
from pipeline.labelling.row_schemas import SPLITS

Row = dict[str, Any]
_LIKES = {choice: likes for likes, choice in LIKED.items()}


class Rows(Protocol):
    """The rows of the datasets by split, and their counts: :class:`Answered`, or voted_pairs.Voted."""

    prompts: int
    counts: Row

    def decided(self, split: str) -> int: ...
    def comparisons(self, split: str) -> Iterator[Row]: ...
    def preferences(self, split: str) -> Iterator[Row]: ...
    def votes(self, split: str) -> Iterator[Row]: ...
    def outcomes(self, split: str) -> Iterator[Row] | None: ...
    def unpaired(self, split: str) -> Iterator[Row] | None: ...
    def sentence(self) -> str: ...


@dataclass(frozen=True)
class Judged:
    """A comparison, its answer, and its split; None where its texts are in both splits."""

    comparison: Comparison
    answer: Annotation | Abstention
    split: str | None


class Answered:
    """The answers of an annotator, one to each sampled comparison.

    Args:
        singly: they are votes on each completion by itself.
    """

    def __init__(self, judged: list[Judged], singly: bool = False) -> None:
        self._judged, self._singly = judged, singly
        self.prompts = len({j.comparison.prompt for j in judged})
        kinds = [j.answer.choice if isinstance(j.answer, Annotation) else "abstained" for j in judged]
        self.counts = {
            "comparisons": len(kinds),
            "decided": kinds.count("a") + kinds.count("b"),
            "ties": kinds.count("tie"),
            "both_bad": kinds.count("both_bad"),
            "abstained": kinds.count("abstained"),
            "straddling_the_split": sum(j.split is None for j in judged),
        }
        if singly:
            self.counts["single_votes"] = sum(len(list(self.unpaired(split) or ())) for split in SPLITS)

    def decided(self, split: str) -> int:
        """The number of training rows of a split."""
        return sum(1 for _ in self.preferences(split))

    def comparisons(self, split: str) -> Iterator[Row]:
        """The comparisons of a split, each once."""
        for c in {j.comparison.id: j.comparison for j in self._of(split)}.values():
            yield {"id": c.id, "prompt": c.prompt, "completion_a": c.completion_a, "completion_b": c.completion_b}

    def preferences(self, split: str) -> Iterator[Row]:
        """The training rows of the decided comparisons, each once."""
        seen: set[str] = set()
        for j in self._of(split):
            row = preference_from(j.comparison, j.answer) if isinstance(j.answer, Annotation) else None
            if row is not None and row.id not in seen:
                seen.add(row.id)
                yield {"id": row.id, **vars(row)}

    def votes(self, split: str) -> Iterator[Row]:
        """Every answer, ties and abstentions included."""
        for j in self._of(split):
            key = digest([j.answer.comparison_id, j.answer.annotator])
            yield {**dict.fromkeys(VOTES), "id": key, **vars(j.answer)}

    def outcomes(self, split: str) -> None:
        """None: each answer is the outcome."""

    def unpaired(self, split: str) -> Iterator[Row] | None:
        """Each completion with the vote on it, once; None where two were compared."""
        if not self._singly:
            return None
        rows: dict[str, Row] = {}
        for j in self._of(split):
            if isinstance(j.answer, Annotation):
                texts = (j.comparison.completion_a, j.comparison.completion_b)
                for text, label in zip(texts, _LIKES[j.answer.choice], strict=True):
                    row: Row = {"prompt": j.comparison.prompt, "completion": text, "label": label}
                    row_id = digest([*row.values()])
                    rows[row_id] = {"id": row_id, **row, "annotator": j.answer.annotator}
        return iter(rows.values())

    def sentence(self) -> str:
        """The counts, in one line."""
        return ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in self.counts.items())

    def _of(self, split: str) -> Iterator[Judged]:
        return (j for j in self._judged if j.split == split)
