"""Figures of an evaluation: base, best-of-n and PPO on held-out prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.figures.common import (
    BLUE,
    EDGE,
    GREY,
    INK,
    LABELS,
    ORANGE,
    arms,
    axes,
    legend_below,
    styled,
)
from pipeline.results.sides import Measure
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import interval, number

BINS = 24


@dataclass(frozen=True)
class Group:
    """Somebody's completions: what they are called, and their numbers by measure."""

    label: str
    values: Mapping[str, Sequence[float] | None]

    @property
    def colour(self) -> str:
        return {"base": GREY, "PPO": BLUE}.get(self.label, ORANGE)


@dataclass(frozen=True)
class Judgement:
    """What one judge says: its win rate over all pairs, and the one at equal length, where it has a value."""

    judge: str
    win_rate: Estimate
    controlled: Estimate | None = None


@styled
def before_after(
    means: Sequence[tuple[str, Estimate]], measure: Measure, difference: Estimate | None = None
) -> Figure:
    """Means with their intervals, side by side.

    Args:
        means: (label, mean) of base, best-of-n, PPO; those without a value are left out.
        difference: PPO less base, paired.
    """
    bars = [(label, entry) for label, entry in means if has_value(entry)]
    fig, (ax,) = axes(1, height=3.4)
    for i, (label, entry) in enumerate(bars):
        colour = Group(label, {}).colour
        ax.bar(i, entry.value, color=colour, alpha=0.75, width=0.6)
        ax.errorbar(i, entry.value, yerr=arms([entry]), color=INK, capsize=4, linewidth=1.3)
    ax.axhline(0, color=EDGE, linewidth=0.8)
    ax.set_xticks(range(len(bars)), [f"{label}\nn = {entry.n}" for label, entry in bars])
    ax.set_xlim(-0.6, max(1, len(bars)) - 0.4)
    ax.margins(y=0.1)
    ax.grid(False, axis="x")
    ax.set_ylabel(f"mean {LABELS[measure]}")
    ax.set_title(
        f"{LABELS[measure].capitalize()}"
        + (f": PPO − base {interval(difference, signed=True)}" if has_value(difference) else "")
    )
    return fig


@styled
def score_distributions(groups: Sequence[Group], measure: Measure) -> Figure:
    """Histograms on common bins, one below the other, as shares of each group; the mean as a line.

    Args:
        groups: those without values for ``measure`` are left out.
    """
    columns = [(g, np.asarray(g.values[measure], float)) for g in groups if g.values.get(measure)]
    fig, panels = axes(max(1, len(columns)), height=0.6 + 1.25 * max(1, len(columns)), sharex=True, sharey=True)
    edges = _edges(np.concatenate([v for _, v in columns]) if columns else np.zeros(0))
    for ax, (group, values) in zip(panels, columns, strict=False):
        weights = np.full(len(values), 100 / len(values))
        ax.hist(values, edges, weights=weights, color=group.colour, alpha=0.45)
        ax.hist(values, edges, weights=weights, color=group.colour, histtype="step", linewidth=1.4)
        mean = float(values.mean())
        ax.axvline(mean, color=INK, linestyle=":", linewidth=1.6)
        ax.set_title(f"{group.label}: mean {number(mean)}, n = {len(values)}")
        ax.yaxis.set_major_locator(MaxNLocator(3))
    panels[len(panels) // 2].set_ylabel("% of completions")
    panels[-1].set_xlabel(f"{LABELS[measure]} (dotted: mean)")
    panels[-1].xaxis.set_major_locator(MaxNLocator(6))
    return fig


@styled
def length_against_score(groups: Sequence[Group], measure: Measure = "score") -> Figure:
    """One mark per completion: ``length`` in tokens against ``measure``. Shows a reward that pays for length.

    The lines join the means of five groups of equal size, from the shortest completions to the longest.
    """
    fig, (ax,) = axes(1, height=3.9)
    looks = {"base": ("o", "--"), "PPO": ("^", "-")}
    for group in groups:
        lengths, scores = (np.asarray(group.values[key], float) for key in ("length", measure))
        marker, style = looks.get(group.label, ("s", ":"))
        ax.scatter(lengths, scores, s=14, c=group.colour, marker=marker, alpha=0.4, lw=0, label=group.label)
        parts = [p for p in np.array_split(np.argsort(lengths, kind="stable"), 5) if len(p)]
        x, y = [lengths[p].mean() for p in parts], [scores[p].mean() for p in parts]
        look = {"color": group.colour, "marker": marker, "markeredgecolor": INK, "markersize": 6, "linewidth": 2}
        ax.plot(x, y, linestyle=style, label=f"{group.label}, mean by length", **look)
    ax.set_xlabel("length (tokens)")
    ax.set_ylabel(LABELS[measure])
    ax.set_title("Length and score of each completion")
    legend_below(fig, ax.get_legend_handles_labels()[0])
    return fig


@styled
def win_rates(judgements: Sequence[Judgement]) -> Figure:
    """A pair of bars for each judge: all pairs, and as it would be at equal length; dashed is no preference."""
    fig, (ax,) = axes(1, height=1.3 + 0.78 * max(1, len(judgements)))
    handles: list[Any] = []
    for i, judged in enumerate(judgements):
        looks: list[tuple[float, Estimate | None, str, dict[str, Any]]] = [
            (i - 0.19, judged.win_rate, "all pairs", {"color": BLUE, "alpha": 0.75}),
            (
                i + 0.19,
                judged.controlled,
                "at equal length",
                {"facecolor": "white", "edgecolor": BLUE, "hatch": "////"},
            ),
        ]
        for y, entry, label, look in looks:
            if not has_value(entry):
                continue
            handles.append(ax.barh(y, entry.value, height=0.34, label=label, **look))
            ax.errorbar(entry.value, y, xerr=arms([entry]), color=INK, capsize=3, linewidth=1.3)
            high = entry.high if entry.has_limits else entry.value
            ax.text(high + 0.015, y, f"{entry.value:.2f}", va="center", fontsize=9)
    ax.axvline(0.5, color=INK, linestyle="--", linewidth=1)
    names = [f"{textwrap.fill(j.judge, 18)}\nn = {j.win_rate.n}" for j in judgements]
    ax.set_yticks(range(len(judgements)), names)
    ax.set_ylim(len(judgements) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.set_xlim(0, 1.1)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    ax.set_xlabel("PPO wins against the base, ties half (95 % intervals)")
    ax.set_title("Win rate by judge")
    legend_below(fig, handles)
    return fig


def _edges(pooled: Any) -> list[float]:
    low, high = (pooled.min(), pooled.max()) if len(pooled) else (0.0, 1.0)
    wide = (low, high) if high > low else (low - 0.5, low + 0.5)
    return np.linspace(*wide, BINS + 1).tolist()
