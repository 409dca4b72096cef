"""Figures of several runs: their curves on common axes, and their results side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.figures.common import EDGE, GREY, INK, LABELS, RUNS, arms, axes, legend_below, styled
from pipeline.reporting.figures.frontier import Curves, with_bars
from pipeline.reporting.figures.training import GOLD, KL, Panel
from pipeline.results.metrics import Logged
from pipeline.results.sides import Measure
from pipeline.statistics.intervals import Estimate, has_value

STYLES, MARKERS = ("-", "--", "-.", ":"), ("o", "s", "D", "^", "v")


@dataclass(frozen=True)
class Look:
    """How a run is drawn in every figure; no two of the first sixty runs look alike."""

    colour: str
    style: Any
    marker: str

    @classmethod
    def of(cls, i: int) -> Look:
        return cls(RUNS[i % len(RUNS)], STYLES[i % len(STYLES)], MARKERS[i % len(MARKERS)])


@dataclass(frozen=True)
class Result:
    """One run in :func:`results`: its name and, by measure, what it came to."""

    label: str
    entries: Mapping[str, Estimate | None]


@styled
def training_overlay(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """Scores and KL against update, a line per run; marks are of held-out prompts where there are any.

    Args:
        runs: (label, rows of its metrics.jsonl) of each.
    """
    scores = Panel("Proxy score (mean)", "proxy score", Logged.SCORES, Logged.HELD_SCORES)
    panels = [p for p in (scores, GOLD) if any(_has(rows, str(p.own)) for _, rows in runs)] + [KL]
    fig, panes = axes(len(panels), height=0.8 + 1.8 * len(panels) + 0.12 * len(runs), sharex=True)
    for ax, panel in zip(panes, panels, strict=True):
        for i, (label, rows) in enumerate(runs):
            look = Look.of(i)
            panel.draw(ax, rows, label, color=look.colour, linestyle=look.style)
            panel.draw_held_out(ax, rows, color=look.colour, marker=look.marker)
    panes[-1].set_xlabel("update")
    panes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(fig, keys([label for label, _ in runs]))
    return fig


@styled
def frontier_overlay(runs: Sequence[tuple[str, Curves]], measure: Measure, best_of: str | None) -> Figure:
    """Gain over the base against sqrt(KL): each run's way and its end, and one run's best-of-n.

    Args:
        best_of: label of the run whose best-of-n is drawn.
    """
    fig, (ax,) = axes(1, height=4.1 + 0.12 * len(runs))
    handles = keys([label for label, _ in runs])
    for i, (label, drawn) in enumerate(runs):
        look = Look.of(i)
        if drawn.training:
            x, y = [p.d for p in drawn.training], [p.gain.value for p in drawn.training]
            ax.plot(x, y, color=look.colour, linestyle=look.style, marker=look.marker, markersize=3, linewidth=1)
        if drawn.policy is not None:
            marks = {"markersize": 9, "markeredgecolor": "white", "capsize": 4, "zorder": 4}
            with_bars(ax, [drawn.policy], fmt=look.marker, color=look.colour, **marks)
        if label == best_of and drawn.best_of_n:
            x, y = [p.d for p in drawn.best_of_n], [p.gain.value for p in drawn.best_of_n]
            marks = {"marker": "x", "linestyle": "none", "markersize": 6, "markeredgewidth": 1.6}
            handles += ax.plot(x, y, color=GREY, label="best-of-n", **marks)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_xlim(left=0)
    ax.set_xlabel("distance from the base, d = √KL (√nats)")
    ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
    ax.set_title("Gain against KL (large marks: evaluated, 95 %)")
    legend_below(fig, handles)
    return fig


@styled
def results(runs: Sequence[Result], panels: Sequence[tuple[str, str, float]]) -> Figure:
    """A panel for each measure, a row for each run: value and interval.

    Args:
        panels: (key of the entries, what it is called, where the dashed line stands: no change).
    """
    fig, plots = axes(len(panels), height=0.2 + len(panels) * (0.75 + 0.32 * len(runs)))
    for ax, (key, title, none) in zip(plots, panels, strict=True):
        for i, run in enumerate(runs):
            entry, look = run.entries.get(key), Look.of(i)
            if not has_value(entry):
                continue
            ax.errorbar(
                entry.value, i, xerr=arms([entry]), fmt=look.marker, color=look.colour, capsize=4, markersize=7,
                linewidth=1.6, markeredgecolor=EDGE, markeredgewidth=0.6,
            )  # fmt: skip
        ax.axvline(none, color=INK, linestyle="--", linewidth=1)
        ax.set_yticks(range(len(runs)), [run.label for run in runs])
        ax.set_ylim(len(runs) - 0.5, -0.5)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(False, axis="y")
        ax.set_xlabel(title)
    return fig


def keys(labels: Sequence[str]) -> list[Any]:
    """Entries of a legend, one for each run."""
    looks = [(label, Look.of(i)) for i, label in enumerate(labels)]
    return [
        Line2D([], [], color=look.colour, linestyle=look.style, marker=look.marker, markersize=5, label=label)
        for label, look in looks
    ]


def _has(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)
