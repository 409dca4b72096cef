"""The frontier: what is gained for how much KL, by PPO and by best-of-n from the base.

Gao et al. 2023 (arXiv:2210.10760) draw it so: gold and proxy against sqrt(KL), with the laws that fit. Fitting and
the turning point are :mod:`pipeline.evaluation.policy.overoptimisation`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.figures.common import (
    BLUE,
    GREEN,
    INK,
    LABELS,
    ORANGE,
    arms,
    axes,
    known,
    legend_below,
    styled,
)
from pipeline.statistics.spelling import dig

# Points closer to the base are in no fit (evaluation.overoptimisation; a test holds that they are the same).
TOO_CLOSE = 0.05


@dataclass(frozen=True)
class Point:
    """A gain over the base at distance ``d`` = sqrt(KL in nats per completion); limits where they are known."""

    d: float
    gain: float
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Law:
    """A fitted law, drawn over the points that it was fitted to."""

    name: str
    alpha: float
    beta: float
    start: float
    reach: float

    def gain(self, d: Any) -> Any:
        """``best_of_n``: d (alpha - beta d); ``rl``: d (alpha - beta log d)."""
        bend = d if self.name == "best_of_n" else np.log(np.where(d > 0, d, 1.0))
        return d * (self.alpha - self.beta * bend)


@dataclass(frozen=True)
class Curves:
    """One measure's part of the frontier; a series without points is left out."""

    best_of_n: Sequence[Point] = ()
    training: Sequence[Point] = ()
    others: Sequence[Point] = ()
    policy: Point | None = None
    best_of_n_law: Law | None = None
    training_law: Law | None = None

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


def curves(stats: Mapping[str, Any], measure: str, check_is_gold: bool = True) -> Curves:
    """A measure's series from an evaluation's stats, all as gains over the base on the same prompts.

    Args:
        measure: ``gold_score`` or ``score``.
        check_is_gold: the run's held-out checks are the gold score and not another judge's.
    """
    best, best_law = _best_of_n(stats, measure)
    training, training_law = _training(stats, measure, check_is_gold)
    change, kl = dig(stats, measure, "difference"), dig(stats, "kl_k1", "value")
    policy = None
    if known(change) and kl is not None:
        policy = Point(_root(kl), change["value"], change.get("low"), change.get("high"))
    return Curves(best, training, _others(stats, measure), policy, best_law, training_law)


def turn(stats: Mapping[str, Any], check_is_gold: bool = True) -> Turn | None:
    """The turning point over the run, where it was found."""
    found = dig(stats, "overoptimisation", "training")
    index = dig(found, "turning_point", "index")
    if index is None:
        return None
    point = found["points"][index]
    return Turn(point["d"], point["update"], point["kl_k1"], "gold" if check_is_gold else "the check")


@styled
def frontier(panels: Mapping[str, Curves], turned: Turn | None = None) -> Figure:
    """A panel of gain against sqrt(KL) for each measure, the gold score's first; KL itself on the upper axis."""
    fig, found = axes(len(panels), height=1.1 + 2.7 * len(panels), sharex=True)
    handles: list[Any] = []
    for ax, (measure, drawn) in zip(found, panels.items(), strict=True):
        handles += _draw(ax, drawn)
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
        ax.margins(y=0.12)
        if turned is not None:
            handles.append(_mark(ax, turned))
    distance_axis(found, max((p.d for c in panels.values() for p in c.points), default=1.0))
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
        x, y = [p.d for p in drawn.training], [p.gain for p in drawn.training]
        look = {"color": BLUE, "marker": "o", "markersize": 3.5, "linewidth": 1, "alpha": 0.75}
        handles += ax.plot(x, y, label="PPO, over the run", **look)
    if drawn.others:
        x, y = [p.d for p in drawn.others], [p.gain for p in drawn.others]
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
            handles += ax.plot(
                d, law.gain(d), color=colour, linestyle=style, linewidth=1.5, label=f"law fitted to {who}"
            )
    if drawn.policy is not None:
        look = {"color": BLUE, "markersize": 13, "markeredgecolor": "white", "capsize": 4, "elinewidth": 1.5}
        handles.append(with_bars(ax, [drawn.policy], fmt="*", label="PPO, evaluated (95 %)", zorder=4, **look))
    return handles


def _note(ax: Axes, point: Point, offset: tuple[float, float], **look: Any) -> None:
    behind = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
    where = (point.d, point.gain)
    ax.annotate(
        point.label, where, offset, textcoords="offset points", fontsize=8, bbox=behind, zorder=1.9, **look
    )


def with_bars(ax: Axes, points: Sequence[Point], **look: Any) -> Any:
    """Marks with arms from low to high, none where there are no limits."""
    limits = arms([{"value": p.gain, "low": p.low, "high": p.high} for p in points])
    bars = limits if any(p.low is not None for p in points) else None
    return ax.errorbar([p.d for p in points], [p.gain for p in points], yerr=bars, **look)


def _mark(ax: Axes, turned: Turn) -> Any:
    """A line at the turning point, and beyond it the ground where gold fell while the proxy rose."""
    right = max(ax.get_xlim()[1], turned.d)
    ax.axvspan(turned.d, 10 * right, color=INK, alpha=0.07, linewidth=0)
    label = f"turning point: past it {turned.of} fell"
    return ax.axvline(turned.d, color=INK, linestyle="-.", linewidth=1.2, label=label)


def _best_of_n(stats: Mapping[str, Any], measure: str) -> tuple[list[Point], Law | None]:
    rows = [row for row in dig(stats, "best_of_n", "rows") or [] if known(row.get(measure))]
    if not rows or rows[0]["n"] != 1:
        return [], None
    start = rows[0][measure]["value"]
    points: list[Point] = []
    for row in rows[1:]:
        # Evaluations of before have no gains with intervals.
        gain = dig(row, "gain", measure) or {"value": row[measure]["value"] - start}
        points.append(Point(row["d"], gain["value"], gain.get("low"), gain.get("high"), f"n = {row['n']}"))
    return points, _law(dig(stats, "best_of_n", "laws", measure), points)


def _training(stats: Mapping[str, Any], measure: str, check_is_gold: bool) -> tuple[list[Point], Law | None]:
    found = dig(stats, "overoptimisation", "training")
    if not found:
        return [], None
    key = "gold" if measure == "gold_score" else "score"
    is_this = key == "score" or (found["gold"] and (found["source"] == "objective" or check_is_gold))
    points = [p for p in found["points"] if is_this and p[key] is not None]
    gains = [Point(p["d"], p[key] - points[0][key]) for p in points]
    return gains, _law(found["law"], gains) if key == "gold" and gains else None


def _others(stats: Mapping[str, Any], measure: str) -> list[Point]:
    base, own = dig(stats, measure, "base", "value"), dig(stats, "policy", "ref")
    key = "gold" if measure == "gold_score" else "score"
    points = dig(stats, "overoptimisation", "sweep", "points") or []
    return [
        Point(p["d"], p[key] - base, label=setting_of(p))
        for p in points
        if base is not None and p.get(key) is not None and p["ref"] != own
    ]


def setting_of(point: Mapping[str, Any]) -> str:
    """What another run is called in the figure: its KL coefficient or target, or its version."""
    if point.get("kl_target") is not None:
        return f"target {point['kl_target']:g}"
    return f"{point['kl_coef']:g}" if point.get("kl_coef") is not None else str(point["ref"])


def _law(fit: Mapping[str, Any] | None, points: Sequence[Point]) -> Law | None:
    alpha, beta = dig(fit, "alpha", "value"), dig(fit, "beta", "value")
    if fit is None or alpha is None or beta is None:
        return None
    away = [p.d for p in points if p.d >= TOO_CLOSE]
    return Law(fit["law"], alpha, beta, min(away), max(away))


def _kl_ticks(largest: float) -> list[float]:
    """At most six round values, as far apart as their roots are."""
    steps = [0.0, 0.25, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]
    within = [s for s in steps if s <= 1.1 * largest]
    return within if len(within) <= 6 else [within[0], *within[-5:]]


def _root(kl: float) -> float:
    return math.sqrt(max(kl, 0.0))
