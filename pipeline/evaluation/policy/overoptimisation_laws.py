"""Gold and proxy against sqrt(KL): the laws of Gao et al. (2023, arXiv:2210.10760), and where gold turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.results.metrics import Logged
from pipeline.results.overoptimisation import (
    BestCheckpoint,
    Law,
    LawName,
    Peak,
    PolicySettings,
    SweepCurve,
    SweepPoint,
    TrainingCurve,
    TrainingPoint,
    TurningPoint,
)
from pipeline.statistics.bootstrap import RESAMPLING, Resampling, as_finite
from pipeline.statistics.intervals import Estimate
from pipeline.statistics.overoptimisation_rule import PATIENCE, evaluated, falls, paired_error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FEWEST_POINTS = 3
"""The fit of two coefficients can be judged from three points on."""

TOO_CLOSE = 0.05
"""Points with less d = sqrt(KL) than this are left out of a fit: k1's noise is as large as their KL."""


def fit_law(d: ArrayLike, gain: ArrayLike, law: LawName, resampling: Resampling = RESAMPLING) -> Law:
    """Least squares of Gao et al.'s law for the gain over the base at distance d = sqrt(KL).

    Both laws are linear in alpha and beta, so least squares needs no search, and where every prompt has a curve of
    its own, the coefficients of the mean curve are the mean of the prompts' coefficients: their interval is the
    bootstrap's over prompts. With means only it is Student's t from the residuals' covariance, which
    takes errors of different points for independent. Over a run they are not quite (the same prompts at every
    point), and it is a little off.

    Args:
        d: (P,) distances; those below ``TOO_CLOSE`` are not used.
        gain: (P,) means, or (m, P) of m prompts; the base's score is already subtracted.
    """
    distances, gains = as_finite(d, "d"), np.asarray(gain, np.float64)
    used = distances >= TOO_CLOSE
    distances, gains = distances[used], gains[..., used]
    different = len(np.unique(distances))
    if different < FEWEST_POINTS:
        few = f"{different} distances from the base; a fit needs {FEWEST_POINTS}"
        return Law(law, None, None, None, len(distances), None, few)
    design = np.stack([distances, -distances * (distances if law == "best_of_n" else np.log(distances))], axis=1)
    if gains.ndim == 2:
        as_finite(gains, "gain")
        alpha, beta = (resampling.mean(column) for column in (gains @ np.linalg.pinv(design).T).T)
        gains = gains.mean(0)
    else:
        alpha, beta = _from_residuals(design, as_finite(gains, "gain"), resampling.level)
    left = gains - design @ [alpha.value, beta.value]
    spread = float(((gains - gains.mean()) ** 2).sum())
    return Law(
        law=law,
        alpha=alpha,
        beta=beta,
        r2=1 - float((left**2).sum()) / spread if spread > 0 else None,
        points=len(distances),
        peak=_peak(alpha.value, beta.value, law, float(distances.max())) if beta.low > 0 else None,
        reason=None,
    )


def law_gain(d: ArrayLike, alpha: float, beta: float, law: LawName) -> NDArray[np.float64]:
    """(P,) the law's gain at ``d``; 0 at 0."""
    at = np.asarray(d, np.float64)
    bend = at if law == "best_of_n" else np.log(np.where(at > 0, at, 1.0))
    return at * (alpha - beta * bend)


def _from_residuals(
    design: NDArray[np.float64], values: NDArray[np.float64], level: float
) -> tuple[Estimate, Estimate]:
    from scipy.stats import t

    solve = np.linalg.pinv(design)
    coefficients = solve @ values
    freedom = len(values) - 2
    variance = float(((values - design @ coefficients) ** 2).sum()) / freedom
    half = float(t.ppf((1 + level) / 2, freedom)) * np.sqrt(variance * np.diag(solve @ solve.T))
    first, second = (
        Estimate(float(c), float(c - h), float(c + h), len(values))
        for c, h in zip(coefficients, half, strict=True)
    )
    return first, second


def _peak(alpha: float, beta: float, law: LawName, reached: float) -> Peak | None:
    """Where the law's gain is largest: the derivative's zero, alpha - 2 beta d or alpha - beta (1 + log d)."""
    if (law == "best_of_n" and alpha <= 0) or alpha / beta > 20:  # at the base, or at e^20
        return None
    d = alpha / (2 * beta) if law == "best_of_n" else math.exp(alpha / beta - 1)
    return Peak(d, d * d, float(law_gain(d, alpha, beta, law)), d <= reached)


def turning_point(
    gold: ArrayLike,
    proxy: ArrayLike,
    errors: ArrayLike | None = None,
    paired: Sequence[float | None] | None = None,
) -> TurningPoint:
    """Where gold falls while the proxy rises, by the rule that ends a run of PPO
    (statistics/overoptimisation_rule.py).

    The best is the turning point where the last two points have fallen from it: one alone may be bad luck, and
    gold that recovers has not turned.

    Args:
        gold: (P,) means with their standard ``errors`` (P,), or (m, P) of m prompts; in the order of optimisation.
        proxy: (P,) means.
        paired: (P,) of means, the standard error of each difference to the best before, paired by prompt; where it
            is not known the error is taken as if prompts were not shared, which is too large.
    """
    values, score = np.asarray(gold, np.float64), as_finite(proxy, "proxy").tolist()
    means = as_finite(values.mean(0) if values.ndim == 2 else values, "gold").tolist()
    if values.ndim == 1 and errors is None:
        return no_turn("the error of the gold scores is not known")
    if values.ndim == 2:
        paired = _paired_errors(values, means)
    own_errors = [0.0] * len(means) if errors is None else as_finite(errors, "errors").tolist()
    best, fallen = falls(evaluated(means, score, own_errors, paired))
    after_best = len(means) - 1 - best
    if fallen >= PATIENCE:
        return TurningPoint(best, fallen, None)
    if after_best == 0:
        return no_turn(f"the best is the last of {len(means)} points", fallen)
    if after_best < PATIENCE:
        return no_turn("one point after the best is too few", fallen)
    return no_turn("gold has not fallen measurably while the proxy rose", fallen)


def no_turn(reason: str, falls: int = 0) -> TurningPoint:
    """A result without a turning point."""
    return TurningPoint(None, falls, reason)


def _paired_errors(values: NDArray[np.float64], means: Sequence[float]) -> list[float | None]:
    """(P,) standard errors of the differences of (m, P) values to the best column before."""
    errors: list[float | None] = []
    best = 0
    for now in range(len(means)):
        errors.append(paired_error(values[:, now].tolist(), values[:, best].tolist()))
        best = now if means[now] > means[best] else best
    return errors


def over_training(history: Sequence[Mapping[str, Any]], level: float = 0.95) -> TrainingCurve | None:
    """Gold and proxy over a run of PPO, from the rows of its metrics.jsonl; None without any point.

    Held-out evaluations (``eval/*``, the same prompts and randomness every time) where there are enough of them
    for a fit, else the updates' own completions (``objective/*``). The first point is the base itself.
    """
    points = _points(history, Logged.HELD_KL, Logged.HELD_SCORES, Logged.CHECK)
    held_out = len(points) > FEWEST_POINTS
    if not held_out:
        own = _points(history, Logged.KL, Logged.SCORES, Logged.GOLD)
        # What update u samples is the policy after u - 1 of them.
        points = [replace(p, update=p.update - 1) for p in own]
    if not points:
        return None
    gold = [p.gold for p in points if p.gold is not None]
    complete = len(gold) == len(points)
    law = None
    if complete:
        law = fit_law([p.d for p in points], [g - gold[0] for g in gold], "rl", Resampling(level=level))
    if not held_out:
        turned = no_turn("no held-out evaluations; set ppo.eval_strategy: steps")
    elif not complete:
        turned = no_turn("neither a gold score nor a check")
    else:
        errors = [p.gold_error for p in points if p.gold_error is not None]
        paired = [p.gold_fall_error for p in points]
        turned = turning_point(
            gold, [p.score for p in points], errors if len(errors) == len(points) else None, paired
        )
    return TrainingCurve("eval" if held_out else "objective", complete, points, law, turned)


@dataclass(frozen=True)
class EvaluatedPolicy:
    """A policy on the prompts of an evaluation.

    Attributes:
        kl_k1, score: means.
        gold, base_gold: (m,) of the same prompts; None where there is no gold score.
    """

    settings: PolicySettings
    kl_k1: float
    score: float
    gold: NDArray[np.float64] | None
    base_gold: NDArray[np.float64] | None


def over_sweep(policies: Sequence[EvaluatedPolicy], resampling: Resampling = RESAMPLING) -> SweepCurve | None:
    """Gold and proxy over several policies of one base and reward, as from a sweep of KL coefficients.

    None with fewer than two policies.
    """
    if len(policies) < 2:
        return None
    ordered = sorted(policies, key=lambda p: p.kl_k1)
    each = [p.gold for p in ordered if p.gold is not None]
    complete = len(each) == len(ordered)
    points = [
        SweepPoint(
            **vars(p.settings),
            kl_k1=p.kl_k1,
            score=p.score,
            d=math.sqrt(max(p.kl_k1, 0.0)),
            gold=float(np.mean(p.gold)) if complete and p.gold is not None else None,
        )
        for p in ordered
    ]
    base = ordered[0].base_gold
    if not complete or base is None:
        return SweepCurve(points, None, no_turn("no gold score"))
    gold = np.stack(each, axis=1)
    law = fit_law([p.d for p in points], gold - base[:, None], "rl", resampling)
    return SweepCurve(points, law, turning_point(gold, [p.score for p in points]))


def best_checkpoint(
    history: Sequence[Mapping[str, Any]], kl_budget: float | None, kept: int | None
) -> BestCheckpoint | None:
    """The update with the best held-out check, or score where there is no check, within the KL budget.

    None without held-out evaluations within the budget.

    Args:
        history: rows of metrics.jsonl; the evaluation before the first update has no ``update`` and counts as 0.
        kept: the update whose policy was published.
    """
    held_out = _points(history, Logged.HELD_KL, Logged.HELD_SCORES, Logged.CHECK)
    checked = all(p.gold is not None for p in held_out)
    values = [(p.score if p.gold is None or not checked else p.gold, p) for p in held_out]
    within = [(value, p) for value, p in values if kl_budget is None or p.kl_k1 <= kl_budget]
    if not within:
        return None
    value, best = max(within, key=lambda pair: pair[0])  # the earliest of equals, as the trainer keeps it
    return BestCheckpoint(
        update=best.update,
        by="check" if checked else "scores",
        value=value,
        kl_k1=best.kl_k1,
        score=best.score,
        kept=kept,
        kept_value=next((value for value, p in values if p.update == kept), None),
        is_kept=best.update == kept,
    )


def _points(history: Sequence[Mapping[str, Any]], kl: str, score: str, gold: str) -> list[TrainingPoint]:
    """The rows that have a KL and a score."""

    def number(row: Mapping[str, Any], key: str) -> float | None:
        return None if row.get(key) is None else float(row[key])

    return [
        TrainingPoint(
            update=int(row.get("update", 0)),
            kl_k1=float(row[kl]),
            d=math.sqrt(max(float(row[kl]), 0.0)),
            score=float(row[score]),
            gold=number(row, gold),
            gold_error=number(row, f"{gold}_error"),
            gold_fall_error=number(row, f"{gold}_fall_error"),
        )
        for row in history
        if row.get(kl) is not None and row.get(score) is not None and math.isfinite(float(row[kl]))
    ]
