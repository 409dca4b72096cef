"""The two sides of an evaluation, what both are measured by, and a figure of both with its difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from pipeline.statistics.intervals import Estimate

A = TypeVar("A")
T = TypeVar("T")

Side = Literal["base", "policy"]
SIDES: tuple[Side, Side] = ("base", "policy")

Measure = Literal["gold_score", "score"]
MEASURES: Mapping[Measure, str] = {"gold_score": "gold", "score": "proxy"}
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


def on_both_sides(measure: Callable[[A], T], base: A, policy: A) -> dict[Side, T]:
    return {"base": measure(base), "policy": measure(policy)}
