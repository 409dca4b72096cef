"""Rates of flags: Wilson on each side, a paired difference, and an interval where nothing was flagged."""

from __future__ import annotations

import math

import pytest

from pipeline.evaluation.policy.flag_rates import flag_rates
from pipeline.statistics.bootstrap import paired_difference
from pipeline.statistics.intervals import wilson


def test_rates_and_the_paired_difference():
    base, policy = [True] * 2 + [False] * 48, [True] + [False] * 43 + [True] * 6
    rates = flag_rates(base, policy)
    assert rates.base == wilson(2, 50)
    assert rates.policy == wilson(7, 50)
    assert rates.difference == paired_difference(base, policy, 0)
    assert rates.difference.value == pytest.approx(0.1)


# Mutation caught: an interval of width 0, or none, where no side was flagged.
def test_nothing_flagged_may_still_be_something():
    rates = flag_rates([False] * 400, [False] * 400)
    assert rates.policy.high == pytest.approx(1.96**2 / (400 + 1.96**2), rel=1e-3)
    assert rates.difference.value == 0
    assert rates.difference.high == pytest.approx(rates.policy.high)
    assert rates.difference.low == pytest.approx(-rates.base.high)
    both = flag_rates([True] * 20, [True] * 20).difference
    assert (both.low, both.high) == pytest.approx((-(1 - wilson(20, 20).low), 1 - wilson(20, 20).low))


def test_completions_of_a_prompt_are_averaged_first():
    rates = flag_rates([True, False] * 10, [True, True] * 10, per_prompt=2)
    assert (rates.base.value, rates.policy.value, rates.policy.n) == (0.5, 1.0, 10)
    # The same on every prompt: Newcombe, by hand from Wilson's limits.
    first, second = wilson(5, 10), wilson(10, 10)
    assert rates.difference.low == pytest.approx(0.5 - math.hypot(1 - second.low, first.high - 0.5))
