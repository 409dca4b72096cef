"""The length-controlled win rate: the win rate at equal lengths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from pipeline.results.policy import LengthControlledWinRate
from pipeline.statistics.bootstrap import as_finite, finite, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FEWEST_PROMPTS = 20
FEWEST_EACH_SIDE = 5
RESAMPLES = 1000
STEPS = 50


def length_controlled_win_rate(
    outcomes: ArrayLike,
    length_difference: ArrayLike,
    per_prompt: int = 1,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> LengthControlledWinRate:
    """Logistic regression of the win on the length difference, read at a difference of zero.

    P(win) = sigmoid(theta + phi tanh(difference / its typical size)), and sigmoid(theta) is the answer, as in
    AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475). Its third term, the difficulty of an instruction, is left
    out: it is fitted on the answers of many models, and here are two. Instead of its penalty (an L1 term chosen
    by cross-validation, against models that try to game the control) the likelihood has Jeffreys' prior (Firth
    1993), which keeps the estimate finite where wins and lengths separate, as they do in a bootstrap sample sooner
    or later. The interval is the percentile bootstrap over prompts. What is controlled for is length and nothing
    else: a policy that became longer *and* better because it says more loses what the length explains.

    Args:
        outcomes: (n,) 1 where the policy won, 0 where the base did, .5 for a tie; NaN for no answer.
        length_difference: (n,) the policy's length less the base's, in tokens.
        per_prompt: completions per prompt, which stand together; prompts are what is resampled.
    """
    wins = np.asarray(outcomes, np.float64).reshape(-1, per_prompt)
    gaps = as_finite(length_difference, "length differences").reshape(-1, per_prompt)
    kept = ~np.isnan(wins).all(1)
    wins, gaps = wins[kept], gaps[kept]
    answered = ~np.isnan(wins)
    n = len(wins)
    reason = _why_not(wins[answered], gaps[answered], n)
    if reason is not None:
        return LengthControlledWinRate(math.nan, math.nan, math.nan, n, slope=None, reason=reason)
    if not gaps[answered].any():
        share = wilson(float(np.nanmean(wins, 1).sum()), n, level)
        return LengthControlledWinRate(**vars(share), slope=None, reason=None)
    # The deviation is about zero, as zero is where the curve is read, and not the sample's own mean: a policy that
    # is always longer by ten tokens is not at its usual length.
    scale = math.sqrt(float((gaps[answered] ** 2).mean()))
    weight = answered / answered.sum(1, keepdims=True)  # each prompt weighs one
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    theta, phi = _fit(np.nan_to_num(wins), np.tanh(gaps / scale), weight, np.concatenate([np.ones((1, n)), drawn]))
    value, *rates = expit(theta).tolist()
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2]).tolist()
    slope = finite(float(phi[0]))
    return LengthControlledWinRate(value, min(low, value), max(high, value), n, slope=slope, reason=None)


def _why_not(wins: NDArray[np.float64], gaps: NDArray[np.float64], n: int) -> str | None:
    if n < FEWEST_PROMPTS:
        return f"{n} prompts with an answer; fewer than {FEWEST_PROMPTS} say little about length"
    if (wins == wins[0]).all():
        return "the same outcome everywhere, whatever the lengths"
    shorter, longer = int((gaps <= 0).sum()), int((gaps >= 0).sum())
    if min(shorter, longer) < FEWEST_EACH_SIDE:
        which = "longer" if shorter < longer else "shorter"
        return f"the policy's completions are {which} almost everywhere, so nothing shows what equal lengths give"
    return None


def _fit(
    wins: NDArray[np.float64],
    features: NDArray[np.float64],
    share: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(R,) theta and phi for each row of weights (R, n), by Newton's steps on Firth's modified score.

    Args:
        wins, features, share: (n, k); share of a prompt's weight that each of its completions has.
    """
    x, y, s = features.ravel(), wins.ravel(), share.ravel()
    k = features.shape[1]
    theta, phi = np.zeros(len(weights)), np.zeros(len(weights))
    block = max(1, 2**21 // len(x))
    for start in range(0, len(weights), block):
        rows = slice(start, start + block)
        w = np.repeat(weights[rows], k, axis=1) * s
        theta[rows], phi[rows] = _newton(x, y, w)
    return theta, phi


def _newton(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.zeros(len(w)), np.zeros(len(w))
    for _ in range(STEPS):
        p = expit(a[:, None] + b[:, None] * x)
        v = p * (1 - p)
        wv = w * v
        i00, i01, i11 = wv.sum(1), wv @ x, wv @ (x * x)
        det = np.maximum(i00 * i11 - i01**2, 1e-12)
        # Leverage of one completion: v x' I^-1 x with x = (1, x).
        h = v * (i11[:, None] - 2 * i01[:, None] * x + i00[:, None] * x * x) / det[:, None]
        residual = w * (y - p + h * (0.5 - p))
        g0, g1 = residual.sum(1), residual @ x
        da, db = (i11 * g0 - i01 * g1) / det, (i00 * g1 - i01 * g0) / det
        a, b = a + da, b + db
        if max(float(np.abs(da).max()), float(np.abs(db).max())) < 1e-6:
            break
    return a, b
