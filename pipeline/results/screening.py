"""Results of a harm screening: the stats of a ``screening`` version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.results.sides import Change
from pipeline.statistics.intervals import Estimate


@dataclass(frozen=True, kw_only=True)
class Screen:
    """How many completions one screen flagged.

    Attributes:
        kind: a list of words, or a classifier.
        labels: that count: the word list's categories, the classifier's labels.
        threshold: probability from which a classifier's label counts; None of words.
        truncated: completions that were longer than the classifier reads.
        flagged: share of completions with any label, those of one prompt averaged first.
        by_label: the same of each label.
    """

    kind: Literal["words", "classifier"]
    labels: Sequence[str]
    threshold: float | None
    truncated: int = 0
    flagged: Change
    by_label: Mapping[str, Change]


@dataclass(frozen=True, kw_only=True)
class Screening:
    """The completions of an evaluation, policy beside base on the same held-out prompts.

    Attributes:
        n: prompts.
        screens: by name: ``words``, or the classifier's id or path.
    """

    n: int
    completions_per_prompt: int
    screens: Mapping[str, Screen]

    @property
    def main(self) -> tuple[str, Screen]:
        """The screen that counts: the classifier where there is one, as words miss what is hostile and polite."""
        return max(self.screens.items(), key=lambda named: named[1].kind == "classifier")


def harm_rate_over_base(screening: Screening) -> Estimate:
    """The share of flagged completions of the policy less that of the base, paired by prompt; above 0 is worse.

    Of the classifier where one was used, else of the word list: a share beside the base, never a judgement of one
    text.
    """
    return screening.main[1].flagged.difference
