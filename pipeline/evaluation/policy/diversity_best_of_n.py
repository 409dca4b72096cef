"""Diversity of best-of-n from the base, the yardstick on this too. Leaves out sampling and choosing.

Best-of-n has one completion of each prompt, so that is what all are compared at: what one completion of each of m
prompts is expected to show. For the base and the policy, whose completions of a prompt are several, and for
best-of-n, where each has a chance to be the best of n, the expectation over all ways to take one of each prompt is
exact (how many prompts end in one sentence is Poisson binomial). Nothing is drawn, so nothing depends on a seed,
and no side looks more varied for having been sampled more often.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.policy.best_of_n import kl_bound, rank_weights
from pipeline.statistics.bootstrap import RESAMPLES, bootstrap_mean, exponential, paired_difference
from pipeline.texts.sentences import same

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def best_of_n_diversity(
    chosen_by: ArrayLike,
    closings: Sequence[Sequence[str]],
    ns: Sequence[int],
    policy: Sequence[Sequence[str]],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Effective number of closing sentences of the base, of best-of-n and of the policy, at one of each prompt.

    Args:
        chosen_by: (m, N) score by which the best of each prompt's samples is chosen.
        closings: (m, N) closing sentences of the same samples.
        ns: the n that get a row; 1, the base itself, is added.
        policy: (m, k) closing sentences of the policy's completions of these prompts.
    Returns:
        prompts; rows: n, kl_bound, closings and ratio (to the base) with intervals, closing (the most common one:
        text, and the share of prompts that are expected to end in it); policy: closings, ratio, closing.
    """
    by = np.asarray(chosen_by, np.float64)
    ends = [[same(text) for text in row] for row in closings]
    spelt = {same(text): text for row in (*closings, *policy) for text in reversed(row)}
    listed = [1, *sorted(set(ns) - {1})]
    shares = {n: [_chances(scores, row, n) for scores, row in zip(by, ends, strict=True)] for n in listed}
    logs = {n: _logs(each) for n, each in shares.items()}
    own = [_equal([same(text) for text in row]) for row in policy]
    given = (seed, level, resamples)

    def entry(values: NDArray[np.float64], each: Sequence[dict[str, float]]) -> dict[str, Any]:
        total: dict[str, float] = defaultdict(float)
        for chances in each:
            for key, chance in chances.items():
                total[key] += chance / len(each)
        favourite = max(total, key=lambda key: total[key])
        return {
            "closings": exponential(bootstrap_mean(values, *given)).as_dict(),
            "ratio": exponential(paired_difference(logs[1], values, *given)).as_dict(),
            "closing": {"text": spelt[favourite], "share": total[favourite]},
        }

    return {
        "prompts": len(ends),
        "rows": [{"n": n, "kl_bound": kl_bound(n), **entry(logs[n], shares[n])} for n in listed],
        "policy": entry(_logs(own), own),
    }


def expected_entropy(chances: Sequence[dict[str, float]]) -> float:
    """Expected entropy of the kinds of m things in nats, where the j-th is of kind c with chance chances[j][c]."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for row in chances:
        for kind, chance in row.items():
            by_kind[kind].append(min(chance, 1.0))
    m = len(chances)
    entropy = 0.0
    for each in by_kind.values():
        number = np.ones(1)  # chance of 0, 1, 2 ... of this kind
        for chance in each:
            number = np.convolve(number, (1 - chance, chance))
        k = np.arange(1, len(number))
        entropy -= float((number[1:] * (k / m) * np.log(k / m)).sum())
    return max(entropy, 0.0)


def _chances(scores: NDArray[np.float64], kinds: Sequence[str], n: int) -> dict[str, float]:
    """The chance of each kind that the best of n of these samples is of it; equal scores share theirs."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    of_rank = rank_weights(n, len(scores))
    # A tied group has the weights of all the ranks it takes.
    ends = np.cumsum(count)
    group = np.array([of_rank[end - size : end].sum() / size for end, size in zip(ends, count, strict=True)])
    found: dict[str, float] = defaultdict(float)
    for kind, chance in zip(kinds, group[place].tolist(), strict=True):
        if chance > 0:
            found[kind] += chance
    return dict(found)


def _equal(kinds: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for kind in kinds:
        found[kind] += 1 / len(kinds)
    return dict(found)


def _logs(chances: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """(m,) values whose mean is the expected entropy, and whose scatter over prompts is that of the entropy."""
    total: dict[str, float] = defaultdict(float)
    for row in chances:
        for kind, chance in row.items():
            total[kind] += chance / len(chances)
    parts = np.array([sum(-c * math.log(total[kind]) for kind, c in row.items()) for row in chances])
    return parts + (expected_entropy(chances) - parts.mean())
