"""Figures of a reward model: its calibration, and its accuracy beside the baselines'."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting.figures.common import BLUE, GREEN, GREY, INK, ORANGE, arms, axes, legend_below, styled
from pipeline.results.calibration import Calibration, LikeCalibration
from pipeline.results.reward import LikeGold, PointwiseMetrics, RewardMetrics
from pipeline.statistics.intervals import has_value


@styled
def reliability(calibration: Calibration | LikeCalibration) -> Figure:
    """Observed against predicted confidence, with Wilson intervals, and how many rows stand behind each bin."""
    single = isinstance(calibration, LikeCalibration)
    least = 0.0 if single else 0.5
    rows = calibration.rows
    fig, (top, bottom) = axes(2, height=5.2, sharex=True, height_ratios=(3, 1))
    handles: list[Any] = top.plot(
        [least, 1], [least, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfectly calibrated"
    )
    x, observed = [row.confidence for row in rows], [row.accuracy for row in rows]
    y = [accuracy.value for accuracy in observed]
    look = {"fmt": "o-", "color": BLUE, "capsize": 3, "linewidth": 1.4}
    handles.append(top.errorbar(x, y, yerr=arms(observed), label="observed (95 %, Wilson)", **look))
    top.set_ylabel("share liked" if single else "share decided that way")
    top.set_ylim(-0.03, 1.03)
    figures = {"ECE": calibration.ece, "Brier score": calibration.brier}
    figures |= {} if single else {"temperature": calibration.temperature}
    measures = [f"{name} {value:.2f}" for name, value in figures.items() if value is not None]
    top.set_title("How sure, and how often right" + (f"\n{', '.join(measures)}" if measures else ""))
    centres = [(row.high + row.low) / 2 for row in rows]
    counts, widths = [row.count for row in rows], [0.9 * (row.high - row.low) for row in rows]
    bars = bottom.bar(centres, counts, widths, color=BLUE, alpha=0.55)
    bottom.bar_label(bars, fontsize=8, padding=1)
    bottom.margins(y=0.25)
    bottom.set_ylabel("completions" if single else "pairs")
    bottom.set_xlabel("probability of a like" if single else "confidence, max(p, 1 − p)")
    bottom.set_xlim(least - 0.01, 1.01)
    legend_below(fig, handles)
    return fig


@styled
def reward_accuracy(metrics: RewardMetrics) -> Figure:
    """The reward model's accuracy beside its baselines, and against gold; of single completions, its AUC."""
    single = isinstance(metrics, PointwiseMetrics)
    entries = [("reward model", metrics.main, BLUE, "")]
    entries += [(b.name, b.estimate, GREY, "////") for b in metrics.baselines]
    if isinstance(metrics.gold, LikeGold):
        entries += [("gold score\nagainst labels", metrics.gold.labels, GREEN, "..")]
    elif metrics.gold:
        entries += [("reward model\nagainst gold", metrics.gold.accuracy, ORANGE, "")]
        entries += [("labels\nagainst gold", metrics.gold.labels, GREEN, "..")]
    bars = [(name, e, colour, hatch) for name, e, colour, hatch in entries if has_value(e)]
    fig, (ax,) = axes(1, height=1.0 + 0.52 * max(2, len(bars)))
    for i, (_, accuracy, colour, hatch) in enumerate(bars):
        look: Any = (
            {"facecolor": "white", "edgecolor": colour, "hatch": hatch}
            if hatch
            else {"color": colour, "alpha": 0.75}
        )
        ax.barh(i, accuracy.value, height=0.62, **look)
        ax.errorbar(accuracy.value, i, xerr=arms([accuracy]), color=INK, capsize=3, linewidth=1.3)
        ax.text(accuracy.high + 0.015, i, f"{accuracy.value:.2f}", va="center", fontsize=9)
    ax.axvline(0.5, color=INK, linestyle="--", linewidth=1)
    ax.set_yticks(range(len(bars)), [f"{name}\nn = {accuracy.n}" for name, accuracy, _, _ in bars])
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set_xlim(0, 1.1)
    ax.set_xlabel("AUC (95 %; dashed: chance)" if single else "accuracy (95 %; dashed: a coin's)")
    ax.set_title("AUC on held-out completions" if single else "Accuracy on held-out pairs")
    return fig
