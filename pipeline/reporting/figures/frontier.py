"""The frontier: what is gained for how much KL, by PPO and by best-of-n from the base.

Gao et al. 2023 (arXiv:2210.10760) draw it so: gold and proxy against sqrt(KL), with the laws that fit. Fitting and
the turning point are :mod:`pipeline.evaluation.policy.overoptimisation_laws`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.policy.overoptimisation_laws import TOO_CLOSE, law_gain
from pipeline.reporting.figures.common import BLUE, GREEN, INK, LABELS, ORANGE, arms, axes, legend_below, styled
from pipeline.results.best_of_n import BestOfN
from pipeline.results.overoptimisation import Law, LawName, PolicySettings, TrainingCurve
from pipeline.results.policy import Evaluation
from pipeline.results.sides import Measure
from pipeline.statistics.intervals import Estimate, has_value


@dataclass(frozen=True)
class Point:
    """A gain over the base at distance ``d`` = sqrt(KL in nats per completion)."""

    d: float
    gain: Estimate
    label: str = ""


@dataclass(frozen=True)
class FittedLaw:
    """A fitted law, drawn from ``start`` to ``reach``: over the points that it was fitted to."""

    name: LawName
    alpha: float
    beta: float
    start: float
    reach: float


@dataclass(frozen=True)
class Curves:
    """One measure's part of the frontier; a series without points is left out."""

    best_of_n: Sequence[Point] = ()
    training: Sequence[Point] = ()
    others: Sequence[Point] = ()
    policy: Point | None = None
    best_of_n_law: FittedLaw | None = None
    training_law: FittedLaw | None = None

    @property
    def points(self) -> list[Point]:
        return [*self.best_of_n, *self.training, *self.others, *([self.policy] if self.policy else [])]


@dataclass(frozen=True)
class Turn:
    """Where gold (or what else checked) was at its best before it fell while the proxy rose."""

    d: float
    update: int
    kl: float
    of: str = "gold"


def curves(evaluation: Evaluation, measure: Measure, check_is_gold: bool = True) -> Curves:
    """A measure's series from an evaluation, all as gains over the base on the same prompts.

    Args:
        check_is_gold: the run's held-out checks are the gold score and not another judge's.
    """
    best, best_law = _best_of_n(evaluation.best_of_n, measure)
    training, training_law = _training(evaluation.overoptimisation.training, measure, check_is_gold)
    change, kl = evaluation.change(measure), evaluation.kl_k1
    policy = None
    if change and has_value(change.difference) and has_value(kl):
        policy = Point(math.sqrt(max(kl.value, 0.0)), change.difference)
    return Curves(best, training, _others(evaluation, measure), policy, best_law, training_law)


def turn(evaluation: Evaluation, check_is_gold: bool = True) -> Turn | None:
    """The turning point over the run, where there is one."""
    training = evaluation.overoptimisation.training
    if training is None or training.turning_point.index is None:
        return None
    point = training.points[training.turning_point.index]
    return Turn(point.d, point.update, point.kl_k1, "gold" if check_is_gold else "the check")


@styled
def frontier(panels: Mapping[Measure, Curves], turned: Turn | None = None) -> Figure:
    """A panel of gain against sqrt(KL) for each measure, the gold score's first; KL itself on the upper axis."""
    fig, plots = axes(len(panels), height=1.1 + 2.7 * len(panels), sharex=True)
    handles: list[Any] = []
    for ax, (measure, drawn) in zip(plots, panels.items(), strict=True):
        handles += _draw(ax, drawn)
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
        ax.margins(y=0.12)
        if turned is not None:
            handles.append(_mark(ax, turned))
    distance_axis(plots, max((p.d for c in panels.values() for p in c.points), default=1.0))
    legend_below(fig, handles)
    return fig


def distance_axis(panels: Sequence[Axes], largest: float) -> None:
    """sqrt(KL) below the last of the panels that share it, and KL itself above the first."""
    panels[0].set_xlim(0, 1.06 * max(largest, 0.5))
    panels[-1].set_xlabel("distance from the base, d = √KL (√nats)")
    upper = panels[0].secondary_xaxis("top", functions=(np.square, lambda kl: np.sqrt(np.maximum(kl, 0))))
    upper.set_xlabel("KL (nats per completion)")
    ticks = _kl_ticks(largest**2)
    upper.set_xticks(ticks, [f"{kl:g}" for kl in ticks])
    upper.spines["top"].set_visible(True)


def _draw(ax: Axes, drawn: Curves) -> list[Any]:
    handles: list[Any] = []
    if drawn.training:
        x, y = [p.d for p in drawn.training], [p.gain.value for p in drawn.training]
        look = {"color": BLUE, "marker": "o", "markersize": 3.5, "linewidth": 1, "alpha": 0.75}
        handles += ax.plot(x, y, label="PPO, over the run", **look)
    if drawn.others:
        x, y = [p.d for p in drawn.others], [p.gain.value for p in drawn.others]
        look = {"color": GREEN, "marker": "D", "markersize": 6, "linestyle": "none"}
        handles += ax.plot(x, y, label="other PPO runs, by kl_coef", **look)
        for p in drawn.others:
            # Below: the star and its arms stand above more often.
            _note(ax, p, (0, -15), ha="center")
    if drawn.best_of_n:
        look: Any = {"color": ORANGE, "markersize": 5, "capsize": 2, "elinewidth": 1}
        handles.append(with_bars(ax, drawn.best_of_n, fmt="s", label="best-of-n from the base", **look))
        # The largest n only: where PPO went far, the others would be written over each other.
        _note(ax, drawn.best_of_n[-1], (4, -11))
    for law, colour, style, who in (
        (drawn.best_of_n_law, ORANGE, "--", "best-of-n"),
        (drawn.training_law, BLUE, ":", "PPO"),
    ):
        if law is not None:
            d = np.linspace(law.start, law.reach, 120)
            gain = law_gain(d, law.alpha, law.beta, law.name)
            handles += ax.plot(d, gain, color=colour, linestyle=style, linewidth=1.5, label=f"law fitted to {who}")
    if drawn.policy is not None:
        look = {"color": BLUE, "markersize": 13, "markeredgecolor": "white", "capsize": 4, "elinewidth": 1.5}
        handles.append(with_bars(ax, [drawn.policy], fmt="*", label="PPO, evaluated (95 %)", zorder=4, **look))
    return handles


def _note(ax: Axes, point: Point, offset: tuple[float, float], **look: Any) -> None:
    behind = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
    where = (point.d, point.gain.value)
    ax.annotate(
        point.label, where, offset, textcoords="offset points", fontsize=8, bbox=behind, zorder=1.9, **look
    )


def with_bars(ax: Axes, points: Sequence[Point], **look: Any) -> Any:
    """Marks with arms from low to high, none where there are no limits."""
    gains = [p.gain for p in points]
    bars = arms(gains) if any(gain.has_limits for gain in gains) else None
    return ax.errorbar([p.d for p in points], [gain.value for gain in gains], yerr=bars, **look)


def _mark(ax: Axes, turned: Turn) -> Any:
    """A line at the turning point, and beyond it the ground where gold fell while the proxy rose."""
    right = max(ax.get_xlim()[1], turned.d)
    ax.axvspan(turned.d, 10 * right, color=INK, alpha=0.07, linewidth=0)
    label = f"turning point: past it {turned.of} fell"
    return ax.axvline(turned.d, color=INK, linestyle="-.", linewidth=1.2, label=label)


def _best_of_n(best: BestOfN, measure: Measure) -> tuple[list[Point], FittedLaw | None]:
    rows = [(row, row.means[measure]) for row in best.rows if has_value(row.means.get(measure))]
    if not rows or rows[0][0].n != 1:
        return [], None
    start = rows[0][1].value
    # Older evaluations have no gains with intervals.
    points = [
        Point(row.d, row.gain.get(measure) or _exact(mean.value - start), f"n = {row.n}") for row, mean in rows[1:]
    ]
    return points, _fitted(best.laws.get(measure), points)


def _training(
    training: TrainingCurve | None, measure: Measure, check_is_gold: bool
) -> tuple[list[Point], FittedLaw | None]:
    if training is None:
        return [], None
    if measure == "score":
        values = [(p.d, p.score) for p in training.points]
    elif training.gold and (training.source == "objective" or check_is_gold):
        values = [(p.d, p.gold) for p in training.points if p.gold is not None]
    else:
        values = []
    points = [Point(d, _exact(value - values[0][1])) for d, value in values]
    return points, _fitted(training.law, points) if measure == "gold_score" and points else None


def _others(evaluation: Evaluation, measure: Measure) -> list[Point]:
    sweep, change = evaluation.overoptimisation.sweep, evaluation.change(measure)
    if sweep is None or change is None or not has_value(change.base):
        return []
    own = evaluation.policy and evaluation.policy.ref
    values = [(p, p.gold if measure == "gold_score" else p.score) for p in sweep.points if p.ref != own]
    return [
        Point(p.d, _exact(value - change.base.value), setting_of(p)) for p, value in values if value is not None
    ]


def _exact(value: float) -> Estimate:
    """A value without limits."""
    return Estimate(value, math.nan, math.nan, 0)


def setting_of(policy: PolicySettings) -> str:
    """What another run is called in the figure: its KL coefficient or target, or its version."""
    if policy.kl_target is not None:
        return f"target {policy.kl_target:g}"
    return policy.ref if policy.kl_coef is None else f"{policy.kl_coef:g}"


def _fitted(law: Law | None, points: Sequence[Point]) -> FittedLaw | None:
    if law is None or law.alpha is None or law.beta is None:
        return None
    away = [p.d for p in points if p.d >= TOO_CLOSE]
    return FittedLaw(law.law, law.alpha.value, law.beta.value, min(away), max(away))


def _kl_ticks(largest: float) -> list[float]:
    """At most six round values, as far apart as their roots are."""
    steps = [0.0, 0.25, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]
    within = [s for s in steps if s <= 1.1 * largest]
    return within if len(within) <= 6 else [within[0], *within[-5:]]
