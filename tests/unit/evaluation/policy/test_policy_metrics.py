"""Policy metrics against hand arithmetic, an exact KL and a plain loop."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.evaluation.policy.policy_metrics import (
    Sampled,
    compare,
    distinct,
    entropy_per_token,
    kl_per_sequence,
    kl_per_token,
    ratio_parts,
)
from pipeline.results.stats import to_json
from pipeline.statistics.bootstrap import Resampling, paired_difference, wilson


def sampled(n: int = 30, shift: float = 0.0, seed: int = 0, **more: Any) -> Sampled:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "completions": [f"a film number {i} ." for i in range(n)],
        "lengths": [5] * n,
        "ended": [True] * n,
        "scores": (rng.normal(size=n) + shift).tolist(),
        "gold_scores": (rng.normal(size=n) + shift).tolist(),
    }
    return Sampled(**{**columns, **more})


# Catches: ref - policy, a mean over tokens for a sum, exp(d) for exp(-d) in k3.
def test_kl_by_hand() -> None:
    k1, k3 = kl_per_sequence([[-1.0, -2.0], [-1.0], []], [[-1.5, -1.0], [-1.0], []])
    # d = (.5, -1), (0), (): k1 -.5, 0, 0 per sequence; k3 (e^-.5 - 1 + .5) + (e - 2) = .1065307 + .7182818, 0, 0.
    assert k1.value == pytest.approx(-0.5 / 3)
    assert k3.value == pytest.approx(0.8248125 / 3, abs=1e-7)
    # Standard deviation of (-.5, 0, 0) is .2886751; over sqrt(3), .1666667.
    assert k1.standard_error == pytest.approx(1 / 6)
    assert k1.n == 3


# Catches: the same three, in expectation: both estimators are unbiased for the exact KL.
def test_both_estimators_meet_the_exact_kl() -> None:
    rng = np.random.default_rng(0)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    exact = 4 * float((p * np.log(p / q)).sum())  # four independent tokens
    tokens = rng.choice(3, size=(4000, 4), p=p)
    k1, k3 = kl_per_sequence(
        np.log(p)[tokens].tolist(), np.log(q)[tokens].tolist(), resampling=Resampling(resamples=200)
    )
    assert abs(k1.value - exact) < 4 * k1.standard_error
    assert abs(k3.value - exact) < 4 * k3.standard_error
    assert k3.standard_error < k1.standard_error


def test_kl_of_a_model_with_itself_is_zero() -> None:
    logprobs = np.random.default_rng(0).normal(-2, 1, (25, 6)).tolist()
    k1, k3 = kl_per_sequence(logprobs, logprobs)
    assert (k1.value, k1.has_limits, k3.value) == (0, False, 0)


def test_kl_refuses_sides_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="sequence 1"):
        kl_per_sequence([[-1.0], [-1.0]], [[-1.0], [-1.0, -2.0]])
    with pytest.raises(DataError, match="infinite"):
        kl_per_sequence([[-math.inf]], [[-1.0]])


# Catches: counting per completion instead of over all, bigrams across the border of two completions.
def test_distinct_by_hand() -> None:
    texts = ["the cat , the cat", "The dog"]
    # Words: the cat , the cat the dog = 7, distinct the cat , dog = 4. Bigrams: 4 + 1, distinct 4 (the cat twice).
    assert distinct(texts, 1) == pytest.approx(4 / 7)
    assert distinct(texts, 2) == pytest.approx(4 / 5)
    assert distinct(["one", ""], 2) is None


def test_compare_puts_policy_minus_base() -> None:
    base, policy = sampled(), sampled(shift=1.0, seed=1)
    result = compare(base, policy, resampling=Resampling(4))
    expected = paired_difference(base.gold_scores or [], policy.gold_scores or [], seed=4)
    assert result.gold_score is not None
    assert result.gold_score.difference == expected
    assert result.gold_score.difference.value > 0
    wins = result.win_rate["gold_score"]
    assert wins is not None
    assert wins.value > 0.5
    assert result.length is not None
    assert to_json(result.length.difference) == {"value": 0.0, "low": None, "high": None, "n": 30}
    assert result.ended["policy"] == wilson(30, 30)
    assert result.unique == {"base": 1.0, "policy": 1.0}
    assert result.kl_k1 is None


def test_a_side_without_scores_wins_at_nothing() -> None:
    assert compare(sampled(scores=None), sampled()).win_rate["score"] is None


def test_compare_is_strict_json_with_parts_missing_or_empty() -> None:
    bare = sampled(3, scores=None, gold_scores=None, completions=["", "", ""], ended=[False] * 3)
    empty = sampled(0, logprobs=[], ref_logprobs=[])
    for side in (bare, empty, sampled(25, logprobs=[[-1.0]] * 25, ref_logprobs=[[-2.0]] * 25)):
        result = to_json(compare(side, side))
        assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert compare(bare, bare).gold_score is None
    assert compare(bare, bare).unique["policy"] == pytest.approx(1 / 3)


# Catches: a mean of each completion's mean, which weighs a short one like a long one; tokens of one side only.
def test_per_token_by_hand() -> None:
    k1, k3 = kl_per_token([[-1.0, -2.0], [-1.0], []], [[-1.5, -1.0], [-1.0], []])
    # d = .5, -1, 0 over three tokens; k3: .1065307 + .7182818 + 0.
    assert k1.value == pytest.approx(-0.5 / 3)
    assert k3.value == pytest.approx(0.8248125 / 3, abs=1e-7)
    # Totals in proportion to the tokens: the ratio is known, whatever the lengths.
    assert ratio_parts(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])).tolist() == [0.5] * 3
    assert ratio_parts(np.array([1.0, 3]), np.array([1.0, 1])).tolist() == [1, 3]
    found = entropy_per_token([[-1.0, -1.0], [-4.0]], [[-1.0], [-2.0, -3.0]])
    assert found.base.value == pytest.approx(2.0)
    assert found.policy.value == pytest.approx(2.0)
    assert found.difference.value == pytest.approx(0.0)
    assert math.isnan(kl_per_token([[], []], [[], []])[0].value)


# Catches: a sign, another logarithm, the entropy of something else than what was sampled.
def test_entropy_meets_the_exact_one() -> None:
    p = np.array([0.5, 0.3, 0.2])
    exact = -float((p * np.log(p)).sum())
    tokens = np.random.default_rng(0).choice(3, size=(3000, 4), p=p)
    found = entropy_per_token(
        np.log(p)[tokens].tolist(), np.log(p)[tokens].tolist(), resampling=Resampling(resamples=200)
    ).policy
    assert found.low < exact < found.high
    assert found.high - found.low < 0.03


# Catches: the number of tokens taken for fixed, which gave intervals that held the truth in far too few draws.
def test_intervals_of_a_ratio_hold_the_truth() -> None:
    from pipeline.statistics.bootstrap import bootstrap_mean

    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        counts = rng.integers(1, 30, 60).astype(float)
        totals = 0.5 * counts + 0.1 * (counts - 15) ** 2 * rng.random(60)
        interval = bootstrap_mean(ratio_parts(totals, counts), trial, level=0.9, resamples=200)
        truth = 0.5 + 0.1 * 0.5 * np.mean((np.arange(1, 30) - 15.0) ** 2) / 15
        hits += interval.low <= truth <= interval.high
    assert hits / 300 == pytest.approx(0.9, abs=0.055)


# Catches: completions as the unit anywhere: everything said of two equal completions per prompt is said of one.
def test_several_completions_of_a_prompt_are_averaged_first() -> None:
    rng = np.random.default_rng(3)

    def twice(side: Sampled) -> Sampled:
        return Sampled(**{k: [x for x in v for _ in range(2)] for k, v in vars(side).items()})

    logprobs = [rng.normal(-2, 1, rng.integers(1, 9)).tolist() for _ in range(60)]
    more = {"lengths": [len(row) for row in logprobs], "logprobs": logprobs}
    base = sampled(30, **{k: v[:30] for k, v in more.items()}, ref_logprobs=logprobs[:30])
    shifted = [[x - 0.1 for x in row] for row in logprobs[30:]]
    policy = sampled(30, 0.4, 1, **{k: v[30:] for k, v in more.items()}, ref_logprobs=shifted)
    once, double = (
        to_json(result) for result in (compare(base, policy), compare(twice(base), twice(policy), per_prompt=2))
    )
    for found in (once, double):
        for key in ("unique", "distinct_1", "distinct_2", "distinct_3", "completions_per_prompt"):
            del found[key]  # counts of texts, which are repeated here
        for wins in found["win_rate"].values():
            del wins["wins"], wins["ties"], wins["losses"]
    assert flat(double) == pytest.approx(flat(once))
    assert once["kl_k1_per_token"]["value"] == pytest.approx(0.1)


def flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in flat(inner, f"{key}.{name}").items()}
    return {key: value}


def test_compare_refuses_what_does_not_pair() -> None:
    with pytest.raises(ValueError, match="3 base and 4 policy"):
        compare(sampled(3), sampled(4))
    with pytest.raises(ValueError, match="not 2 of each"):
        compare(sampled(3), sampled(3), per_prompt=2)
    with pytest.raises(ValueError, match="different lengths"):
        sampled(3, lengths=[1])
    with pytest.raises(ValueError, match="both"):
        sampled(1, logprobs=[[-1.0]])
