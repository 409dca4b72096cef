"""Diversity of best-of-n from the base, to compare the policy's with.

Best-of-n has one completion of each prompt, so that is what all are compared at: what one completion of each of m
prompts is expected to show. For the base and the policy, whose completions of a prompt are several, and for
best-of-n, where each has a chance to be the best of n, the expectation over all ways to take one of each prompt is
exact (how many prompts end in one sentence is Poisson binomial). Nothing is drawn, so nothing depends on a seed,
and no side looks more varied for having been sampled more often.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.policy.best_of_n import kl_bound, rank_weights
from pipeline.results.diversity import BestOfNVariety, DiversityBesideBestOfN, ExpectedSentence, ExpectedVariety
from pipeline.statistics.bootstrap import RESAMPLING, Resampling, exponential
from pipeline.texts.sentences import same

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def best_of_n_diversity(
    chosen_by: ArrayLike,
    closings: Sequence[Sequence[str]],
    ns: Sequence[int],
    policy: Sequence[Sequence[str]],
    resampling: Resampling = RESAMPLING,
) -> DiversityBesideBestOfN:
    """Effective number of closing sentences of the base, of best-of-n and of the policy, at one of each prompt.

    Args:
        chosen_by: (m, N) score by which the best of each prompt's samples is chosen.
        closings: (m, N) closing sentences of the same samples.
        ns: the n that get a row; 1, the base itself, is added.
        policy: (m, k) closing sentences of the policy's completions of these prompts.
    """
    scores = np.asarray(chosen_by, np.float64)
    kinds = [[same(text) for text in row] for row in closings]
    spelt = {same(text): text for row in (*closings, *policy) for text in reversed(row)}

    def chances_at(n: int) -> list[dict[str, float]]:
        return [_chances(row, kind, n) for row, kind in zip(scores, kinds, strict=True)]

    of_base = _surprises(chances_at(1))

    def variety(chances: Sequence[dict[str, float]]) -> ExpectedVariety:
        surprises, total = _surprises(chances), _mean(chances)
        favourite = max(total, key=lambda kind: total[kind])
        return ExpectedVariety(
            closings=exponential(resampling.mean(surprises)),
            ratio=exponential(resampling.difference(of_base, surprises)),
            closing=ExpectedSentence(spelt[favourite], total[favourite]),
        )

    rows = [
        BestOfNVariety(**vars(variety(chances_at(n))), n=n, kl_bound=kl_bound(n))
        for n in (1, *sorted(set(ns) - {1}))
    ]
    own = [_equal([same(text) for text in row]) for row in policy]
    return DiversityBesideBestOfN(len(kinds), rows, variety(own))


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
    """For each kind, the chance that the best of n of these samples is of it; equal scores share theirs."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    of_rank = rank_weights(n, len(scores))
    # A tied group has the weights of all the ranks it takes.
    ends = np.cumsum(count)
    group = np.array([of_rank[end - size : end].sum() / size for end, size in zip(ends, count, strict=True)])
    chances: dict[str, float] = defaultdict(float)
    for kind, chance in zip(kinds, group[place].tolist(), strict=True):
        if chance > 0:
            chances[kind] += chance
    return dict(chances)


def _equal(kinds: Sequence[str]) -> dict[str, float]:
    """The chance of each kind that one of these, drawn with equal chances, is of it."""
    return {kind: count / len(kinds) for kind, count in Counter(kinds).items()}


def _mean(chances: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each kind's mean chance over prompts."""
    mean: dict[str, float] = defaultdict(float)
    for row in chances:
        for kind, chance in row.items():
            mean[kind] += chance / len(chances)
    return mean


def _surprises(chances: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """(m,) values whose mean is the expected entropy, and whose scatter over prompts is that of the entropy."""
    mean = _mean(chances)
    parts = np.array([sum(-c * math.log(mean[kind]) for kind, c in row.items()) for row in chances])
    return parts + (expected_entropy(chances) - parts.mean())
