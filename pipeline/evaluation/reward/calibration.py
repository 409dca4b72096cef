"""Calibration beyond the plain diagram: bins of equal mass, what chance shows, a temperature fitted elsewhere.

Works on margins; the diagram of bins of equal width is in :mod:`pipeline.evaluation.reward.pairwise_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.records import bucket
from pipeline.evaluation.reward.pairwise_metrics import fit_temperature, sigmoid
from pipeline.evaluation.reward.slices import mass_groups
from pipeline.statistics.bootstrap import as_finite, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BINS = 10
DRAWS = 500


def equal_mass(margins: ArrayLike, seed: int = 0, bins: int = BINS) -> dict[str, Any]:
    """Confidence against how often it was right, in bins of about equally many pairs.

    Confidence is max(p, 1 - p) with p = sigmoid(margin); a margin of 0 counts as half right. The ECE of few pairs
    is biased upwards: in a bin of k pairs the share that is right is about 1 / (2 sqrt(k)) off by chance. So
    ``expected`` and ``high`` say what a model whose confidences were exactly true would show on pairs like these
    (outcomes drawn from its confidences; Bröcker and Smith 2007): an ECE below ``high`` is no evidence of
    miscalibration.

    The Brier score is split as usual (Murphy 1973; ``within`` is what the binning leaves over, Stephenson et al.
    2008): brier = reliability - resolution + uncertainty + within. Reliability is the price of being miscalibrated
    (0 is best), resolution the gain of being sure where one is right, uncertainty what always giving the share of
    right pairs would have.

    Returns:
        ece, expected, high (95th percentile), rows (confidence, accuracy with Wilson's interval, count), brier and
        its parts. Numbers are None without pairs.
    """
    data = as_finite(margins, "margins")
    numbers = ("ece", "expected", "high", "brier", "reliability", "resolution", "uncertainty", "within")
    if len(data) == 0:
        return {"rows": [], **dict.fromkeys(numbers)}
    confidence = sigmoid(np.abs(data))
    right = np.where(data == 0, 0.5, data > 0)
    group = mass_groups(confidence, bins)
    group = np.unique(group, return_inverse=True)[1]
    count = np.bincount(group).astype(np.float64)
    sure, observed = np.bincount(group, confidence) / count, np.bincount(group, right) / count
    share = count / len(data)
    # A tie is decided by a coin: half right as it stands, right or wrong when drawn.
    rng = np.random.default_rng(seed)
    draws = (np.bincount(group, rng.random(len(data)) < confidence) / count for _ in range(DRAWS))
    by_chance = np.array([share @ np.abs(drawn - sure) for drawn in draws])
    mean = float(right.mean())
    brier = float(np.mean(sigmoid(-data) ** 2))
    parts = {
        "reliability": float(share @ (sure - observed) ** 2),
        "resolution": float(share @ (observed - mean) ** 2),
        "uncertainty": mean * (1 - mean),
    }
    rows = [
        {"confidence": float(sure[b]), "accuracy": wilson(float(right[group == b].sum()), int(count[b])).as_dict()}
        | {"count": int(count[b])}
        for b in range(len(count))
    ]
    return {
        "rows": rows,
        "ece": float(share @ np.abs(observed - sure)),
        "expected": float(by_chance.mean()),
        "high": float(np.quantile(by_chance, 0.95)),
        "brier": brier,
        **parts,
        "within": brier - (parts["reliability"] - parts["resolution"] + parts["uncertainty"]),
    }


def cross_fitted(margins: ArrayLike, groups: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """What a temperature is worth on pairs it was not fitted on.

    The pairs are cut into two halves, all of one group (a prompt) on one side; the temperature of either half is
    used on the other. A temperature fitted and judged on the same pairs always looks like an improvement.

    Args:
        groups: (n,) such as the prompts.
    Returns:
        temperatures (of the two halves), before and after (each log_loss in nats, brier, ece, ece_expected, over
        all pairs), or reason: why there is none (then the others are None).
    """
    data = as_finite(margins, "margins")
    side = np.array([bucket(g, salt=f"temperature:{seed}") < 0.5 for g in groups], dtype=bool)
    fitted = [fit_temperature(data[side == half]) for half in (False, True)]
    why = [f"in one half of the pairs, {reason}" for _, reason in fitted if reason is not None]
    if why:
        return {"temperatures": None, "before": None, "after": None, "reason": why[0]}
    found = [t for t, _ in fitted if t is not None]
    cooled = np.where(side, data / found[0], data / found[1])
    return {
        "temperatures": found,
        "before": _summary(data, seed),
        "after": _summary(cooled, seed),
        "reason": None,
    }


def _summary(margins: NDArray[np.float64], seed: int) -> dict[str, float]:
    diagram = equal_mass(margins, seed)
    return {
        "log_loss": float(np.logaddexp(0, -margins).mean()),
        "brier": diagram["brier"],
        "ece": diagram["ece"],
        "ece_expected": diagram["expected"],
    }
