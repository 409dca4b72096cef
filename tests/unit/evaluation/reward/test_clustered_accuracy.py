"""Intervals of dependent pairs: against plain sums and scipy, and by simulated coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation.reward.clustered_accuracy import (
    dependent_accuracy,
    dyadic_variance,
    effective_wilson,
    grouped_variance,
)
from pipeline.statistics.bootstrap import wilson

RNG = np.random.default_rng(5)


# Catches: pairs that share both completions counted twice or not at all, only one of two members looked at.
def test_dyadic_variance_equals_the_plain_double_sum() -> None:
    right = RNG.random(60) < 0.6
    first, second = RNG.integers(0, 12, 60).tolist(), RNG.integers(12, 20, 60).tolist()
    first[:2], second[:2] = [3, 15], [15, 3]  # the same two, either way round
    e = right - right.mean()
    plain = sum(
        e[i] * e[j]
        for i, j in itertools.product(range(60), repeat=2)
        if {first[i], second[i]} & {first[j], second[j]}
    )
    assert dyadic_variance(right, first, second) == pytest.approx(plain / 60**2)


# Catches: no correction for few groups, sums not squared.
def test_grouped_variance_by_hand() -> None:
    # Mean .6; errors by group: a: .4 + .4 = .8, b: .4 - .6 = -.2, c: -.6. Squares: .64 + .04 + .36 = 1.04.
    right = np.array([True, True, True, False, False])
    assert grouped_variance(right, list("aabbc")) == pytest.approx(3 / 2 * 1.04 / 25)


def test_independent_pairs_have_wilsons_interval() -> None:
    right = np.arange(400) % 5 > 0
    found, worth = effective_wilson(right, 0.8 * 0.2 / 400, units=10**7)
    exact = binomtest(320, 400).proportion_ci(method="wilson")
    assert (found.low, found.high, worth) == pytest.approx((*exact, 400.0), abs=1e-6)
    # Catches: more independent pairs than there are; the normal's quantile for Student's.
    assert effective_wilson(right, 0.0001, units=10**7)[1] == 400
    assert effective_wilson(right, 0.8 * 0.2 / 400, units=5)[0].low < found.low - 0.01


@pytest.mark.parametrize("share", [True, False])
def test_all_alike_counts_prompts(share: bool) -> None:
    found, worth = effective_wilson(np.full(100, share), 0.0, units=12)
    assert worth == 12
    assert (found.low < 0.8) if share else (found.high > 0.2)
    assert effective_wilson(np.full(100, share), 0.0, units=1)[0] == type(found)(float(share), 0.0, 1.0, 100)


# Catches: a pair for each prompt treated as dependent, which would change every interval there was.
def test_what_goes_together() -> None:
    texts = [str(i) for i in range(40)]
    assert dependent_accuracy(np.ones(40), texts, texts, texts) is None
    assert dependent_accuracy([], [], [], []) is None
    few = dependent_accuracy(np.ones(40), ["p"] * 40, texts, texts)
    assert few is not None
    assert (few.by, few.prompts) == ("completion", 1)
    # Mutation caught: FEWEST_PROMPTS 10 -> 9 or 11.
    for prompts, by in ((9, "completion"), (10, "prompt")):
        several = dependent_accuracy(np.ones(40), [f"p{i % prompts}" for i in range(40)], texts, texts)
        assert several is not None
        assert (several.by, several.prompts) == (by, prompts)
    # Catches: >= 0. A tie is wrong here too.
    tied = dependent_accuracy(np.zeros(40), ["p"] * 40, texts, texts)
    assert tied is not None
    assert tied.value == 0.0


def prompts_and_outcomes(groups: int, a: float, b: float) -> tuple[list[str], np.ndarray]:
    sizes = RNG.integers(1, 10, groups)
    shares = RNG.beta(a, b, groups)
    names = [str(g) for g, n in enumerate(sizes) for _ in range(n)]
    return names, np.concatenate([RNG.random(n) < p for p, n in zip(shares, sizes, strict=True)])


# Catches: independence (.75 to .87), the normal's quantile (.90 for 10 prompts).
@pytest.mark.parametrize(("groups", "a", "b"), [(10, 1, 1), (12, 4, 1), (30, 5, 1), (100, 3, 2)])
def test_coverage_over_prompts(groups: int, a: float, b: float) -> None:
    hits = 0
    for _ in range(800):
        prompts, right = prompts_and_outcomes(groups, a, b)
        found = dependent_accuracy(np.where(right, 1.0, -1.0), prompts, prompts, prompts)
        assert found is not None
        hits += found.low <= a / (a + b) <= found.high
    assert 0.92 <= hits / 800 <= 0.985


# Catches: pairs of one prompt taken as independent, which hold the truth in .73.
def test_coverage_over_completions_of_one_prompt() -> None:
    def drawn(n: int) -> tuple[np.ndarray, list[str], list[str]]:
        truth = RNG.normal(size=n)
        seen = truth + RNG.normal(size=n)
        i = RNG.integers(0, n, 5 * n)
        j = (i + RNG.integers(1, n, 5 * n)) % n
        right = np.sign(truth[i] - truth[j]) == np.sign(seen[i] - seen[j])
        return right, i.astype(str).tolist(), j.astype(str).tolist()

    # Of normal truth and equal noise: the correlation is 1/sqrt(2), and sheppard's arcsine gives 3/4.
    hits = plain = 0
    for _ in range(400):
        right, first, second = drawn(60)
        found = dependent_accuracy(np.where(right, 1.0, -1.0), ["p"] * len(right), first, second)
        assert found is not None
        hits += found.low <= 0.75 <= found.high
        alone = wilson(int(right.sum()), len(right))
        plain += alone.low <= 0.75 <= alone.high
    assert 0.91 <= hits / 400 <= 0.985
    assert plain / 400 < 0.85
