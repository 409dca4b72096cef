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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.policy.best_of_n import kl_bound, rank_weights
from pipeline.results.diversity import BestOfNVariety, DiversityBesideBestOfN, ExpectedSentence, ExpectedVariety
from pipeline.statistics.bootstrap import RESAMPLING, Resampling, exponential
from pipeline.statistics.intervals import Estimate
from pipeline.texts.diversity import patterns_of
from pipeline.texts.sentences import same

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


Held = Sequence[Sequence[Mapping[str, float]]]
"""(m, N) what each of a prompt's samples shows, each with its chance: its closing sentence, with 1."""


@dataclass(frozen=True)
class Shown:
    """What one completion of each prompt is expected to show: effective number, its ratio to the base's, and the
    most common thing with its share.
    """

    number: Estimate
    ratio: Estimate
    common: ExpectedSentence


def best_of_n_diversity(
    chosen_by: ArrayLike,
    closings: Sequence[Sequence[str]],
    ns: Sequence[int],
    policy: Sequence[Sequence[str]],
    resampling: Resampling = RESAMPLING,
    patterns: tuple[Held, Held] | None = None,
) -> DiversityBesideBestOfN:
    """Effective number of closing sentences of the base, of best-of-n and of the policy, at one of each prompt.

    Args:
        chosen_by: (m, N) score by which the best of each prompt's samples is chosen.
        closings: (m, N) closing sentences of the same samples.
        ns: the n that get a row; 1, the base itself, is added.
        policy: (m, k) closing sentences of the policy's completions of these prompts.
        patterns: (m, N) and (m, k) chances of the pattern of one of each completion's sentences
            (:func:`pattern_chances`), of the base and of the policy.
    """
    ns = [1, *sorted(set(ns) - {1})]
    spelt = {same(text): text for row in (*closings, *policy) for text in reversed(row)}
    kinds, own = ([[{same(text): 1.0} for text in row] for row in rows] for rows in (closings, policy))
    of_closings = shown(chosen_by, kinds, ns, own, resampling)
    of_patterns = (
        shown(chosen_by, patterns[0], ns, patterns[1], resampling) if patterns else [None] * (len(ns) + 1)
    )

    def variety(closing: Shown, pattern: Shown | None) -> ExpectedVariety:
        return ExpectedVariety(
            closings=closing.number,
            ratio=closing.ratio,
            closing=replace(closing.common, text=spelt[closing.common.text]),
            patterns=pattern and pattern.number,
            patterns_ratio=pattern and pattern.ratio,
            pattern=pattern and pattern.common,
        )

    *rows, last = [variety(*each) for each in zip(of_closings, of_patterns, strict=True)]
    numbered = [BestOfNVariety(**vars(row), n=n, kl_bound=kl_bound(n)) for n, row in zip(ns, rows, strict=True)]
    return DiversityBesideBestOfN(len(kinds), numbered, last)


def shown(
    chosen_by: ArrayLike, base: Held, ns: Sequence[int], policy: Held, resampling: Resampling
) -> list[Shown]:
    """What best-of-n shows for each n, and what the policy does, which comes last; ratios are to n = 1."""
    scores = np.asarray(chosen_by, np.float64)

    def chances_at(n: int) -> list[dict[str, float]]:
        return [_chances(row, held, n) for row, held in zip(scores, base, strict=True)]

    of_base = _surprises(chances_at(1))

    def summary(chances: Sequence[dict[str, float]]) -> Shown:
        surprises, total = _surprises(chances), _mean(chances)
        favourite = max(total, key=lambda kind: total[kind])
        return Shown(
            exponential(resampling.mean(surprises)),
            exponential(resampling.difference(of_base, surprises)),
            ExpectedSentence(favourite, total[favourite]),
        )

    return [*(summary(chances_at(n)) for n in ns), summary([_mean(row) for row in policy])]


def pattern_chances(completions: Sequence[str], frame: frozenset[str]) -> list[dict[str, float]]:
    """(n,) the chance of each pattern that one of a completion's sentences, drawn with equal chances, has it."""
    return [
        {form: count / len(forms) for form, count in Counter(forms).items()}
        for forms in patterns_of(completions, frame)
    ]


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


def _chances(scores: NDArray[np.float64], held: Sequence[Mapping[str, float]], n: int) -> dict[str, float]:
    """The chance of each thing that the best of n of these samples shows it; equal scores share theirs."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    of_rank = rank_weights(n, len(scores))
    # A tied group has the weights of all the ranks it takes.
    ends = np.cumsum(count)
    group = np.array([of_rank[end - size : end].sum() / size for end, size in zip(ends, count, strict=True)])
    chances: dict[str, float] = defaultdict(float)
    for of_sample, chance in zip(held, group[place].tolist(), strict=True):
        if chance > 0:
            for kind, part in of_sample.items():
                chances[kind] += chance * part
    return dict(chances)


def _mean(chances: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each thing's mean chance."""
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
