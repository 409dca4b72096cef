"""A loop's rounds: what the policy gained, and how often the reward model is right on the policy's own samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.figures.common import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    arms,
    axes,
    legend_below,
    styled,
)
from pipeline.results.rounds import LoopFigures
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import number

Line = Sequence[tuple[int, Estimate | None]]
Look = tuple[str, str, str]
"""What a line is called, its colour and its marker."""


def draw_rounds(figures: LoopFigures) -> Figure | None:
    """Gains over the base above, the reward model's accuracy below; None without a figure."""
    rounds = figures.rounds
    n = next((r.best_of for r in rounds if r.best_of), 0)
    gains = {
        ("gold, policy less base", BLUE, "o"): [(r.number, r.gold_over_base) for r in rounds],
        ("proxy, policy less base", PURPLE, "s"): [(r.number, r.proxy_over_base) for r in rounds],
        (f"gold, best of {n} less base", GREY, "v"): [(r.number, r.best_of_over_base) for r in rounds],
    }
    accuracies = {
        ("last reward model", ORANGE, "D"): [(r.number, r.reward_last) for r in rounds],
        ("this reward model", GREEN, "^"): [(r.number, r.reward_new) for r in rounds],
        ("labels, as gold has them", GREY, "x"): [(r.number, r.labels_gold) for r in rounds],
    }
    if not any(has_value(e) for lines in (gains, accuracies) for line in lines.values() for _, e in line):
        return None
    labels = [f"{r.number}\nKL {number(r.kl.value, 1)}" if has_value(r.kl) else str(r.number) for r in rounds]
    return _draw(gains, accuracies, labels)


@styled
def _draw(gains: Mapping[Look, Line], accuracies: Mapping[Look, Line], labels: Sequence[str]) -> Figure:
    fig, (upper, lower) = axes(2, height=5.2, sharex=True)
    handles = [h for look, line in gains.items() for h in _line(upper, look, line)]
    handles += [h for look, line in accuracies.items() for h in _line(lower, look, line)]
    upper.axhline(0, color=INK, linewidth=0.8)
    upper.set_ylabel("score, gain over the base")
    lower.axhline(0.5, color=INK, linewidth=0.8, linestyle=":")
    lower.set_ylabel("right on the policy's pairs")
    lower.set_xlabel("round, and its policy's KL to the base in nats")
    lower.set_xticks(range(1, len(labels) + 1), labels)
    for ax in (upper, lower):
        ax.margins(x=0.08, y=0.12)
    legend_below(fig, handles)
    return fig


def _line(ax: Axes, look: Look, line: Line) -> list[Any]:
    label, color, marker = look
    points = [(number, estimate) for number, estimate in line if has_value(estimate)]
    if not points:
        return []
    estimates = [estimate for _, estimate in points]
    drawn = ax.errorbar(
        [number for number, _ in points],
        [e.value for e in estimates],
        yerr=arms(estimates),
        label=label,
        color=color,
        marker=marker,
        markersize=5,
        linewidth=1.4,
        elinewidth=1,
        capsize=2,
    )
    return [drawn]
