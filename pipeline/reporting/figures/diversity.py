"""What a gain costs in variety: gain over the base against effective closing sentences, PPO beside best-of-n.

The second half of the frontier: at one gain, who is further to the right says the same in more ways. All are
counted at one completion of each prompt (:mod:`pipeline.evaluation.policy.diversity_best_of_n`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.figures.common import BLUE, INK, LABELS, ORANGE, arms, axes, legend_below, styled
from pipeline.results.policy import Evaluation
from pipeline.results.sides import Measure
from pipeline.statistics.intervals import Estimate, has_value


@dataclass(frozen=True)
class Kept:
    """A gain, and the effective number of closing sentences that is left at it."""

    closings: Estimate
    gain: Estimate
    label: str = ""


@dataclass(frozen=True)
class Trade:
    """One run's part of the picture.

    Attributes:
        base: effective closing sentences of the base.
        prompts: how many completions stand behind each number, one of each prompt.
    """

    measure: Measure
    base: float
    prompts: int
    best_of_n: Sequence[Kept]
    policy: Kept


def trade(evaluation: Evaluation, measure: Measure | None = None) -> Trade | None:
    """From an evaluation; None where best-of-n was not sampled, or nothing is known to have been gained.

    Args:
        measure: by default gold where there is any.
    """
    variety, gold = evaluation.diversity and evaluation.diversity.best_of_n, evaluation.gold_score
    named: Measure = measure or ("gold_score" if gold and has_value(gold.difference) else "score")
    change = evaluation.change(named)
    if not variety or not change or not has_value(change.difference):
        return None
    gains = {row.n: row.gain.get(named) for row in evaluation.best_of_n.rows}
    points = [
        Kept(row.closings, gain, f"n = {row.n}") for row in variety.rows[1:] if has_value(gain := gains.get(row.n))
    ]
    policy = Kept(variety.policy.closings, change.difference)
    return Trade(named, variety.rows[0].closings.value, variety.prompts, points, policy)


@styled
def diversity_frontier(drawn: Trade) -> Figure:
    """One run's trade: best-of-n as squares from the base, PPO as a star."""
    fig, (ax,) = axes(1, height=3.7)
    handles = [best_of_n(ax, drawn)]
    look: Any = {"color": BLUE, "markersize": 13, "markeredgecolor": "white", "capsize": 4, "elinewidth": 1.5}
    handles.append(with_arms(ax, [drawn.policy], fmt="*", label="PPO, evaluated (95 %)", zorder=4, **look))
    handles += ground(ax, drawn.base)
    frame(ax, drawn.measure, drawn.prompts, [drawn])
    legend_below(fig, handles)
    return fig


def best_of_n(ax: Axes, drawn: Trade) -> Any:
    """Squares for every n, joined from the base on; the largest n is named."""
    x = [drawn.base, *(p.closings.value for p in drawn.best_of_n)]
    y = [0.0, *(p.gain.value for p in drawn.best_of_n)]
    ax.plot(x, y, color=ORANGE, linewidth=1, alpha=0.6)
    look: Any = {"color": ORANGE, "markersize": 5, "capsize": 2, "elinewidth": 1}
    made = with_arms(ax, drawn.best_of_n, fmt="s", label="best-of-n from the base (95 %)", **look)
    if drawn.best_of_n:
        last = drawn.best_of_n[-1]
        where = (last.closings.value, last.gain.value)
        behind = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
        ax.annotate(
            last.label, where, (-5, 7), textcoords="offset points", ha="right", fontsize=8, bbox=behind, zorder=1.9
        )
    return made


def ground(ax: Axes, base: float, halved: bool = True) -> list[Any]:
    """The base as a mark at no gain, and the ground where less than half of its variety is left."""
    handles: list[Any] = ax.plot([base], [0], color=INK, marker="o", markersize=6, linestyle="none", label="base")
    ax.axhline(0, color=INK, linewidth=0.8)
    if halved:
        handles.append(
            ax.axvspan(0, base / 2, color=INK, alpha=0.07, linewidth=0, label="less than half of the base")
        )
    return handles


def with_arms(ax: Axes, points: Sequence[Kept], **look: Any) -> Any:
    """Marks with arms both ways, none where there are no limits."""
    closings, gains = [p.closings for p in points], [p.gain for p in points]
    across, up = (arms(e) if all(x.has_limits for x in e) else None for e in (closings, gains))
    x, y = [e.value for e in closings], [e.value for e in gains]
    return ax.errorbar(x, y, xerr=across, yerr=up, **look)


def frame(ax: Axes, measure: Measure, prompts: int, drawn: Sequence[Trade]) -> None:
    """Labels, and an axis that begins at no sentence at all."""
    left = [p.closings for d in drawn for p in (*d.best_of_n, d.policy)]
    highest = [*(d.base for d in drawn), *(e.high if e.has_limits else e.value for e in left)]
    ax.set_xlim(0, 1.06 * max(highest))
    ax.set_xlabel(f"effective closing sentences, of {prompts} prompts")
    ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
    ax.margins(y=0.12)
