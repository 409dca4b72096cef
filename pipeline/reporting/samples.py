"""Choose the completions of a page: the largest gains, the largest losses, and random ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

from pipeline.reporting.renderers import drawn
from pipeline.texts.score_course import FOLDED, Course

Kind = Literal["gain", "loss", "random"]


@dataclass(frozen=True)
class Sample:
    """One prompt with the base's completion (before) and the policy's (after). Texts are untrusted.

    Attributes:
        turns: (role, text) of a prompt that is a conversation of several turns; empty of any other.
        before_cut, after_cut: the length limit ended it.
        number: of its row.
        before_course, after_course: of the proxy score over the completion.
        before_picture, after_picture: what the text stands for, drawn; see :mod:`pipeline.reporting.renderers`.
    """

    prompt: str
    before: str
    after: str
    score_before: float | None = None
    score_after: float | None = None
    gold_score_before: float | None = None
    gold_score_after: float | None = None
    before_cut: bool = False
    after_cut: bool = False
    kind: Kind = "random"
    number: int = 0
    before_course: Course | None = None
    after_course: Course | None = None
    before_picture: Markup | None = None
    after_picture: Markup | None = None
    turns: Sequence[tuple[str, str]] = ()

    @property
    def change(self) -> float | None:
        """After minus before, in gold score where there is one, else in proxy score."""
        for before, after in (
            (self.gold_score_before, self.gold_score_after),
            (self.score_before, self.score_after),
        ):
            if before is not None and after is not None:
                return after - before
        return None


def choose_samples(samples: Sequence[Sample], each: int = 4, seed: int = 0) -> list[Sample]:
    """At most ``each`` of the largest gains, the largest losses and random ones, no sample twice."""
    order = sorted((s for s in samples if s.change is not None), key=lambda s: s.change or 0.0)
    losses = [s for s in order[:each] if (s.change or 0.0) < 0]
    gains = [s for s in order[::-1][:each] if (s.change or 0.0) > 0]
    taken = {id(s) for s in [*losses, *gains]}
    rest = [s for s in samples if id(s) not in taken]
    picked = random.Random(seed).sample(rest, min(each, len(rest)))
    kinds: tuple[tuple[Kind, list[Sample]], ...] = (("gain", gains), ("loss", losses), ("random", picked))
    return [replace(sample, kind=kind) for kind, chosen in kinds for sample in chosen]


def with_pictures(samples: Sequence[Sample], renderer: str | None) -> list[Sample]:
    """The samples with what their texts stand for, where the task names a renderer."""
    return [
        replace(
            s, before_picture=drawn(renderer, s.prompt, s.before), after_picture=drawn(renderer, s.prompt, s.after)
        )
        for s in samples
    ]


def folded(text: str) -> tuple[str, str]:
    """Cut a text into what is shown at first and the rest, between words if possible."""
    if len(text) <= 1.25 * FOLDED:
        return text, ""
    cut = max(text.rfind(" ", FOLDED // 2, FOLDED), text.rfind("\n", FOLDED // 2, FOLDED)) + 1
    return text[: cut or FOLDED], text[cut or FOLDED :]
