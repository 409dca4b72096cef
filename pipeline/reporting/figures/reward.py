"""Figures of a reward model: its calibration, and its accuracy beside the baselines'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting.figures.common import BLUE, GREEN, GREY, INK, ORANGE, arms, axes, legend_below, styled
from pipeline.statistics.intervals import as_estimate, has_value


@styled
def reliability(calibration: Mapping[str, Any], single: bool = False) -> Figure:
    """Observed against predicted confidence, with Wilson intervals, and how many rows stand behind each bin.

    Args:
        calibration: ``rows``, ``ece``, ``brier``, ``temperature`` as ``evaluation.reward_metrics`` returns them.
        single: of single completions, as ``evaluation.pointwise_metrics`` has it: predicted is P(like).
    """
    least = 0.0 if single else 0.5
    rows = calibration["rows"]
    fig, (top, bottom) = axes(2, height=5.2, sharex=True, height_ratios=(3, 1))
    handles: list[Any] = top.plot(
        [least, 1], [least, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfectly calibrated"
    )
    x = [row["confidence"] for row in rows]
    observed = [e for row in rows if (e := as_estimate(row["accuracy"])) is not None]
    y = [entry.value for entry in observed]
    look = {"fmt": "o-", "color": BLUE, "capsize": 3, "linewidth": 1.4}
    handles.append(top.errorbar(x, y, yerr=arms(observed), label="observed (95 %, Wilson)", **look))
    top.set_ylabel("share liked" if single else "share decided that way")
    top.set_ylim(-0.03, 1.03)
    figures = (("ECE", "ece"), ("Brier score", "brier"), ("temperature", "temperature"))
    summary = [f"{name} {calibration[key]:.2f}" for name, key in figures if calibration.get(key) is not None]
    top.set_title("How sure, and how often right" + (f"\n{', '.join(summary)}" if summary else ""))
    centres = [(row["high"] + row["low"]) / 2 for row in rows]
    counts, widths = [row["count"] for row in rows], [0.9 * (row["high"] - row["low"]) for row in rows]
    bars = bottom.bar(centres, counts, widths, color=BLUE, alpha=0.55)
    bottom.bar_label(bars, fontsize=8, padding=1)
    bottom.margins(y=0.25)
    bottom.set_ylabel("completions" if single else "pairs")
    bottom.set_xlabel("probability of a like" if single else "confidence, max(p, 1 − p)")
    bottom.set_xlim(least - 0.01, 1.01)
    legend_below(fig, handles)
    return fig


@styled
def reward_accuracy(metrics: Mapping[str, Any]) -> Figure:
    """The reward model's accuracy beside its baselines, and against gold; of single completions, its AUC."""
    single = "auc" in metrics
    key = "auc" if single else "accuracy"
    entries = [("reward model", metrics[key], BLUE, "")]
    entries += [(b["name"], b[key], GREY, "////") for b in metrics["baselines"] if b[key]]
    gold = metrics.get("gold")
    if gold and single:
        entries += [("gold score\nagainst labels", gold["labels"], GREEN, "..")]
    elif gold:
        entries += [("reward model\nagainst gold", gold["accuracy"], ORANGE, "")]
        entries += [("labels\nagainst gold", gold["labels"], GREEN, "..")]
    estimates = [(name, as_estimate(entry), colour, hatch) for name, entry, colour, hatch in entries]
    bars = [(name, e, colour, hatch) for name, e, colour, hatch in estimates if has_value(e)]
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
