"""Calibration of a reward model: bins of equal width and of equal mass, chance, a fitted temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from pipeline.base.records import bucket
from pipeline.evaluation.reward.slices import mass_groups
from pipeline.results.calibration import Calibration, CrossFitted, EqualMass, Fit, MassBin, ReliabilityBin
from pipeline.statistics.bootstrap import as_finite, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BINS = 10
DRAWS = 500


def calibration(margins: ArrayLike, bins: int = BINS) -> Calibration:
    """Is a pair of which the model is p sure decided its way with frequency p?

    The model's probability that the chosen completion wins is sigmoid(margin) (Bradley and Terry 1952). It
    cannot know which that is, so confidence is max(p, 1 - p), in .5 .. 1, and observed is whether the one it
    favoured was chosen (a margin of 0 counts half). ECE: Guo et al. 2017, arXiv:1706.04599.

    Args:
        margins: (n,) chosen score minus rejected score.
        bins: of equal width over .5 .. 1; empty ones are left out of the rows.
    """
    data = as_finite(margins, "margins")
    temperature, reason = fit_temperature(data)
    rows = _reliability(data, bins)
    return Calibration(
        ece=calibration_error(rows),
        brier=float(np.mean(sigmoid(-data) ** 2)) if len(data) else None,
        rows=rows,
        temperature=temperature,
        temperature_reason=reason,
        ece_at_temperature=temperature and calibration_error(_reliability(data / temperature, bins)),
    )


def reliability_bins(
    confidence: NDArray[np.float64], observed: ArrayLike, lowest: float, bins: int
) -> tuple[ReliabilityBin, ...]:
    """Confidence against how often it was right, in bins of equal width over ``lowest`` .. 1; none that is empty.

    Args:
        observed: (n,) 1 where it was right, 0.5 for a tie, 0 otherwise.
    """
    width, right = 1 - lowest, np.asarray(observed, np.float64)
    # A confidence of exactly 1 belongs to the last bin.
    index = np.minimum(((confidence - lowest) / width * bins).astype(int), bins - 1)
    return tuple(
        ReliabilityBin(
            lowest + b * width / bins,
            lowest + (b + 1) * width / bins,
            float(confidence[index == b].mean()),
            wilson(float(right[index == b].sum()), int((index == b).sum())),
            int((index == b).sum()),
        )
        for b in np.unique(index).tolist()
    )


def calibration_error(rows: Sequence[ReliabilityBin]) -> float | None:
    """Mean distance of confidence and observed share, weighted by the bins' counts; None without rows."""
    n = sum(row.count for row in rows)
    return sum(row.count * abs(row.accuracy.value - row.confidence) for row in rows) / n if n else None


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def _reliability(margins: NDArray[np.float64], bins: int) -> tuple[ReliabilityBin, ...]:
    return reliability_bins(sigmoid(np.abs(margins)), np.where(margins == 0, 0.5, margins > 0), 0.5, bins)


def fit_temperature(margins: ArrayLike) -> tuple[float | None, str | None]:
    """The T that minimises the mean of -log sigmoid(margin / T) on these pairs: a diagnosis, not a correction.

    T above 1 means overconfident, below 1 underconfident (Guo et al. 2017, section 4.2).

    Returns:
        (T, None), or (None, the reason) where no finite T is best.
    """
    from scipy.optimize import minimize_scalar

    data = as_finite(margins, "margins")
    if len(data) == 0 or data.mean() <= 0:
        return None, "the mean margin is not positive, so no temperature helps" if len(data) else "no pairs"
    if (data >= 0).all():
        return None, "no pair is wrong, so ever smaller temperatures fit better"

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -data / math.exp(log_temperature)).mean())

    # The loss is convex in 1/T: one minimum in log T. Scores have no fixed scale, so the search is around the
    # typical margin.
    centre = math.log(float(np.abs(data).mean()))
    result = minimize_scalar(loss, bounds=(centre - 7, centre + 7), method="bounded", options={"xatol": 1e-6})
    return math.exp(cast("float", result.x)), None


def equal_mass(margins: ArrayLike, seed: int = 0, bins: int = BINS) -> EqualMass:
    """Confidence against how often it was right, in bins of about equally many pairs.

    Confidence is max(p, 1 - p) with p = sigmoid(margin); a margin of 0 counts as half right. The ECE of few pairs
    is biased upwards: in a bin of k pairs the share that is right is about 1 / (2 sqrt(k)) off by chance. So
    ``expected`` and ``high`` say what a model whose confidences were exactly true would show on pairs like these
    (outcomes drawn from its confidences; Bröcker and Smith 2007): an ECE below ``high`` is not evidence of
    miscalibration.

    The Brier score is split as usual (Murphy 1973; ``within`` is what the binning leaves over, Stephenson et al.
    2008): brier = reliability - resolution + uncertainty + within. Reliability is the price of being miscalibrated
    (0 is best), resolution the gain of being sure where one is right, uncertainty what always giving the share of
    right pairs would have.
    """
    data = as_finite(margins, "margins")
    if len(data) == 0:
        return EqualMass((), *[None] * 8)
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
    reliability = float(share @ (sure - observed) ** 2)
    resolution = float(share @ (observed - mean) ** 2)
    uncertainty = mean * (1 - mean)
    return EqualMass(
        rows=tuple(
            MassBin(float(sure[b]), wilson(float(right[group == b].sum()), int(count[b])), int(count[b]))
            for b in range(len(count))
        ),
        ece=float(share @ np.abs(observed - sure)),
        expected=float(by_chance.mean()),
        high=float(np.quantile(by_chance, 0.95)),
        brier=brier,
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        within=brier - (reliability - resolution + uncertainty),
    )


def cross_fitted(margins: ArrayLike, groups: Sequence[str], seed: int = 0) -> CrossFitted:
    """The effect of a temperature on pairs it was not fitted on.

    The pairs are cut into two halves, all of one group (a prompt) on one side; the temperature of either half is
    used on the other. A temperature fitted and judged on the same pairs always looks like an improvement.

    Args:
        groups: (n,) such as the prompts.
    """
    data = as_finite(margins, "margins")
    side = np.array([bucket(g, salt=f"temperature:{seed}") < 0.5 for g in groups], dtype=bool)
    fitted = [fit_temperature(data[side == half]) for half in (False, True)]
    why = [f"in one half of the pairs, {reason}" for _, reason in fitted if reason is not None]
    if why:
        return CrossFitted(None, None, None, why[0])
    temperatures = tuple(t for t, _ in fitted if t is not None)
    cooled = np.where(side, data / temperatures[0], data / temperatures[1])
    return CrossFitted(temperatures, _fit(data, seed), _fit(cooled, seed), None)


def _fit(margins: NDArray[np.float64], seed: int) -> Fit:
    diagram = equal_mass(margins, seed)
    return Fit(float(np.logaddexp(0, -margins).mean()), diagram.brier, diagram.ece, diagram.expected)
