"""Has a policy collapsed? One rule, for the evaluation, the report, the doctor and sweeps. Needs no torch.

What a policy says to different prompts is compared, not what it says to one: where each prompt has one best answer
(a shortest walk, a label, a sum), a policy that always gives it has learnt the task, and its answers still differ
as the prompts do. Collapsed is one that gives the same sentence to prompts that ask for different things. So three
things have to come together: far fewer different last (or first) sentences, one of them on a large share of all
completions, and fewer different n-grams, so that a greeting or a signature that was asked for, on texts that vary
as before, is none. A base that was as uniform already leaves nothing to collapse.

Another collapse shows in no sentence: thousands of different ones, all of one form. There patterns of sentences
(:mod:`pipeline.texts.patterns`) are compared in the same way. Completions of one sentence are answers, which may
all be asked for in one form ("It is the melon."), and are not judged by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.texts.diversity import Common, Diversity, Effective

Place = Literal["end", "begin", "pattern"]

LONGEST = 80
"""Characters of a sentence that is quoted in a message."""

HALF = 0.5
"""Of the base's effective number of last (first) sentences."""

QUARTER = 0.25
"""Of all completions end (begin) with one sentence. Where every prompt has its own best answer the most common one
may still answer many: .14 on random walks at their optimum, of 115 prompts."""

NGRAMS_LEFT = 0.9
"""Of the base's effective number of n-grams."""

PATTERNS_LEFT = 0.4
"""Of the base's effective number of patterns. Shorter texts alone leave half: where a prompt is continued, the
first sentence is mostly of one pattern, and it is a larger part of a shorter text. docs/doctor.md has the runs."""

PATTERN_SHARE = 0.4
"""Of all sentences are of the most common pattern; .33 of the first kind's were, in texts that read varied."""

ONE_SENTENCE = 1.5
"""Sentences per completion, below which most have one."""

SURE = 1.645
"""Standard errors: 95 %, one-sided."""


COUNTED: Mapping[Place, str] = {
    "end": "closing sentences",
    "begin": "first sentences",
    "pattern": "patterns of sentences",
}
"""What is counted, in words."""

DOES: Mapping[Place, str] = {"end": "end in", "begin": "begin with", "pattern": "of all sentences are"}
"""What a share of completions does, or of sentences."""


@dataclass(frozen=True)
class Collapse:
    """A collapse: its kind and its extent.

    Attributes:
        place: whether completions ``end`` or ``begin`` alike, or their sentences are of one ``pattern``.
        text: the sentence that most do, and ``share`` how many of all; or the pattern, and of all sentences.
        share_before: of the most common one, before.
        before, now: effective numbers of such sentences, or of patterns.
    """

    place: Place
    text: str
    share: float
    share_before: float
    before: float
    now: float

    def __str__(self) -> str:
        return (
            f"{number(self.now)} effective {COUNTED[self.place]}, {number(self.before)} before; "
            f"{percent(self.share)} {having(self.text, self.place)}, "
            f"{percent(self.share_before)} in the most common one before"
        )


def collapse(before: Diversity, now: Diversity, sure: float = SURE) -> Collapse | None:
    """The collapse of what completions end in, begin with, or have as pattern; None where there is none.

    Args:
        before, now: of the base and of the policy, or of a run's first and latest rollouts: of as many completions
            each, with n-grams and patterns stated for the same number of them.
        sure: standard errors by which the effective number and the share have to be past their limits; take more
            where the rule is asked again and again.
    """
    return sentence_collapse(before, now, sure) or pattern_collapse(before, now, sure)


def sentence_collapse(before: Diversity, now: Diversity, sure: float = SURE) -> Collapse | None:
    """The collapse of what completions end in, or begin with; see :func:`collapse`."""
    if before.ngrams and now.ngrams and now.ngrams.value > NGRAMS_LEFT * before.ngrams.value:
        return None
    return _at("end", before, now, sure) or _at("begin", before, now, sure)


def pattern_collapse(before: Diversity, now: Diversity, sure: float = SURE) -> Collapse | None:
    """The collapse of the patterns of sentences; see :func:`collapse`."""
    if now.sentences < ONE_SENTENCE:
        return None
    return _at("pattern", before, now, sure, PATTERNS_LEFT, PATTERN_SHARE)


def _at(
    place: Place,
    before: Diversity,
    now: Diversity,
    sure: float,
    limit: float = HALF,
    least: float = QUARTER,
) -> Collapse | None:
    (was, old), (left, common) = _of(place, before), _of(place, now)
    error = math.hypot(was.error, left.error)
    if math.isnan(error) or math.log(left.value / was.value) + sure * error >= math.log(limit):
        return None
    p, q = old.share, common.share
    # Completions of one prompt go together, so prompts are what is counted.
    rise = sure * math.sqrt(p * (1 - p) / before.groups + q * (1 - q) / now.groups)
    return Collapse(place, common.text, q, p, was.value, left.value) if q >= least and q - p > rise else None


def _of(place: Place, side: Diversity) -> tuple[Effective, Common]:
    return {
        "end": (side.closings, side.closing),
        "begin": (side.openings, side.opening),
        "pattern": (side.patterns, side.pattern),
    }[place]


def number(value: float) -> str:
    """An effective number, with a decimal where it is small: ``4.5``, ``83``."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def percent(share: float) -> str:
    """``52 %``."""
    return f"{100 * share:.0f} %"


def having(sentence: str, place: Place = "end") -> str:
    """What completions do: ``end in "My friends loved it too."``, or ``are empty``; a long sentence is cut.

    Or what sentences do: ``are "the … was …"``.
    """
    if not sentence:
        return "are empty"
    text = sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1].rstrip() + "…"
    return f'{DOES[place]} "{text}"'
