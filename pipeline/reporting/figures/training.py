"""Figures of PPO over time, from the rows of a run's metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.figures.common import BLUE, GREEN, INK, ORANGE, axes, legend_below, line, styled
from pipeline.results.metrics import Logged

Rows = Sequence[Mapping[str, Any]]

HEALTH = (Logged.LENGTH, Logged.ENTROPY, Logged.CLIPPED, Logged.EXPLAINED)
"""Besides scores and KL."""


@dataclass(frozen=True)
class Panel:
    """A metric of an update's completions, and the one of held-out prompts that belongs to it."""

    title: str
    axis: str
    own: Logged | None
    held: Logged | None

    def draw(self, ax: Axes, rows: Rows, label: str, **look: Any) -> list[Any]:
        """Title, axis, and a line of its own metric."""
        ax.set_title(self.title)
        ax.set_ylabel(self.axis)
        return [] if self.own is None else line(ax, rows, self.own, label, **look)

    def draw_held_out(self, ax: Axes, rows: Rows, **look: Any) -> list[Any]:
        """Points of the held-out evaluations, the check's with its error."""
        error = Logged.CHECK_ERROR if self.held is Logged.CHECK else None
        return [] if self.held is None else held_out(ax, rows, self.held, error, **look)


GOLD = Panel("Gold score, never trained on (mean)", "gold score", Logged.GOLD, None)
KL = Panel("Distance from the reference (KL by k1, mean)", Logged.KL.about.unit, Logged.KL, Logged.HELD_KL)


@styled
def training_curves(
    rows: Rows,
    kl_target: float | None = None,
    kl_budget: float | None = None,
    published: int | None = None,
    check_is_gold: bool = True,
) -> Figure:
    """Scores and KL against update; a panel for each that the rows have, and always one for KL.

    Lines are of the completions that PPO trained on, points of held-out prompts (``eval/*``), which are the same
    at every evaluation; the one before the first update stands at 0.

    Args:
        kl_target, kl_budget: nats per completion; where the adaptive controller aims, where the run stops.
        published: the update whose policy was published, where it is not the last.
        check_is_gold: what ``eval/check`` holds is the gold score and not another judge's.
    """
    gold = _has(rows, Logged.GOLD) or (check_is_gold and _has(rows, Logged.CHECK))
    judge = Panel("Check on held-out prompts, never trained on (mean)", "check's score", None, Logged.CHECK)
    panels = [
        Panel("Proxy score, which PPO raises (mean)", "proxy score", Logged.SCORES, Logged.HELD_SCORES),
        *([replace(GOLD, held=Logged.CHECK if check_is_gold else None)] if gold else []),
        *([judge] if not check_is_gold and _has(rows, Logged.CHECK) else []),
        KL,
    ]
    fig, panes = axes(len(panels), height=0.7 + 1.75 * len(panels), sharex=True)
    handles: list[Any] = []
    for ax, panel in zip(panes, panels, strict=True):
        handles += panel.draw(ax, rows, "PPO's own completions", color=BLUE)
        handles += panel.draw_held_out(ax, rows)
    bottom = panes[-1]
    handles += line(bottom, rows, Logged.KL_K3, "KL by k3", color=GREEN, linestyle="--", linewidth=1.3)
    _fit_to(bottom, [r.get(k) for r in rows for k in (Logged.KL, Logged.HELD_KL)] + [kl_target, kl_budget])
    for level, label, style in ((kl_target, "KL target", ":"), (kl_budget, "KL budget", "-.")):
        if level is not None:
            handles.append(bottom.axhline(level, color=INK, linestyle=style, linewidth=1.2, label=label))
    _updates(bottom, rows)
    if published is not None:
        for ax in panes:
            handles.append(ax.axvline(published, color=INK, linewidth=1, alpha=0.6, label="published policy"))
    legend_below(fig, handles)
    return fig


@styled
def training_health(rows: Rows) -> Figure:
    """Length, entropy, clipping and the value model against update; a panel for each that was logged."""
    panels = [metric for metric in HEALTH if _has(rows, metric)]
    fig, panes = axes(max(1, len(panels)), height=0.5 + 1.45 * max(1, len(panels)), sharex=True)
    for ax, metric in zip(panes, panels, strict=False):
        line(ax, rows, metric, metric.about.label, color=BLUE)
        ax.set_title(metric.about.label)
        ax.set_ylabel(metric.about.unit)
        ax.yaxis.set_major_locator(MaxNLocator(4))
    _updates(panes[-1], rows)
    return fig


def has_health(rows: Rows) -> bool:
    """Whether :func:`training_health` has anything to show."""
    return any(_has(rows, metric) for metric in HEALTH)


def held_out(
    ax: Axes, rows: Rows, key: str, error: str | None = None, label: str = "held-out prompts", **look: Any
) -> list[Any]:
    """Points of the held-out evaluations, with 95 % bars where their standard error was logged."""
    points = [row for row in rows if row.get(key) is not None and math.isfinite(row[key])]
    if not points:
        return []
    look = {"color": ORANGE, "marker": "D", "markersize": 4.5, "linestyle": "none"} | look
    bars = [1.96 * (row.get(error) or 0.0) for row in points] if error else None
    x, y = [row.get("update", 0) for row in points], [row[key] for row in points]
    return [ax.errorbar(x, y, yerr=bars, capsize=2, elinewidth=1, label=label, zorder=3, **look)]


def _fit_to(ax: Axes, values: Sequence[float | None]) -> None:
    """Show 0 and these values whole; k3, whose tail has no end, may run off."""
    shown = [v for v in values if v is not None and math.isfinite(v)]
    low, high = min([0.0, *shown]), max([0.0, *shown])
    if high > low:
        room = 0.06 * (high - low)
        ax.set_ylim(low - room if low < 0 else -room / 2, high + 2 * room)


def _has(rows: Rows, key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def _updates(ax: Axes, rows: Rows) -> None:
    ax.set_xlabel("update")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    last = max((row.get("update", 0) for row in rows), default=1)
    ax.set_xlim(-0.02 * last, 1.02 * last)
