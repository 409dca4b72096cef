"""Best-of-n from the base: the yardstick that PPO has to beat. Leaves out sampling; scores come in.

Of n completions the one that the proxy scores highest is taken. It needs no training, only n times the sampling,
and what it gains at some KL is what a policy at that KL has to be measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.policy.overoptimisation import fit_law
from pipeline.statistics.bootstrap import RESAMPLES, bootstrap_mean, finite

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def kl_bound(n: float) -> float:
    """log n - (n - 1) / n: KL(best-of-n || base) in nats per completion is at most this.

    Equal where no two completions tie and none is likely; else below it (Beirami et al. 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n


def samples_at(kl: float) -> float:
    """The n, rarely whole, whose :func:`kl_bound` is ``kl``; 1 for 0 and below."""
    from scipy.optimize import brentq

    if kl <= 0:
        return 1.0
    # log n exceeds the bound by less than 1.
    found: Any = brentq(lambda log_n: kl_bound(math.exp(log_n)) - kl, 0.0, kl + 1)
    return math.exp(found)


def rank_weights(n: int, samples: int) -> NDArray[np.float64]:
    """(N,) probability that the r-th lowest of N samples is the best of n of them, drawn without replacement.

    C(r - 1, n - 1) / C(N, n), for r = 1 .. N. So N samples give an unbiased estimate for every n up to N, with
    less variance than groups of n (Nakano et al. 2021, arXiv:2112.09332, appendix I).

    Raises:
        ValueError: ``n`` outside 1 .. N.
    """
    if not 1 <= n <= samples:
        raise ValueError(f"best of {n} from {samples} samples")
    total = math.comb(samples, n)
    return np.array([math.comb(rank, n - 1) / total for rank in range(samples)])


def best_of(scores: ArrayLike, values: ArrayLike, ns: Sequence[int]) -> NDArray[np.float64]:
    """(m, len(ns)) expected value of the completion that has the highest score among n of a prompt's N.

    Completions that tie share their values, as if a coin decided: otherwise the order of sampling would.

    Args:
        scores: (m, N) by which the best is chosen.
        values: (m, N) of what is wanted of it: gold scores, or the scores themselves.
    """
    by, wanted = np.asarray(scores, np.float64), np.asarray(values, np.float64)
    ranked = np.empty_like(wanted)
    for i, row in enumerate(by):
        _, place, count = np.unique(row, return_inverse=True, return_counts=True)
        shared = np.bincount(place, wanted[i]) / count
        ranked[i] = shared[np.sort(place)]
    return ranked @ np.stack([rank_weights(n, by.shape[1]) for n in ns], axis=1)


def best_of_n(
    chosen_by: ArrayLike,
    measured: Mapping[str, ArrayLike],
    ns: Sequence[int],
    policy: Mapping[str, ArrayLike],
    policy_kl: ArrayLike,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """What best-of-n gains, the law it follows, and the policy beside it; as plain JSON.

    Args:
        chosen_by: (m, N) score by which the best of each prompt's samples is chosen.
        measured: by name, (m, N) of the same samples.
        ns: the n that get a row; 1 is added.
        policy: by the same names, (m,) of the policy on these prompts, averaged over its completions.
        policy_kl: (m,) KL k1 of the policy's completions, likewise.
    Returns:
        prompts, samples; rows: n, kl_bound, d = sqrt(kl_bound), each measure's mean with its interval, and by
        measure the ``gain`` over n = 1, paired by prompt; by measure, laws (:func:`overoptimisation.fit_law` of
        the gains) and yardstick (:func:`yardstick`).
    """
    by = np.asarray(chosen_by, np.float64)
    prompts, samples = by.shape
    listed = [1, *sorted(set(ns) - {1})]
    curves = {name: best_of(by, values, range(1, samples + 1)) for name, values in measured.items()}
    interval = _intervals(seed, level, resamples)
    rows = [
        {
            "n": n,
            "kl_bound": kl_bound(n),
            "d": math.sqrt(kl_bound(n)),
            **{name: interval(curve[:, n - 1]) for name, curve in curves.items()},
            "gain": {name: interval(curve[:, n - 1] - curve[:, 0]) for name, curve in curves.items()},
        }
        for n in listed
    ]
    places = [n - 1 for n in listed[1:]]
    depths = [row["d"] for row in rows[1:]]
    return {
        "prompts": prompts,
        "samples": samples,
        "rows": rows,
        "laws": {
            name: fit_law(depths, curve[:, places] - curve[:, :1], "best_of_n", seed, level)
            for name, curve in curves.items()
        },
        "yardstick": {
            name: yardstick(curve, policy[name], policy_kl, seed, level, resamples)
            for name, curve in curves.items()
        },
    }


def yardstick(
    curve: ArrayLike,
    policy: ArrayLike,
    policy_kl: ArrayLike,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The policy against best-of-n at the policy's own KL, between two n linear in d = sqrt(KL).

    As best-of-n's KL is bounded from above, its curve stands too far to the right if anywhere, which flatters the
    policy. Where the policy's KL is past the largest n, nothing is extrapolated: ``n_needed`` says what it would
    take, and ``largest`` compares with the largest n there is, at its smaller KL.

    Args:
        curve: (m, N) of one measure, best-of-n for n = 1 .. N.
        policy, policy_kl: (m,) of the policy on the same prompts.
    Returns:
        policy (mean), policy_kl_k1, d, n_needed, within, best_of_n and difference (policy - best-of-n) with
        intervals, None where not within; largest: n, kl_bound, difference.
    """
    found, own, kl = (np.asarray(x, np.float64) for x in (curve, policy, policy_kl))
    knots = np.sqrt([kl_bound(n) for n in range(1, found.shape[1] + 1)])
    mean_kl = float(kl.mean())
    d = math.sqrt(max(mean_kl, 0.0))

    interval = _intervals(seed, level, resamples)
    at: NDArray[np.float64] | None = None
    if d <= knots[-1] and len(knots) > 1:
        left = min(int(np.searchsorted(knots, d, side="right")) - 1, len(knots) - 2)
        share = (d - knots[left]) / (knots[left + 1] - knots[left])
        at = found[:, left] * (1 - share) + found[:, left + 1] * share
        if d > 0:
            # Where the curve is read is an estimate too. To first order its error moves the value by the curve's
            # slope, so each prompt's share of it is added, and the interval covers both.
            slope = float((found[:, left + 1] - found[:, left]).mean()) / (knots[left + 1] - knots[left])
            at = at + slope * (kl - mean_kl) / (2 * d)
    return {
        "policy": interval(own),
        "policy_kl_k1": finite(mean_kl),
        "d": d,
        "n_needed": math.ceil(samples_at(mean_kl) - 1e-9) if mean_kl < 50 else None,
        "within": at is not None,
        "best_of_n": None if at is None else interval(at),
        "difference": None if at is None else interval(own - at),
        "largest": {
            "n": len(knots),
            "kl_bound": float(knots[-1] ** 2),
            "difference": interval(own - found[:, -1]),
        },
    }


def _intervals(seed: int, level: float, resamples: int) -> Callable[[NDArray[np.float64]], dict[str, Any]]:
    """The mean over prompts with its interval, as plain JSON, always by the same draws."""
    return lambda values: bootstrap_mean(values, seed, level, resamples).as_dict()
