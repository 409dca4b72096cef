"""A sweep's frontier: what each run gained for how much KL, beside best-of-n from the bases they began with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.figures.common import INK, LABELS, ORANGE, SETTINGS, arms, axes, legend_below, styled
from pipeline.reporting.figures.diversity import Trade, ground, trade
from pipeline.reporting.figures.frontier import Curves, curves, distance_axis, with_bars
from pipeline.results.policy import Evaluation
from pipeline.results.sides import Measure

MARKERS = "oD^vPX"


@dataclass(frozen=True)
class Evaluated:
    """A run of a sweep: what its setting is called, and its evaluation."""

    setting: str
    evaluation: Evaluation


def sweep_frontier(runs: Sequence[Evaluated]) -> Figure | None:
    """A panel of gain against sqrt(KL) for each measure, a mark per run, a look per setting; None without any."""
    panels: dict[Measure, list[tuple[str, Curves]]] = {}
    for measure in LABELS:
        drawn = [(run.setting, curves(run.evaluation, measure)) for run in runs]
        if any(c.policy is not None for _, c in drawn):
            panels[measure] = drawn
    return _draw(panels) if panels else None


def sweep_diversity(runs: Sequence[Evaluated]) -> Figure | None:
    """Each run's gain against the closing sentences it has left, a look per setting; None without any.

    In shares of the base's, as seeds have bases of their own; best-of-n is each base's.
    """
    measure: Measure = "gold_score" if any(trade(run.evaluation, "gold_score") for run in runs) else "score"
    trades = [(run.setting, drawn) for run in runs if (drawn := trade(run.evaluation, measure)) is not None]
    return _draw_diversity(measure, trades) if trades else None


@styled
def _draw_diversity(measure: Measure, trades: Sequence[tuple[str, Trade]]) -> Figure:
    settings = list(dict.fromkeys(setting for setting, _ in trades))
    fig, (ax,) = axes(1, height=3.9 + 0.18 * math.ceil((len(settings) + 2) / 2))
    lines = dict.fromkeys(
        tuple((round(p.closings.value / t.base, 6), round(p.gain.value, 6)) for p in t.best_of_n)
        for _, t in trades
    )
    handles = _best_of_n(ax, 1.0, lines)
    for i, setting in enumerate(settings):
        own = [t for name, t in trades if name == setting]
        made = ax.errorbar(
            [t.policy.closings.value / t.base for t in own], [t.policy.gain.value for t in own],
            yerr=arms([t.policy.gain for t in own]), **_look(i, setting),
        )  # fmt: skip
        handles.append(made)
    handles += ground(ax, 1.0)
    furthest = max(
        [1.0, *(t.policy.closings.value / t.base for _, t in trades), *(x for line in lines for x, _ in line)]
    )
    ax.set_xlim(0, 1.06 * furthest)
    ax.set_xlabel("effective closing sentences, over the base's")
    ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
    ax.margins(y=0.12)
    legend_below(fig, handles)
    return fig


@styled
def _draw(panels: Mapping[Measure, Sequence[tuple[str, Curves]]]) -> Figure:
    settings = list(dict.fromkeys(setting for rows in panels.values() for setting, _ in rows))
    height = 1.1 + 2.7 * len(panels) + 0.18 * math.ceil((len(settings) + 1) / 2)
    fig, plots = axes(len(panels), height=height, sharex=True)
    handles: list[Any] = []
    furthest = 0.0
    for ax, (measure, rows) in zip(plots, panels.items(), strict=True):
        ways = ([(p.d, round(p.gain.value, 6)) for p in c.best_of_n] for _, c in rows if c.best_of_n)
        handles += _best_of_n(ax, 0.0, dict.fromkeys(map(tuple, ways)))
        for i, setting in enumerate(settings):
            handles += _runs(ax, i, setting, [c for name, c in rows if name == setting])
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
        ax.margins(y=0.12)
        furthest = max(
            furthest, *(p.d for _, c in rows for p in (*c.best_of_n, *([c.policy] if c.policy else [])))
        )
    distance_axis(plots, furthest)
    legend_below(fig, handles)
    return fig


def _best_of_n(ax: Axes, start: float, lines: Iterable[tuple[tuple[float, float], ...]]) -> list[Any]:
    """A line per base and reward model, from the base at ``start``: the runs of one seed often share theirs."""
    handles: list[Any] = []
    for points in lines:
        x, y = zip(*((start, 0.0), *points), strict=True)
        look = {"color": ORANGE, "marker": "s", "markersize": 3, "linewidth": 1.2, "alpha": 0.7}
        handles += ax.plot(x, y, label="best-of-n from the base", **look)
    return handles


def _runs(ax: Axes, i: int, setting: str, rows: Sequence[Curves]) -> list[Any]:
    points = [c.policy for c in rows if c.policy is not None]
    if not points:
        return []
    return [with_bars(ax, points, **_look(i, setting))]


def _look(i: int, setting: str) -> dict[str, Any]:
    fmt, color = MARKERS[(i + i // len(SETTINGS)) % len(MARKERS)], SETTINGS[i % len(SETTINGS)]
    marks = {"markersize": 6, "elinewidth": 1, "capsize": 2, "zorder": 3}
    return {"fmt": fmt, "color": color, "label": f"PPO, {setting}", **marks}
