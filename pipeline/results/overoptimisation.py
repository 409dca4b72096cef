"""Gold and proxy against KL: the laws that fit, where gold turned, the best checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.results.stats import FROM_CONFIG
from pipeline.statistics.intervals import Estimate

LawName = Literal["best_of_n", "rl"]


@dataclass(frozen=True)
class Peak:
    """Where a law's gain is largest.

    Attributes:
        within: the points that it is fitted to reach it.
    """

    d: float
    kl: float
    gain: float
    within: bool


@dataclass(frozen=True)
class Law:
    """A law of Gao et al. (2023) for the gain over the base at d = sqrt(KL), fitted.

    Attributes:
        law: ``best_of_n``: d (alpha - beta d). ``rl``: d (alpha - beta log d).
        points: how many it was fitted to.
        peak: None unless beta is surely above 0.
        reason: why there is no fit, else None.
    """

    law: LawName
    alpha: Estimate | None
    beta: Estimate | None
    r2: float | None
    points: int
    peak: Peak | None
    reason: str | None


@dataclass(frozen=True)
class TurningPoint:
    """Where gold began to fall while the proxy rose.

    Attributes:
        index: of the point; None without one.
        falls: how many points at the end have fallen.
        reason: why there is none, else None.
    """

    index: int | None
    falls: int
    reason: str | None


@dataclass(frozen=True)
class TrainingPoint:
    """A policy during a run of PPO.

    Attributes:
        update: how many updates made it; 0 is the base.
        gold: the task's gold score, or another check.
        gold_error: standard error of ``gold``; gold_fall_error: of its difference to the best before, by prompt.
    """

    update: int
    kl_k1: float
    d: float
    score: float
    gold: float | None
    gold_error: float | None
    gold_fall_error: float | None


@dataclass(frozen=True)
class TrainingCurve:
    """A run of PPO.

    Attributes:
        source: held-out evaluations (``eval``), or the completions that it was trained on (``objective``).
        gold: every point has one.
        law: fitted to the gain in gold over the first point.
    """

    source: Literal["eval", "objective"]
    gold: bool
    points: Sequence[TrainingPoint]
    law: Law | None
    turning_point: TurningPoint


@dataclass(frozen=True)
class PolicySettings:
    """A policy, and what held it to its base."""

    ref: str
    kl_coef: float | None = field(metadata=FROM_CONFIG)
    kl_target: float | None = field(metadata=FROM_CONFIG)


@dataclass(frozen=True)
class SweepPoint(PolicySettings):
    """A policy beside others of the same base and proxy, as means."""

    kl_k1: float
    score: float
    d: float
    gold: float | None


@dataclass(frozen=True)
class SweepCurve:
    """Several policies in order of KL."""

    points: Sequence[SweepPoint]
    law: Law | None
    turning_point: TurningPoint


@dataclass(frozen=True)
class OverOptimisation:
    """Over the run that made a policy, and over all policies that were evaluated alike."""

    training: TrainingCurve | None
    sweep: SweepCurve | None


@dataclass(frozen=True)
class BestCheckpoint:
    """The best policy of a run on held-out prompts, and the one that was published.

    Attributes:
        by: what it is the best by, and ``value`` its value.
        kept: the update whose policy was published; ``kept_value`` is None where it was not evaluated.
    """

    update: int
    by: Literal["check", "scores"]
    value: float
    kl_k1: float
    score: float
    kept: int | None
    kept_value: float | None
    is_kept: bool
