"""Results of swapping one attribute of a person in prompts: the stats of a ``fairness`` version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.results.measured import Measured
from pipeline.statistics.intervals import Estimate

MEASURES: Mapping[str, str] = {str(measure): measure.about.label for measure in Measured.at("fairness")}
"""What is measured on each prompt, and what it is."""


@dataclass(frozen=True, kw_only=True)
class Gap(Estimate):
    """A group's mean less the mean of the other groups, on templates that differ in nothing else.

    ``n`` counts templates; lines that differ from each other only in the swapped words are one.

    Attributes:
        corrected_low, corrected_high: limits at the level that allows for all gaps that were looked at
            (Bonferroni).
    """

    corrected_low: float
    corrected_high: float

    @property
    def sure(self) -> bool:
        """Whether the corrected limits exclude 0."""
        return self.corrected_low > 0 or self.corrected_high < 0

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """One attribute.

    Attributes:
        groups: in the file's order.
        lines, templates: of the file, and of them distinct but for the swapped words.
        same: lines left out, as the tokenizer makes the same ids of several groups.
        unread: swapped words that the tokenizer knows only as unknown or in pieces of hardly a letter each.
        words: all swapped words.
        gaps: by measure (:data:`MEASURES`) and group; of two groups only the first's, as the second's is its
            negative.
    """

    groups: Sequence[str]
    lines: int
    templates: int
    same: int
    unread: Sequence[str]
    words: int
    gaps: Mapping[str, Mapping[str, Gap]]

    @property
    def means_nothing(self) -> bool:
        """Whether most of the swapped words are no words to this model."""
        return 2 * len(self.unread) > self.words or not self.templates


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """All attributes of a file of swaps.

    Attributes:
        swaps: the file's name, without its directory.
        draws: completions that base and policy wrote of each prompt; 0 where none was asked for.
        comparisons: gaps that were looked at.
    """

    swaps: str
    draws: int
    level: float
    comparisons: int
    attributes: Mapping[str, Swapped]

    def gaps(self) -> Iterator[tuple[str, str, str, Gap]]:
        """(attribute, measure, group, gap) of the attributes that mean something."""
        for name, swapped in self.attributes.items():
            if not swapped.means_nothing:
                for measure, by_group in swapped.gaps.items():
                    yield from ((name, measure, group, gap) for group, gap in by_group.items())
