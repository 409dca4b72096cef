"""Best-of-n from the base: the yardstick that PPO has to beat.

It takes the completion of n that the proxy scores highest: no training, n times the sampling. A policy is compared
with its gain at the policy's KL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from pipeline.evaluation.policy.overoptimisation_laws import fit_law
from pipeline.results.best_of_n import BestOf, BestOfN, LargestN, Yardstick
from pipeline.statistics.bootstrap import RESAMPLING, Resampling

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
    return math.exp(cast("float", brentq(lambda x: kl_bound(math.exp(x)) - kl, 0.0, kl + 1)))


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
        values: (m, N) of the measure: gold scores, or the scores themselves.
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
    resampling: Resampling = RESAMPLING,
) -> BestOfN:
    """The gain of best-of-n, its law, and the comparison with the policy.

    Args:
        chosen_by: (m, N) score by which the best of each prompt's samples is chosen.
        measured: by name, (m, N) of the same samples.
        ns: the n that get a row; 1 is added.
        policy: by the same names, (m,) of the policy on these prompts, averaged over its completions.
        policy_kl: (m,) KL k1 of the policy's completions, likewise.
    """
    prompts, samples = np.shape(chosen_by)
    curves = {name: best_of(chosen_by, values, range(1, samples + 1)) for name, values in measured.items()}
    rows = [
        BestOf(
            n=n,
            kl_bound=kl_bound(n),
            d=math.sqrt(kl_bound(n)),
            means={name: resampling.mean(curve[:, n - 1]) for name, curve in curves.items()},
            gain={name: resampling.mean(curve[:, n - 1] - curve[:, 0]) for name, curve in curves.items()},
        )
        for n in (1, *sorted(set(ns) - {1}))
    ]
    columns, depths = [row.n - 1 for row in rows[1:]], [row.d for row in rows[1:]]
    return BestOfN(
        reason=None,
        prompts=prompts,
        samples=samples,
        rows=rows,
        laws={
            name: fit_law(depths, curve[:, columns] - curve[:, :1], "best_of_n", resampling)
            for name, curve in curves.items()
        },
        yardstick={name: yardstick(curve, policy[name], policy_kl, resampling) for name, curve in curves.items()},
    )


def yardstick(
    curve: ArrayLike, policy: ArrayLike, policy_kl: ArrayLike, resampling: Resampling = RESAMPLING
) -> Yardstick:
    """The policy against best-of-n at the policy's own KL.

    As best-of-n's KL is bounded from above, its curve stands too far to the right if anywhere, which flatters the
    policy. Where the policy's KL is past the largest n, nothing is extrapolated.

    Args:
        curve: (m, N) of one measure, best-of-n for n = 1 .. N.
        policy, policy_kl: (m,) of the policy on the same prompts.
    """
    means, own, kl = (np.asarray(x, np.float64) for x in (curve, policy, policy_kl))
    mean_kl, largest = float(kl.mean()), means.shape[1]
    at_kl = _at_kl(means, kl)
    return Yardstick(
        policy=resampling.mean(own),
        policy_kl_k1=mean_kl,
        d=math.sqrt(max(mean_kl, 0.0)),
        n_needed=math.ceil(samples_at(mean_kl) - 1e-9) if mean_kl < 50 else None,
        within=at_kl is not None,
        best_of_n=None if at_kl is None else resampling.mean(at_kl),
        difference=None if at_kl is None else resampling.mean(own - at_kl),
        largest=LargestN(largest, kl_bound(largest), resampling.mean(own - means[:, -1])),
    )


def _at_kl(curve: NDArray[np.float64], kl: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(m,) best-of-n at the mean of ``kl``, between two n linear in d = sqrt(KL); None past the largest n."""
    knots = np.sqrt([kl_bound(n) for n in range(1, curve.shape[1] + 1)])
    mean_kl = float(kl.mean())
    d = math.sqrt(max(mean_kl, 0.0))
    if d > knots[-1] or len(knots) == 1:
        return None
    left = min(int(np.searchsorted(knots, d, side="right")) - 1, len(knots) - 2)
    share = (d - knots[left]) / (knots[left + 1] - knots[left])
    values = curve[:, left] * (1 - share) + curve[:, left + 1] * share
    if d > 0:
        # Where the curve is read is an estimate too. To first order its error moves the value by the curve's
        # slope, so each prompt's share of it is added, and the interval covers both.
        slope = float((curve[:, left + 1] - curve[:, left]).mean()) / (knots[left + 1] - knots[left])
        values = values + slope * (kl - mean_kl) / (2 * d)
    return values
