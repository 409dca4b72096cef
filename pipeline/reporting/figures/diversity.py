"""What a gain costs in variety: gain over the base against effective closing sentences, PPO beside best-of-n.

The second half of the frontier: at one gain, who is further to the right says the same in more ways. All are
counted at one completion of each prompt (:mod:`pipeline.evaluation.policy.diversity_best_of_n`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting.figures.common import BLUE, INK, LABELS, ORANGE, arms, axes, known, legend_below, styled
from pipeline.statistics.spelling import dig

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A gain, and the closing sentences that are left at it; both {value, low, high}."""

    closings: Entry
    gain: Entry
    label: str = ""


@dataclass(frozen=True)
class Trade:
    """One run's part of the picture.

    Attributes:
        base: effective closing sentences of the base.
        prompts: how many completions stand behind each number, one of each prompt.
    """

    measure: str
    base: float
    prompts: int
    best_of_n: Sequence[Kept]
    policy: Kept


def trade(stats: Mapping[str, Any], measure: str | None = None) -> Trade | None:
    """From an evaluation's stats; None where best-of-n was not sampled, or nothing is known to have been gained.

    Args:
        measure: ``gold_score`` or ``score``; by default gold where there is any.
    """
    found = dig(stats, "diversity", "best_of_n")
    named = measure or ("gold_score" if known(dig(stats, "gold_score", "difference")) else "score")
    change = dig(stats, named, "difference")
    if not found or not known(change):
        return None
    gains = {row["n"]: dig(row, "gain", named) for row in dig(stats, "best_of_n", "rows") or []}
    points = [
        Kept(_limits(row["closings"]), _limits(gains[row["n"]]), f"n = {row['n']}")
        for row in found["rows"][1:]
        if known(gains.get(row["n"]))
    ]
    policy = Kept(_limits(found["policy"]["closings"]), _limits(change))
    return Trade(named, found["rows"][0]["closings"]["value"], found["prompts"], points, policy)


def _limits(entry: Entry) -> Entry:
    return {k: entry.get(k) for k in ("value", "low", "high")}


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
    x = [drawn.base, *(p.closings["value"] for p in drawn.best_of_n)]
    y = [0.0, *(p.gain["value"] for p in drawn.best_of_n)]
    ax.plot(x, y, color=ORANGE, linewidth=1, alpha=0.6)
    look: Any = {"color": ORANGE, "markersize": 5, "capsize": 2, "elinewidth": 1}
    made = with_arms(ax, drawn.best_of_n, fmt="s", label="best-of-n from the base (95 %)", **look)
    if drawn.best_of_n:
        last = drawn.best_of_n[-1]
        where = (last.closings["value"], last.gain["value"])
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
    across, up = (arms([getattr(p, name) for p in points]) for name in ("closings", "gain"))
    limits = [all(getattr(p, name).get("low") is not None for p in points) for name in ("closings", "gain")]
    return ax.errorbar(
        [p.closings["value"] for p in points], [p.gain["value"] for p in points],
        xerr=across if limits[0] else None, yerr=up if limits[1] else None, **look,
    )  # fmt: skip


def frame(ax: Axes, measure: str, prompts: int, drawn: Sequence[Trade]) -> None:
    """Labels, and an axis that begins at no sentence at all."""
    highest = [d.base for d in drawn]
    for d in drawn:
        highest += [p.closings.get("high") or p.closings["value"] for p in (*d.best_of_n, d.policy)]
    ax.set_xlim(0, 1.06 * max(highest))
    ax.set_xlabel(f"effective closing sentences, of {prompts} prompts")
    ax.set_ylabel(f"{LABELS[measure]}, gain over the base")
    ax.margins(y=0.12)
