"""The length-controlled win rate against hand arithmetic, scikit-learn and judges that only count words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from pipeline.evaluation.policy.length_control import length_controlled_win_rate
from pipeline.results.stats import to_json
from pipeline.statistics.bootstrap import wilson
from pipeline.statistics.intervals import has_value


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x)))


# Catches: no prior, a prior of another strength, theta read elsewhere than at zero.
def test_two_lengths_by_hand() -> None:
    # Differences of +3 and -3 only: the model is saturated, and Jeffreys' prior adds half a win and half a loss to
    # each. Longer: 12 of 15, logit log(12.5 / 3.5) = 1.2730; shorter: 3 of 10, log(3.5 / 7.5) = -.7621. Their mean
    # is theta, .25542; half their difference is phi tanh(1), 1.01755, so phi is 1.33609.
    outcomes = [1] * 12 + [0] * 3 + [1] * 3 + [0] * 7
    found = length_controlled_win_rate(outcomes, [3] * 15 + [-3] * 10)
    assert found.value == pytest.approx(1 / (1 + math.exp(-0.25542)), abs=1e-5)
    assert found.slope == pytest.approx(1.33609, abs=1e-4)
    assert (found.n, found.reason) == (25, None)
    assert found.low < found.value < found.high


# Catches: a difference of the wrong sign, a deviation about the mean. On many pairs the prior vanishes.
def test_many_pairs_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.normal(4, 5, 4000)
    wins = (rng.random(4000) < sigmoid(-0.4 + 1.1 * np.tanh(gaps / 6.4))).astype(float)
    found = length_controlled_win_rate(wins, gaps, resamples=50)
    x = np.tanh(gaps / np.sqrt((gaps**2).mean()))[:, None]
    reference = LogisticRegression(C=1e9, tol=1e-10).fit(x, wins)
    assert found.value == pytest.approx(float(sigmoid(reference.intercept_[0])), abs=1e-3)
    assert found.slope == pytest.approx(float(reference.coef_[0, 0]), abs=5e-3)


# Catches: leverages without weights, a wrong sign of the prior, Newton's steps cut off before they arrive.
@pytest.mark.parametrize("sharp", [False, True])
def test_firths_fit_equals_the_penalised_likelihoods_maximum(sharp: bool) -> None:
    rng = np.random.default_rng(6)
    gaps = rng.normal(3, 5, 60)
    wins = (gaps > 0).astype(float) if sharp else (rng.random(60) < 0.6).astype(float)
    x = np.tanh(gaps / np.sqrt((gaps**2).mean()))

    def loss(coefficients: np.ndarray) -> float:
        logit = coefficients[0] + coefficients[1] * x
        v = sigmoid(logit) * (1 - sigmoid(logit))
        information = [[v.sum(), (v * x).sum()], [(v * x).sum(), (v * x * x).sum()]]
        likelihood = (wins * logit - np.logaddexp(0, logit)).sum()
        return -likelihood - 0.5 * np.linalg.slogdet(information)[1]

    best = minimize(loss, [0, 1], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-11, "maxiter": 5000}).x
    found = length_controlled_win_rate(wins, gaps, resamples=20)
    assert found.value == pytest.approx(float(sigmoid(best[0])), abs=1e-4)
    assert found.slope == pytest.approx(best[1], rel=1e-3)


# Catches: no control at all, in which the judge's raw rate is the answer.
@pytest.mark.parametrize("sharp", [False, True])
def test_a_judge_of_length_alone_sees_no_difference(sharp: bool) -> None:
    rng = np.random.default_rng(1)
    values, raw, hits, n = [], [], 0, 100 if sharp else 400
    for trial in range(20):
        gaps = rng.normal(3, 5, n)
        chance = (gaps > 0).astype(float) if sharp else sigmoid(2 * np.tanh(gaps / 5.83))
        wins = (rng.random(n) < chance).astype(float)
        found = length_controlled_win_rate(wins, gaps, seed=trial, resamples=100)
        values.append(found.value)
        raw.append(wins.mean())
        hits += found.low <= 0.5 <= found.high
    assert np.mean(raw) > 0.62
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)
    assert hits >= 17


# Catches: limits of the scatter of wins instead of the rate's, level / 2 for (1 + level) / 2.
@pytest.mark.thorough
def test_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    truth, hits = float(sigmoid(0.6)), 0
    for trial in range(200):
        gaps = rng.normal(1, 4, 150)
        scale = math.sqrt(17)
        wins = (rng.random(150) < sigmoid(0.6 + 0.9 * np.tanh(gaps / scale))).astype(float)
        found = length_controlled_win_rate(wins, gaps, seed=trial, level=0.9, resamples=150)
        hits += found.low <= truth <= found.high
    assert hits / 200 == pytest.approx(0.9, abs=0.06)


# Catches: completions resampled one by one, which takes four of one prompt for four witnesses.
def test_prompts_are_the_unit() -> None:
    rng = np.random.default_rng(3)
    gaps = rng.normal(0, 4, 60)
    wins = (rng.random(60) < 0.6).astype(float)
    once = length_controlled_win_rate(wins, gaps, seed=5)
    four = length_controlled_win_rate(np.repeat(wins, 4), np.repeat(gaps, 4), per_prompt=4, seed=5)
    assert to_json(four) == pytest.approx(to_json(once))


def test_abstentions_are_left_out() -> None:
    rng = np.random.default_rng(4)
    gaps, wins = rng.normal(0, 4, 60), (rng.random(60) < 0.6).astype(float)
    with_gaps = np.concatenate([wins, np.full(10, math.nan)])
    found = length_controlled_win_rate(with_gaps, np.concatenate([gaps, np.full(10, 50.0)]))
    assert to_json(found) == pytest.approx(to_json(length_controlled_win_rate(wins, gaps)))


def test_equal_lengths_are_the_plain_win_rate() -> None:
    found = length_controlled_win_rate([1.0] * 20 + [0.0] * 10, [0] * 30)
    assert to_json(found) == {**to_json(wilson(20, 30)), "slope": None, "reason": None}


@pytest.mark.parametrize(
    ("outcomes", "gaps", "said"),
    [
        # Mutation caught: FEWEST_PROMPTS 20 -> 19.
        ([1.0, *[0.0, 1.0] * 9], [1, *[-1, 1, 1, -1, -1, 1] * 3], "19 prompts"),
        ([1.0] * 30, [1, -1] * 15, "the same outcome everywhere"),
        ([1.0, 0.0] * 15, [5] * 28 + [-1] * 2, "longer almost everywhere"),
        ([1.0, 0.0] * 15, [-5] * 30, "shorter almost everywhere"),
        ([math.nan] * 30, [1, -1] * 15, "0 prompts"),
    ],
)
def test_what_cannot_be_fitted_says_why(outcomes: list[float], gaps: list[int], said: str) -> None:
    found = length_controlled_win_rate(outcomes, gaps)
    assert not has_value(found)
    assert not found.has_limits
    assert found.reason is not None
    assert said in found.reason
    assert json.loads(json.dumps(to_json(found), allow_nan=False)) == to_json(found)
    # Mutation caught: FEWEST_PROMPTS 20 -> 21.
    assert length_controlled_win_rate([1.0, 0.0] * 10, [1, -1, -1, 1] * 5).reason is None


# Catches: Newton's steps that run away where the resampled wins separate by length.
def test_near_separation_stays_finite() -> None:
    gaps = np.concatenate([np.full(20, 5.0), np.full(20, -5.0)])
    found = length_controlled_win_rate([1.0] * 20 + [0.0] * 19 + [1.0], gaps, resamples=200)
    assert 0 < found.low <= found.value <= found.high < 1
