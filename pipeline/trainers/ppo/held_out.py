"""Figures of the policy on held-out prompts, and the rules that choose the best policy and stop the run.

Over-optimisation is Goodhart's law on a learnt reward (Gao et al. 2023, arXiv:2210.10760): past some KL the proxy
still rises while the quality it stands for falls. The monitor detects it by a score that is not trained on: the
task's gold score, or a judge such as an ensemble.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline.statistics.overoptimisation_rule import Evaluated, fell, paired_error


@dataclass
class HeldOutEval:
    """Figures of the policy on the held-out prompts at one update.

    Attributes:
        update: updates behind the policy.
        kl: mean KL k1 in nats per completion.
        score: mean proxy score.
        checks: the judge's score of each completion, in the order of the prompts; empty without a judge.
        fall_error: standard error of the difference between the judge's mean and the best earlier one, paired by
            prompt; None without either.
        closings: effective number of the completions' closing sentences; None if not measured.
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
        """The number by which the best evaluation is chosen: the judge's mean, without a judge the proxy's."""
        return self.score if self.check is None else self.check


@dataclass
class OveroptimisationMonitor:
    """Compares held-out evaluations in order: the best within the budget, the last above the floor, falls.

    Its fields are written to checkpoints under their names.
    """

    kl_budget: float | None
    patience: int
    best: HeldOutEval | None = None
    falls: int = 0
    diversity_floor: float | None = None
    first: HeldOutEval | None = None
    top: HeldOutEval | None = None
    """The best by the judge, within the budget or not; falls are measured from it."""
    varied: HeldOutEval | None = None
    """The last evaluation above the floor."""

    def add(self, held: HeldOutEval) -> bool:
        """Compare an evaluation with earlier ones; True if it is the best within budget and above the floor."""
        if self.first is None:
            self.first = held
        if self.above_floor(held):
            self.varied = held
        self.falls = self.falls + 1 if self._fell(held) else 0
        if self.top is None or (
            held.check is not None and self.top.check is not None and held.check > self.top.check
        ):
            self.top = held
        within = self.kl_budget is None or held.kl <= self.kl_budget
        if within and self.above_floor(held) and (self.best is None or held.rank > self.best.rank):
            self.best = held
        return self.best is held

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> OveroptimisationMonitor:
        """Undo :func:`dataclasses.asdict`."""
        evaluations = {
            k: fields[k] and HeldOutEval(**fields[k]) for k in ("best", "first", "top", "varied") if k in fields
        }
        return cls(**{**fields, **evaluations})

    @property
    def first_closings(self) -> float:
        """Effective closing sentences of the first evaluation; NaN if not counted."""
        first = None if self.first is None else self.first.closings
        return math.nan if first is None else first

    def closings_left(self, held: HeldOutEval) -> float | None:
        """The ratio of effective closing sentences to the first evaluation's; None if not counted.

        The first evaluation is of the policy before any step, on the same prompts with the same randomness and as
        many completions: effective numbers of different sample sizes are not comparable.
        """
        if math.isnan(self.first_closings) or held.closings is None:
            return None
        return held.closings / self.first_closings

    def closings_text(self, held: HeldOutEval | None) -> str:
        """``12.3 (34%) effective closing sentences``; empty if not counted."""
        left = None if held is None else self.closings_left(held)
        if held is None or left is None:
            return ""
        return f"{held.closings:.1f} ({left:.0%}) effective closing sentences"

    def above_floor(self, held: HeldOutEval) -> bool:
        """Whether the evaluation is above ``diversity_floor``; True without a floor."""
        left = self.closings_left(held)
        return self.diversity_floor is None or left is None or left >= self.diversity_floor

    @property
    def overoptimised(self) -> bool:
        """True once the judge fell and the proxy rose ``patience`` evaluations in a row."""
        return self.patience > 0 and self.falls >= self.patience

    def _fell(self, now: HeldOutEval) -> bool:
        """Apply the rule of ``evaluate`` and the doctor, :mod:`pipeline.statistics.overoptimisation_rule`."""
        first, top = self.first, self.top
        if first is None or top is None or first.check is None or top.check is None or now.check is None:
            return False
        now.fall_error = paired_error(now.checks, top.checks)
        return fell(
            Evaluated(first.check, first.score),
            Evaluated(top.check, top.score),
            Evaluated(now.check, now.score, now.fall_error),
        )
