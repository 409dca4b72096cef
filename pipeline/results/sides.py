"""The two sides of an evaluation, what both are measured by, and a figure of both with its difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.statistics.intervals import Estimate

Side = Literal["base", "policy"]
SIDES: tuple[Side, Side] = ("base", "policy")

Measure = Literal["gold_score", "score"]
MEASURES: dict[Measure, str] = {"gold_score": "gold", "score": "proxy"}
"""The scores of a completion, what is wanted first, and what each is called."""


@dataclass(frozen=True)
class Change:
    """A mean on both sides.

    Attributes:
        difference: policy - base, paired by prompt.
    """

    base: Estimate
    policy: Estimate
    difference: Estimate
