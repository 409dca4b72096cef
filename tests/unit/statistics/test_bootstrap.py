"""Intervals against scipy, hand arithmetic and their own promise: 95 % of them hold the truth."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.base.errors import DataError
from pipeline.results.stats import to_json
from pipeline.statistics.bootstrap import bootstrap_mean, paired_difference, wilson


# Catches: z of the wrong tail, z*z/(4n) for z*z/(4n^2), a lost shrink factor.
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 30), (7, 10), (57, 100), (30, 30), (4999, 10000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_equals_scipy(successes: int, n: int, level: float) -> None:
    reference = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = wilson(successes, n, level)
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx(
        (successes / n, reference.low, reference.high, n), abs=1e-12
    )
    assert ours.low <= ours.value <= ours.high


def test_wilson_by_hand() -> None:
    # 5 of 10 at z = 1.959964: (0.5 +- 1.959964 sqrt(.025 + .0096037)) / 1.3841459, worked out on paper.
    assert str(wilson(5, 10)) == "0.50 [0.24, 0.76]"


def test_limits_at_the_ends_are_exact() -> None:
    # Catches: limits left to rounding, which put the low one at -1e-17 or above an estimate of 0.
    for n in range(1, 300):
        assert wilson(0, n).low == 0 == 1 - wilson(n, n).high


def test_half_successes_lie_between_their_neighbours() -> None:
    below, half, above = wilson(6, 10), wilson(6.5, 10), wilson(7, 10)
    assert below.low < half.low < above.low
    assert below.high < half.high < above.high


def test_wilson_without_trials_knows_nothing() -> None:
    assert to_json(wilson(0, 0)) == {"value": None, "low": 0.0, "high": 1.0, "n": 0, "method": "Wilson"}


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2)])
def test_wilson_refuses_the_impossible(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


# Catches: level / 2 in place of (1 + level) / 2, ddof=0, limits of a resample's spread instead of the mean's.
@pytest.mark.parametrize(("n", "level"), [(5, 0.9), (40, 0.9), (40, 0.5)])
def test_mean_intervals_hold_the_truth_as_often_as_they_say(n: int, level: float) -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(400):
        interval = bootstrap_mean(rng.normal(3.0, 2.0, n), seed=trial, level=level, resamples=400)
        hits += interval.low <= 3.0 <= interval.high
    assert hits / 400 == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 400))


# Catches: the bootstrap of rare events, which never sees more of them than there are (it held the truth in 63 to
# 66 % of the first two); Wilson's limits without the size of a step; a fall's limits left at 0 where nothing fell.
@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, n: rng.random(n) < 0.02, 0.02),
        (lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=[0.01, 0.97, 0.02]), 0.01),
        (lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=[0.05, 0.85, 0.1]), 0.05),
        (lambda rng, n: (rng.random((n, 2)) < 0.05).mean(1), 0.05),
        (lambda rng, n: np.where(rng.random(n) < 0.05, rng.normal(0.5, 0.3, n), 0.0), 0.025),
    ],
    ids=["events", "rare signs", "signs", "two a prompt", "mostly no change"],
)
def test_rare_events_and_mostly_zero_differences_are_held(draw: Any, mean: float, n: int) -> None:
    rng = np.random.default_rng(11)
    drawn = [draw(rng, n).astype(float) for _ in range(500)]
    intervals = [bootstrap_mean(d, 0, resamples=200, differences=mean != 0.02) for d in drawn]
    # A draw without any event has no interval, which claims nothing.
    missed = np.mean([i.high < mean or mean < i.low for i in intervals])
    assert missed <= 0.1, missed  # Wilson's own for 50 events of 2 % is .078: three of them are enough
    assert sum(math.isfinite(i.low) for i in intervals) > 200


def test_events_have_wilsons_interval_and_signs_newcombes() -> None:
    events = bootstrap_mean([1.0] * 3 + [0.0] * 57, seed=0)
    exact = wilson(3, 60)
    assert (events.value, events.low, events.high) == pytest.approx((exact.value, exact.low, exact.high))
    # Of 50: 6 rose, 2 fell. Newcombe (1998), by hand: shares .12 [.056, .238] and .04 [.011, .135], phi of two
    # exclusive events -sqrt(.12 .04 / (.88 .96)) = -.0754.
    signs = bootstrap_mean([1.0] * 6 + [-1.0] * 2 + [0.0] * 42, seed=0)
    up, down = wilson(6, 50), wilson(2, 50)
    a, b, phi = up.value - up.low, down.high - down.value, -0.07538
    assert signs.low == pytest.approx(0.08 - math.sqrt(a * a - 2 * phi * a * b + b * b), abs=1e-4)
    # Twice as large steps, twice the limits; turned around, turned around.
    double = bootstrap_mean([2.0] * 6 + [-2.0] * 2 + [0.0] * 42, seed=0)
    turned = bootstrap_mean([-1.0] * 6 + [1.0] * 2 + [0.0] * 42, seed=0)
    assert (double.low, double.high) == pytest.approx((2 * signs.low, 2 * signs.high))
    assert (turned.low, turned.high) == pytest.approx((-signs.high, -signs.low))
    shifted = bootstrap_mean([6.0] * 6 + [4.0] * 2 + [5.0] * 42, seed=0)
    assert (shifted.low, shifted.high) == pytest.approx((5 + signs.low, 5 + signs.high))


# Catches: a bootstrap of something other than the mean; for many values the t interval is an independent answer.
def test_many_values_agree_with_students_t() -> None:
    data = np.random.default_rng(1).normal(0, 1, 6000)
    low, high = stats.t.interval(0.95, len(data) - 1, data.mean(), data.std(ddof=1) / math.sqrt(len(data)))
    ours = bootstrap_mean(data, seed=3)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=3e-3)


def test_few_values_by_hand() -> None:
    # Mean 2, standard deviation 1, t(.975, 2 degrees) = 4.30265 from any table: 2 +- 4.30265 / sqrt(3).
    ours = bootstrap_mean([1, 2, 3], seed=0)
    assert (ours.value, ours.low, ours.high) == pytest.approx((2, -0.48414, 4.48414), abs=1e-5)


# Catches: percentiles where BCa was asked for. Independent: Efron's formulas (1987, eq. 2.3, 6.6) written out.
def test_skewed_values_equal_bca_by_hand() -> None:
    data = np.random.default_rng(0).exponential(1.0, 25)
    means = np.sort(data[np.random.default_rng(1).integers(0, 25, (100_000, 25))].mean(axis=1))
    z0 = stats.norm.ppf((means < data.mean()).mean())
    centred = data - data.mean()
    a = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(means, stats.norm.cdf(z0 + z / (1 - a * z)))
    ours = bootstrap_mean(data, seed=0, resamples=100_000)
    # Limits from 100,000 resamples scatter by .007 themselves (measured over seeds).
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.02)
    assert np.quantile(means, 0.975) < high - 0.1  # what plain percentiles would have said


def test_same_seed_same_limits_other_seed_others() -> None:
    data = np.random.default_rng(0).normal(size=50)
    assert bootstrap_mean(data, seed=1) == bootstrap_mean(data, seed=1)
    assert bootstrap_mean(data, seed=1) != bootstrap_mean(data, seed=2)


def test_degenerate_inputs() -> None:
    constant = bootstrap_mean([0.0] * 50, seed=0)
    assert to_json(constant) == {"value": 0.0, "low": None, "high": None, "n": 50}
    assert str(constant) == "0.00 (no interval, n = 50)"
    assert to_json(bootstrap_mean([2.0], seed=0)) == {"value": 2.0, "low": None, "high": None, "n": 1}
    assert to_json(bootstrap_mean([], seed=0)) == {"value": None, "low": None, "high": None, "n": 0}
    lonely = bootstrap_mean([0.0] * 39 + [1.0], seed=0)  # BCa is near its limits here
    assert 0 <= lonely.low <= lonely.value <= lonely.high <= 0.2
    assert str(bootstrap_mean([], seed=0)) == "no value (n = 0)"
    assert str(bootstrap_mean([2.0], seed=0)) == "2.00 (no interval, n = 1)"
    json.dumps(to_json(bootstrap_mean([], seed=0)), allow_nan=False)


# Catches: before - after, and resampling the two sides apart (which would not see that the noise is shared).
def test_paired_difference_is_after_minus_before_and_uses_the_pairs() -> None:
    rng = np.random.default_rng(5)
    before = rng.normal(0, 10, 100)
    after = before + 0.5 + rng.normal(0, 0.1, 100)
    ours = paired_difference(before, after, seed=0)
    assert ours.value == pytest.approx(0.5, abs=0.05)
    assert ours.high - ours.low < 0.1


def test_bad_numbers_are_refused_not_averaged() -> None:
    with pytest.raises(DataError, match="1 of 2 values"):
        bootstrap_mean([1.0, math.nan], seed=0)
    with pytest.raises(ValueError, match="not pairs"):
        paired_difference([1.0], [1.0, 2.0], seed=0)
