"""What answers come to: by hand, and with judges that have a bias and nothing else."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from pipeline.evaluation.policy.win_rates import combine_orders, judge_trust, outcomes_by_score, win_rate
from pipeline.results.policy import WinRate
from pipeline.results.stats import to_json
from pipeline.scoring.llm_judge import Answer
from pipeline.statistics.bootstrap import wilson

FIRST, SECOND, TIE = Answer("first"), Answer("second"), Answer("tie")
SILENT = Answer(None, "refused")


# Catches: the second order read like the first, a disagreement counted as a win, an abstention as a loss.
@pytest.mark.parametrize(
    ("policy_first", "base_first", "outcome", "first", "disagree"),
    [
        (FIRST, SECOND, 1.0, 0.5, False),
        (SECOND, FIRST, 0.0, 0.5, False),
        (FIRST, FIRST, 0.5, 1.0, True),
        (SECOND, SECOND, 0.5, 0.0, True),
        (TIE, TIE, 0.5, math.nan, False),
        (FIRST, TIE, 0.5, math.nan, True),
        (SILENT, FIRST, math.nan, math.nan, False),
        (SECOND, SILENT, math.nan, math.nan, False),
    ],
)
def test_two_orders(
    policy_first: Answer, base_first: Answer, outcome: float, first: float, disagree: bool
) -> None:
    found = combine_orders([policy_first], [base_first])
    assert np.array_equal(found.outcomes, [outcome], equal_nan=True)
    assert np.array_equal(found.first, [first], equal_nan=True)
    assert found.disagree.tolist() == [disagree]
    assert found.reasons == ["refused" if SILENT in (policy_first, base_first) else None]


# Catches: a bias of place that leaks into the win rate.
def test_a_judge_of_place_alone_ties_everything() -> None:
    rng = random.Random(0)
    always = combine_orders([FIRST] * 50, [FIRST] * 50)
    stats = judge_trust(always, [True] * 50)
    assert win_rate(always.outcomes).value == 0.5
    assert stats.position_bias == wilson(50, 50)
    assert stats.disagreement == wilson(50, 50)
    coin = combine_orders(*([rng.choice([FIRST, SECOND]) for _ in range(400)] for _ in range(2)))
    assert judge_trust(coin, [True] * 400).position_bias.value == pytest.approx(0.5, abs=0.05)


# Catches: a judge of place, or a coin, whose verdict is passed on without a word; a good one that is doubted.
def test_which_judges_are_doubted() -> None:
    rng = random.Random(0)
    pairs = 60

    def doubt(policy_first: list[Answer], base_first: list[Answer]) -> str | None:
        return judge_trust(combine_orders(policy_first, base_first), [True] * pairs).doubt

    coin = [[rng.choice([FIRST, SECOND]) for _ in range(pairs)] for _ in range(2)]
    steady = [FIRST] * 40 + [SECOND] * 20, [SECOND] * 40 + [FIRST] * 10 + [SECOND] * 10  # 10 of 60 contradict
    assert "1.00 [0.94, 1.00] of 60 pairs, a coin on half" in (doubt([FIRST] * pairs, [FIRST] * pairs) or "")
    assert "a coin on half" in (doubt(*coin) or "")
    assert doubt(*steady) is None
    silent = [SILENT] * 31 + [FIRST] * 29
    assert doubt(silent, [SECOND] * pairs) == "no usable answer on 31 of 60 pairs"
    assert doubt([*silent[1:], FIRST], [SECOND] * pairs) is None


# Catches: equal texts counted as asked, ties of equal texts diluting the bias, abstentions in a denominator.
def test_trust_by_hand() -> None:
    found = combine_orders([FIRST, FIRST, TIE, SILENT, TIE], [SECOND, FIRST, TIE, FIRST, TIE])
    stats = judge_trust(found, [True, True, True, True, False])
    assert (stats.pairs, stats.asked, stats.abstentions) == (5, 4, {"refused": 1})
    assert stats.position_bias == wilson(1.5, 2)
    assert stats.disagreement == wilson(1, 3)
    assert json.loads(json.dumps(to_json(stats), allow_nan=False)) == to_json(stats)


# Catches: completions as the unit, an abstention as a loss or in n, a prompt half answered left out.
def test_win_rate_averages_prompts_first() -> None:
    found = win_rate([1, 1, 0, 0.5, math.nan, 1, math.nan, math.nan], per_prompt=2)
    # Prompts: 1, .25, 1 (one answer), none. Sum 2.25 over 3.
    assert found == WinRate(**vars(wilson(2.25, 3)), wins=3, ties=1, losses=1)
    assert win_rate([math.nan]).n == 0
    assert math.isnan(win_rate([math.nan]).value)


# Wilson on averaged prompts is a little wide, never narrow. Catches: n counted in completions.
def test_win_rate_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        chance = rng.beta(2, 1, 60)  # mean 2/3; completions of a prompt are alike
        wins = rng.random((60, 3)) < chance[:, None]
        found = win_rate(wins.astype(float).ravel(), per_prompt=3)
        hits += found.low <= 2 / 3 <= found.high
    assert hits / 500 >= 0.94


def test_outcomes_by_score() -> None:
    assert outcomes_by_score([0, 1, 2], [1, 1, 0]).tolist() == [1.0, 0.5, 0.0]


# Catches: ties as wins or dropped from n, before and after swapped.
def test_win_rate_by_hand() -> None:
    result = win_rate(outcomes_by_score([0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]))
    assert result == WinRate(**vars(wilson(2.5, 4)), wins=2, ties=1, losses=1)
