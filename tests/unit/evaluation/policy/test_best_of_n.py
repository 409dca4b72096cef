"""Best-of-n against enumeration, closed forms, an exact KL and a simulation of its intervals."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.policy.best_of_n import best_of, best_of_n, kl_bound, rank_weights, samples_at, yardstick
from pipeline.results.stats import to_json
from pipeline.statistics.bootstrap import Resampling


# Catches: n/(n-1), log base 2, a sign.
def test_bound_by_hand() -> None:
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(0.6931472 - 0.5)
    assert kl_bound(32) == pytest.approx(3.4657359 - 31 / 32)


# Catches: a bound that is none. The exact KL of best-of-n on three outcomes, by P(max <= k)^n.
def test_bound_holds_on_an_exact_distribution() -> None:
    p = np.array([0.5, 0.3, 0.2])
    for n in (2, 4, 16):
        below = np.cumsum(p) ** n
        best = np.diff(below, prepend=0)
        assert 0 < float((best * np.log(best / p)).sum()) < kl_bound(n)
    fine = np.full(20_000, 1 / 20_000)
    best = np.diff(np.cumsum(fine) ** 4, prepend=0)
    assert float((best * np.log(best / fine)).sum()) == pytest.approx(kl_bound(4), abs=1e-3)


def test_samples_at_inverts_the_bound() -> None:
    for n in (1.5, 2, 7, 32, 5000):
        assert samples_at(kl_bound(n)) == pytest.approx(n, rel=1e-6)
    assert samples_at(-0.3) == samples_at(0) == 1


# Catches: C(r, n) for C(r-1, n-1), ranks from the top, drawing with replacement.
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_weights_equal_enumeration(n: int) -> None:
    subsets = list(itertools.combinations(range(5), n))
    counted = [sum(max(s) == rank for s in subsets) / len(subsets) for rank in range(5)]
    assert rank_weights(n, 5) == pytest.approx(counted)
    assert rank_weights(n, 5).sum() == pytest.approx(1)


def test_weights_refuse_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="best of 6 from 5"):
        rank_weights(6, 5)


# Catches: values left in sampling order, chosen by the values instead of the scores.
def test_best_of_by_enumeration() -> None:
    rng = np.random.default_rng(0)
    scores, gold = rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    for n in (1, 2, 4, 6):
        expected = [
            np.mean([row[max(s, key=lambda j: by[j])] for s in itertools.combinations(range(6), n)])
            for by, row in zip(scores, gold, strict=True)
        ]
        assert best_of(scores, gold, [n])[:, 0] == pytest.approx(expected)


# Catches: ties decided by the order of sampling.
def test_ties_share_their_values() -> None:
    # Best of 2 of scores (1, 1, 0): the pair of ones, with mean gold 3; or a one and the zero, gold 2 or 4.
    assert best_of([[1, 1, 0]], [[2.0, 4.0, 9.0]], [2]).tolist() == [[3.0]]
    assert best_of([[0, 0, 0]], [[2.0, 4.0, 9.0]], [1, 2, 3]).tolist() == [[5.0, 5.0, 5.0]]


# Catches: a biased estimate. The expected maximum of n standard normals is known (n = 2: 1/sqrt(pi)).
def test_unbiased_for_every_n() -> None:
    draws = np.random.default_rng(1).normal(size=(20_000, 8))
    found = best_of(draws, draws, [1, 2, 4, 8])
    exact = [0, 1 / math.sqrt(math.pi), 1.0293754, 1.4236003]  # order statistics of the normal, from any table
    error = found.std(0) / math.sqrt(len(found))
    assert (np.abs(found.mean(0) - exact) < 4 * error).all()


# Catches: reading the curve at KL instead of sqrt(KL), base - policy, the neighbour on the wrong side.
def test_yardstick_reads_the_curve_at_the_policys_kl() -> None:
    curve = np.tile([0.0, 1.0, 2.0, 4.0], (30, 1))
    knots = [math.sqrt(kl_bound(n)) for n in (1, 2, 3, 4)]
    d = 0.25 * knots[1] + 0.75 * knots[2]
    found = yardstick(curve, np.full(30, 3.0), np.full(30, d * d))
    assert found.within
    assert found.best_of_n.value == pytest.approx(1.75)
    # The same on every prompt: no interval.
    assert found.difference is not None
    assert (found.difference.value, found.difference.n) == (pytest.approx(1.25), 30)
    assert not found.difference.has_limits
    assert found.n_needed == 3
    assert found.largest.n == 4
    assert found.largest.difference.value == pytest.approx(-1.0)
    at_knot = yardstick(curve, np.full(30, 3.0), np.full(30, kl_bound(4)))
    assert at_knot.best_of_n.value == pytest.approx(4)
    assert yardstick(curve, np.zeros(30), np.full(30, -0.1)).best_of_n.value == 0


# Catches: extrapolation past the largest n.
def test_yardstick_does_not_extrapolate() -> None:
    found = yardstick(np.zeros((5, 8)), np.ones(5), np.full(5, 4.0))
    assert (found.within, found.best_of_n, found.difference) == (False, None, None)
    assert found.n_needed == math.ceil(samples_at(4.0))
    assert found.largest.kl_bound == pytest.approx(kl_bound(8))
    assert yardstick(np.zeros((5, 8)), np.ones(5), np.full(5, 900.0)).n_needed is None


# Catches: the KL taken for known. Without its part of the error, 95 % intervals held the truth in 58 % of draws.
@pytest.mark.thorough
def test_yardstick_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    slope, kl, m = 3.0, 0.1, 60
    knots = np.sqrt([kl_bound(n) for n in range(1, 9)])
    hits = 0
    for trial in range(300):
        curve = slope * knots + rng.normal(0, 0.5, (m, 1))
        found = yardstick(
            curve, 2 + rng.normal(0, 0.5, m), rng.normal(kl, 0.3, m), Resampling(trial, resamples=300)
        )
        low, high = found.difference.low, found.difference.high
        hits += low <= 2 - slope * math.sqrt(kl) <= high
    assert hits / 300 == pytest.approx(0.95, abs=0.04)


# Catches: rows of another n, laws on the score itself instead of the gain over n = 1, a wrong measure's policy.
def test_everything_together() -> None:
    rng = np.random.default_rng(2)
    score = rng.normal(size=(40, 16))
    gold = 0.5 * score + 7
    policy = {"score": rng.normal(size=40), "gold_score": rng.normal(7, 1, 40)}
    found = best_of_n(score, {"score": score, "gold_score": gold}, [2, 4, 16], policy, np.full(40, 0.4))
    assert [row.n for row in found.rows] == [1, 2, 4, 16]
    assert found.rows[0].means["gold_score"].value == pytest.approx(gold.mean())
    assert found.rows[3].means["score"].value == pytest.approx(score.max(1).mean())
    assert (found.prompts, found.samples) == (40, 16)
    # Gold is half the score, so are its law's coefficients; it rises at first.
    laws = found.laws
    assert laws["gold_score"].alpha.value == pytest.approx(laws["score"].alpha.value / 2)
    assert laws["gold_score"].alpha.low > 0
    assert found.yardstick["gold_score"].policy.value == pytest.approx(policy["gold_score"].mean())
    assert json.loads(json.dumps(to_json(found), allow_nan=False)) == to_json(found)


def test_intervals_of_the_rows_are_over_prompts() -> None:
    # Catches: all samples taken for independent, which gives intervals sqrt(N) too narrow where prompts differ.
    score = np.repeat(np.random.default_rng(5).normal(size=(30, 1)), 8, axis=1) + np.arange(8) * 1e-6
    row = best_of_n(score, {"score": score}, [2], {"score": score[:, 0]}, np.full(30, 0.1)).rows[0].means["score"]
    low, high = stats.t.interval(0.95, 29, score[:, 0].mean(), stats.sem(score[:, 0]))
    assert (row.low, row.high) == pytest.approx((low, high), abs=0.06)


# Catches: the gain's interval from two means that are not paired: prompts differ by 1, the gains by nothing.
def test_gains_are_paired_by_prompt() -> None:
    each = np.random.default_rng(5).normal(size=(30, 1))
    score = np.repeat(each, 4, axis=1) + np.arange(4)
    rows = best_of_n(score, {"score": score}, [4], {"score": score[:, 0]}, np.full(30, 0.1)).rows
    assert rows[0].gain["score"].value == 0
    gain = rows[1].gain["score"]
    assert (gain.value, gain.low, gain.high) == pytest.approx(
        (1.5, 1.5, 1.5)
    )  # the best of 0, 1, 2, 3 is 3, one of them 1.5 on average
    assert rows[1].means["score"].high - rows[1].means["score"].low > 0.5
