"""When to stop, and which policy to keep: the KL budget, the floor of diversity, and a held-out score that falls
while the proxy rises.

Over-optimisation is Goodhart's law at work on a learnt reward (Gao et al. 2023, arXiv:2210.10760): past some KL
the proxy goes on rising and what it stands for falls. It is looked for on held-out prompts, by a score that is not
trained on: the task's gold score, or a judge such as an ensemble.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline.statistics.overoptimised import Evaluated, fell, paired_error


@dataclass
class Held:
    """Figures of the policy on the held-out prompts at one update.

    Attributes:
        update: the policy after that many updates.
        kl: mean KL k1 in nats per completion.
        score: mean proxy score.
        checks: of each completion, in the order of the prompts; empty without a judge.
        fall_error: standard error of the difference of the judge's mean to the best before, paired by prompt; None
            where there is none.
        closings: effective number of the completions' closing sentences; None where it was not measured.
    """

    update: int
    kl: float
    score: float
    checks: list[float] = field(default_factory=list[float])
    closings: float | None = None
    fall_error: float | None = None

    @property
    def check(self) -> float | None:
        """Mean of the judge, None without one."""
        return sum(self.checks) / len(self.checks) if self.checks else None

    @property
    def rank(self) -> float:
        """By which the best is chosen: the judge where there is one, else the proxy."""
        return self.score if self.check is None else self.check


@dataclass
class Watch:
    """Takes held-out figures in order; says which policy is the best within budget and when to stop."""

    kl_budget: float | None
    patience: int
    best: Held | None = None
    falls: int = 0
    diversity_floor: float | None = None
    first: Held | None = None
    top: Held | None = None
    """The best by the judge, within the budget or not: what the others have fallen from."""
    varied: Held | None = None
    """The last evaluation above the floor."""

    def take(self, held: Held) -> bool:
        """Take one evaluation into account; True when it is the best so far within budget and above the floor."""
        if self.first is None:
            self.first = held
        if self.above_floor(held):
            self.varied = held
        self.falls = self.falls + 1 if self._fell(held) else 0
        if self.top is None or (
            held.check is not None and self.top.check is not None and held.check > self.top.check
        ):
            self.top = held
        if self.kl_budget is not None and held.kl > self.kl_budget:
            return False
        if not self.above_floor(held):
            return False
        if self.best is None or held.rank > self.best.rank:
            self.best = held
            return True
        return False

    @classmethod
    def of(cls, figures: dict[str, Any]) -> Watch:
        """From its figures as plain JSON, as :func:`dataclasses.asdict` gives them."""
        held = {k: v and Held(**v) for k, v in figures.items() if k in ("best", "first", "top", "varied")}
        return cls(**{**figures, **held})

    @property
    def first_closings(self) -> float:
        """Effective closing sentences of the first evaluation; NaN where they were not counted."""
        first = None if self.first is None else self.first.closings
        return math.nan if first is None else first

    def left(self, held: Held) -> float | None:
        """The share of the first evaluation's effective closing sentences; None where they were not counted.

        The first is that of the policy before any step, on the same prompts with the same randomness, and of as
        many completions: effective numbers of different sample sizes cannot be compared.
        """
        return (
            None
            if math.isnan(self.first_closings) or held.closings is None
            else held.closings / self.first_closings
        )

    def described(self, held: Held | None) -> str:
        """``12.3 (34%) effective closing sentences``; empty where they were not counted."""
        left = None if held is None else self.left(held)
        return (
            "" if held is None or left is None else f"{held.closings:.1f} ({left:.0%}) effective closing sentences"
        )

    def above_floor(self, held: Held) -> bool:
        """True where there is no floor."""
        left = self.left(held)
        return self.diversity_floor is None or left is None or left >= self.diversity_floor

    @property
    def overoptimised(self) -> bool:
        """True once the judge fell and the proxy rose ``patience`` evaluations in a row."""
        return self.patience > 0 and self.falls >= self.patience

    def _fell(self, now: Held) -> bool:
        """By the rule that ``evaluate`` and the doctor go by too: :mod:`pipeline.statistics.overoptimised`."""
        first, top = self.first, self.top
        if first is None or top is None or first.check is None or top.check is None or now.check is None:
            return False
        now.fall_error = paired_error(now.checks, top.checks)
        return fell(
            Evaluated(first.check, first.score),
            Evaluated(top.check, top.score),
            Evaluated(now.check, now.score, now.fall_error),
        )
