"""What each reader gains: the base, the shared policy and their own, by the reader's gold score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.figures.common import BLUE, GREY, INK, ORANGE, arms, axes, legend_below, styled
from pipeline.results.readers import ReadersFigures
from pipeline.statistics.intervals import Estimate, has_value


def draw_readers(figures: ReadersFigures) -> Figure | None:
    """A row for each reader; without a gold score the gain by their reward model alone. None without a figure."""
    readers = figures.readers
    sides = {
        ("base", GREY, "o"): [r.gold_base for r in readers],
        ("shared policy", ORANGE, "s"): [r.gold_shared for r in readers],
        ("their own policy", BLUE, "D"): [r.gold_own for r in readers],
    }
    label = f"{figures.gold_name}, 95 % intervals"
    if not any(has_value(e) for line in sides.values() for e in line):
        sides = {("their own policy", BLUE, "D"): [r.proxy_over_shared for r in readers]}
        label = "their reward model's score, their own policy less the shared one"
    if not any(has_value(e) for line in sides.values() for e in line):
        return None
    return _draw(sides, [r.reader for r in readers], label)


@styled
def _draw(sides: dict[tuple[str, str, str], list[Estimate | None]], readers: Sequence[str], label: str) -> Figure:
    fig, (ax,) = axes(1, height=1.2 + 0.34 * len(readers))
    handles = [h for look, line in sides.items() for h in _side(ax, look, line)]
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(range(len(readers)), readers)
    ax.invert_yaxis()
    ax.set_ylabel("reader")
    ax.set_xlabel(label)
    ax.margins(x=0.06, y=0.08)
    legend_below(fig, handles)
    return fig


def _side(ax: Axes, look: tuple[str, str, str], line: Sequence[Estimate | None]) -> list[Any]:
    label, color, marker = look
    points = [(place, estimate) for place, estimate in enumerate(line) if has_value(estimate)]
    if not points:
        return []
    estimates = [estimate for _, estimate in points]
    drawn = ax.errorbar(
        [e.value for e in estimates],
        [place for place, _ in points],
        xerr=arms(estimates),
        label=label,
        color=color,
        marker=marker,
        linestyle="none",
        markersize=5,
        elinewidth=1.2,
        capsize=2,
    )
    return [drawn]
