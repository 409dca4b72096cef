"""Figures of PPO over time, from the rows of a run's metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.figures.common import BLUE, GREEN, INK, ORANGE, axes, legend_below, line, styled

Rows = Sequence[Mapping[str, Any]]

# What the policy does besides scoring: key, title, axis.
HEALTH = (
    ("length/mean", "Length of completions", "tokens"),
    ("policy/entropy_avg", "Entropy of the next token", "nats"),
    ("policy/clipfrac_avg", "Tokens whose ratio was clipped", "share"),
    ("val/explained_variance", "Value model: variance explained", "share"),
)


@dataclass(frozen=True)
class Panel:
    """What one panel shows: a key of the updates' rows, and one of the held-out evaluations'."""

    title: str
    unit: str
    own: str | None
    held_out: str | None


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
    panels = _panels(rows, check_is_gold)
    fig, plots = axes(len(panels), height=0.7 + 1.75 * len(panels), sharex=True)
    handles: list[Any] = []
    for ax, panel in zip(plots, panels, strict=True):
        if panel.own is not None:
            handles += line(ax, rows, panel.own, "PPO's own completions", color=BLUE)
        if panel.held_out is not None:
            error = "eval/check_error" if panel.held_out == "eval/check" else None
            handles += held_out(ax, rows, panel.held_out, error)
        ax.set_title(panel.title)
        ax.set_ylabel(panel.unit)
    bottom = plots[-1]
    handles += line(bottom, rows, "objective/kl_k3", "KL by k3", color=GREEN, linestyle="--", linewidth=1.3)
    _fit_to(bottom, [r.get(k) for r in rows for k in ("objective/kl", "eval/kl")] + [kl_target, kl_budget])
    for level, label, style in ((kl_target, "KL target", ":"), (kl_budget, "KL budget", "-.")):
        if level is not None:
            handles.append(bottom.axhline(level, color=INK, linestyle=style, linewidth=1.2, label=label))
    _updates(bottom, rows)
    if published is not None:
        handles += [
            ax.axvline(published, color=INK, linewidth=1, alpha=0.6, label="published policy") for ax in plots
        ]
    legend_below(fig, handles)
    return fig


def _panels(rows: Rows, check_is_gold: bool) -> list[Panel]:
    """The panels that these rows have something for; KL's is the last."""
    checked = _has(rows, "eval/check")
    panels = [Panel("Proxy score, which PPO raises (mean)", "proxy score", "objective/scores", "eval/scores")]
    if _has(rows, "objective/gold_scores") or (check_is_gold and checked):
        held = "eval/check" if check_is_gold else None
        panels.append(Panel("Gold score, never trained on (mean)", "gold score", "objective/gold_scores", held))
    if checked and not check_is_gold:
        title = "Check on held-out prompts, never trained on (mean)"
        panels.append(Panel(title, "check's score", None, "eval/check"))
    title = "Distance from the reference (KL by k1, mean)"
    return [*panels, Panel(title, "nats per completion", "objective/kl", "eval/kl")]


@styled
def training_health(rows: Rows) -> Figure:
    """Length, entropy, clipping and the value model against update; a panel for each that was logged."""
    panels = [panel for panel in HEALTH if _has(rows, panel[0])]
    fig, plots = axes(max(1, len(panels)), height=0.5 + 1.45 * max(1, len(panels)), sharex=True)
    for ax, (key, title, unit) in zip(plots, panels, strict=False):
        line(ax, rows, key, title, color=BLUE)
        ax.set_title(title)
        ax.set_ylabel(unit)
        ax.yaxis.set_major_locator(MaxNLocator(4))
    _updates(plots[-1], rows)
    return fig


def has_health(rows: Rows) -> bool:
    """Whether :func:`training_health` has anything to show."""
    return any(_has(rows, key) for key, _, _ in HEALTH)


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
