"""The laws against curve_fit and hand arithmetic, the turning point against the trainer's own rule and noise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit

from pipeline.evaluation.policy.overoptimisation_laws import (
    EvaluatedPolicy,
    best_checkpoint,
    fit_law,
    law_gain,
    over_sweep,
    over_training,
    turning_point,
)
from pipeline.health import examined
from pipeline.results.overoptimisation import BestCheckpoint, PolicySettings
from pipeline.results.stats import to_json
from pipeline.stages.evaluate.history import above_floor
from pipeline.statistics.bootstrap import Resampling
from pipeline.trainers.ppo.held_out import HeldOutEval, OveroptimisationMonitor

LAWS = {"best_of_n": lambda d, a, b: d * (a - b * d), "rl": lambda d, a, b: d * (a - b * np.log(d))}


# Catches: log base 10, d squared once too often, alpha and beta swapped, limits from ddof of another size.
@pytest.mark.parametrize("law", ["best_of_n", "rl"])
def test_fit_equals_curve_fit(law: Any) -> None:
    d = np.array([0.4, 0.8, 1.1, 1.6, 2.3, 3.0])
    gain = LAWS[law](d, 1.3, 0.4) + np.random.default_rng(0).normal(0, 0.05, 6)
    (alpha, beta), covariance = curve_fit(LAWS[law], d, gain)
    found = fit_law(d, gain, law)
    assert found.alpha.value == pytest.approx(alpha)
    assert found.beta.value == pytest.approx(beta)
    # t(.975, 4 degrees) = 2.776445 from any table.
    assert found.alpha.high - alpha == pytest.approx(2.776445 * math.sqrt(covariance[0, 0]), rel=1e-5)
    assert beta - found.beta.low == pytest.approx(2.776445 * math.sqrt(covariance[1, 1]), rel=1e-5)
    assert 0.9 < found.r2 < 1
    assert (found.points, found.reason) == (6, None)


# Catches: a peak where the gain is zero, log d for 1 + log d. By calculus: alpha / 2 beta; exp(alpha / beta - 1).
def test_peaks_by_hand() -> None:
    d = np.linspace(0.5, 4, 8)
    best = fit_law(d, LAWS["best_of_n"](d, 2.0, 0.5), "best_of_n").peak
    assert best is not None
    assert (best.d, best.kl, best.gain) == pytest.approx((2, 4, 2))
    assert best.within
    rl = fit_law(d, LAWS["rl"](d, 1.0, 0.4), "rl").peak
    assert rl.d == pytest.approx(math.exp(1.5))
    assert rl.gain == pytest.approx(0.4 * math.exp(1.5))
    assert rl.within is False
    assert fit_law(d, LAWS["best_of_n"](d, 2.0, -0.5), "best_of_n").peak is None
    # Catches: a peak at d = 1,846 from a curve that does not bend.
    straight = fit_law(d, d + np.array([0.1, -0.1] * 4), "rl")
    assert straight.beta.low < 0 < straight.beta.high
    assert straight.peak is None
    assert law_gain([0.0, 1.0], 2.0, 0.5, "rl").tolist() == [0.0, 2.0]


# Catches: a fit per prompt that is not the fit of the mean, prompts taken for points.
def test_prompts_curves_give_the_means_coefficients() -> None:
    rng = np.random.default_rng(1)
    d = np.array([0.4, 0.8, 1.2, 1.6])
    each = LAWS["best_of_n"](d, 1.0, 0.2) + rng.normal(0, 0.3, (50, 1)) * d
    ours, mean = fit_law(d, each, "best_of_n"), fit_law(d, each.mean(0), "best_of_n")
    assert ours.alpha.value == pytest.approx(mean.alpha.value)
    assert ours.alpha.n == 50
    # The prompts scatter in alpha alone, so beta is known to the last digit.
    assert ours.alpha.high - ours.alpha.low > 0.1
    assert ours.beta.high - ours.beta.low < 1e-9


# Catches: a level of its own, limits that ignore how prompts share their noise over the points.
@pytest.mark.thorough
def test_prompts_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    d, hits = np.array([0.4, 0.8, 1.2, 1.6]), 0
    for trial in range(200):
        each = LAWS["rl"](d, 1.0, 0.2) + rng.normal(0, 1, (40, 1)) * d + rng.normal(0, 0.5, (40, 4))
        alpha = fit_law(d, each, "rl", Resampling(trial, level=0.9)).alpha
        hits += alpha.low <= 1.0 <= alpha.high
    assert hits / 200 == pytest.approx(0.9, abs=0.065)


# Catches: the base itself (d = 0, log d = -infinity) fitted, two points fitted perfectly.
def test_too_few_points_say_so() -> None:
    found = fit_law([0.0, 0.001, 0.5, 1.0], [0.0, 0.0, 0.2, 0.3], "rl")
    assert found.alpha is None
    assert (found.points, found.reason) == (2, "2 distances from the base; a fit needs 3")
    assert fit_law([0.5, 0.5, 0.5, 1.0], [0.1] * 4, "rl").alpha is None
    assert fit_law([0.0, 0.4, 0.8, 1.2], [0, 0.3, 0.5, 0.6], "rl").alpha is not None


def run_of(
    gold: list[float], score: list[float], error: float = 0.02, m: int = 40
) -> tuple[np.ndarray, list[float]]:
    """Per-prompt gold whose paired differences have about this standard error."""
    rng = np.random.default_rng(0)
    return np.asarray(gold) + rng.normal(0, 1, (m, 1)) + rng.normal(
        0, error * math.sqrt(m / 2), (m, len(gold))
    ), score


# Catches: any other rule than the one that would have ended the run.
@pytest.mark.parametrize(
    ("gold", "score", "index"),
    [
        ([0.1, 0.5, 0.8, 0.6, 0.4], [0, 1, 2, 3, 4], 2),
        (
            [0.1, 0.5, 0.8, 0.6, 0.4],
            [0, 1, 2, 1.5, 1],
            None,
        ),  # the proxy fell too: a worse policy, not a hacked one
        ([0.1, 0.5, 0.8, 0.6, 0.9], [0, 1, 2, 3, 4], None),  # gold recovered
        ([0.1, 0.5, 0.8, 0.9, 0.6], [0, 1, 2, 3, 4], None),  # one fall may be bad luck
        ([0.1, 0.8, 0.5, 0.9, 0.6], [0, 1, 2, 3, 4], None),  # and so may two that are not in a row
        ([0.1, 0.5, 0.8, 0.79, 0.785], [0, 1, 2, 3, 4], None),  # less than the noise
        ([0.9, 0.5, 0.4, 0.3, 0.2], [0, 1, 2, 3, 4], 0),
    ],
)
def test_turning_point_is_the_trainers(gold: list[float], score: list[float], index: int | None) -> None:
    each, score = run_of(gold, score)
    found = turning_point(each, score)
    assert found.index == index
    assert (found.reason is None) == (index is not None)
    monitor = OveroptimisationMonitor(None, 2)
    for i, column in enumerate(each.T.tolist()):
        monitor.add(HeldOutEval(i, float(i), score[i], column))
    assert monitor.overoptimised == (index is not None)
    if index is not None:
        assert monitor.best is not None
        assert monitor.best.update == index


# One history had three verdicts: the run was ended, "has not fallen measurably", nothing found.
# Catches: another number of errors, or another part of what was gained, in any of the three.
def test_trainer_evaluation_and_doctor_agree() -> None:
    rng = np.random.default_rng(5)
    verdicts: list[bool] = []
    for _ in range(150):
        means = 0.3 + np.cumsum(rng.normal(0.02, 0.1, 8))
        checks = means + rng.normal(0, 0.3, (48, 1)) + rng.normal(0, 0.15, (48, 8))
        scores = np.cumsum(rng.normal(0.3, 0.3, 8))
        monitor, rows = OveroptimisationMonitor(None, 2), list[dict[str, Any]]()
        for i, column in enumerate(checks.T.tolist()):
            held = HeldOutEval(i, float(i), float(scores[i]), column)
            monitor.add(held)
            error = float(np.std(column)) / math.sqrt(47)
            figures = {"eval/kl": held.kl, "eval/scores": held.score, "eval/check": held.check}
            fall = {} if held.fall_error is None else {"eval/check_fall_error": held.fall_error}
            rows.append({"update": i, **figures, "eval/check_error": error, **fall})
        evaluated = over_training(rows)
        assert evaluated is not None
        doctor = {finding.rule for finding in examined(rows).findings if finding.until is None}
        assert (evaluated.turning_point.index is not None) == monitor.overoptimised
        assert ("over-optimisation" in doctor) == monitor.overoptimised
        verdicts.append(monitor.overoptimised)
    assert 15 < sum(verdicts) < 135


# Catches: errors of a mean instead of a difference, the paired error passed over.
def test_turning_point_of_means() -> None:
    score = [0.0, 1, 2, 3]
    # 3 x hypot(.04, .04) = .170; an error of .06 on either side makes it .216, and .2 is within it.
    gold = [0.1, 0.8, 0.6, 0.5]
    assert turning_point(gold, score, [0.04] * 4).index == 1
    assert turning_point(gold, score, [0.04, 0.06, 0.04, 0.04]).index is None
    assert turning_point(gold, score, [0.04, 0.04, 0.06, 0.04]).index is None
    assert turning_point(gold, score, [0.04, 0.04, 0.06, 0.04], [None, 0.05, 0.05, 0.05]).index == 1
    assert turning_point(gold, score, [0.04] * 4, [None, 0.05, 0.07, 0.05]).index is None
    assert "not known" in turning_point([0.1, 0.8, 0.7, 0.6], score).reason
    assert "last of 2" in turning_point([0.1, 0.8], [0, 1], [0.1] * 2).reason
    assert "too few" in turning_point([0.1, 0.8, 0.2], [0, 1, 2], [0.1] * 3).reason


# A plateau is no fall, though the best of equal points is a lucky one.
@pytest.mark.thorough
def test_false_alarms_on_a_plateau_are_rare() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(500):
        gold = (
            np.array([0.1, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8]) + rng.normal(0, 1, (64, 1)) + rng.normal(0, 0.5, (64, 7))
        )
        alarms += turning_point(gold, [0, 1, 2, 3, 4, 5, 6]).index is not None
    assert alarms / 500 < 0.01


def row(update: int | None, kl: float, score: float, check: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"eval/kl": kl, "eval/scores": score}
    found |= {} if check is None else {"eval/check": check, "eval/check_error": 0.02}
    return found if update is None else {**found, "update": update}


HISTORY = [
    {"update": 1, "objective/kl": 0.0, "objective/scores": 0.1, "objective/gold_scores": 0.2},
    row(None, 0.0, 0.0, 0.1),
    row(8, 1.0, 1.0, 0.6),
    row(16, 4.0, 2.0, 0.9),
    row(24, 9.0, 3.0, 0.7),
    row(32, 16.0, 4.0, 0.5),
]


# Catches: the first evaluation lost (it has no update), KL for its root, gold that is not the gain in the law.
def test_over_training_takes_held_out_points() -> None:
    found = over_training(HISTORY)
    assert found is not None
    assert (found.source, found.gold) == ("eval", True)
    assert [p.update for p in found.points] == [0, 8, 16, 24, 32]
    assert [p.d for p in found.points] == [0, 1, 2, 3, 4]
    expected = fit_law([1, 2, 3, 4], [0.5, 0.8, 0.6, 0.4], "rl")
    assert found.law == expected
    assert expected.points == 4
    assert found.turning_point.index == 2
    assert json.loads(json.dumps(to_json(found), allow_nan=False)) == to_json(found)
    # A run of before the errors were logged.
    old = over_training([{k: v for k, v in r.items() if k != "eval/check_error"} for r in HISTORY])
    assert old is not None
    assert "not known" in old.turning_point.reason


def test_over_training_falls_back_on_the_updates() -> None:
    rows = [
        {"update": u, "objective/kl": k, "objective/scores": s, "objective/gold_scores": g}
        for u, k, s, g in ((1, -1e-3, 0.0, 0.1), (2, 1.0, 0.5, 0.4), (3, 4.0, 1.0, 0.6), (4, 9.0, 1.5, 0.5))
    ]
    found = over_training(rows)
    assert found is not None
    assert found.source == "objective"
    # Catches: update 1 taken for a changed policy; it samples the base.
    assert [p.update for p in found.points] == [0, 1, 2, 3]
    assert found.points[0].d == 0
    assert found.law.reason is None
    assert "eval_strategy" in found.turning_point.reason
    assert over_training([{"update": 1, "loss": 2.0}]) is None
    nothing = over_training([row(u, float(u), 1.0, None) for u in range(6)])
    assert nothing is not None
    assert (nothing.gold, nothing.law) == (False, None)


# Catches: the budget ignored, the last of equals instead of the first, the proxy's best where there is a check.
def test_best_checkpoint() -> None:
    found = best_checkpoint(HISTORY, kl_budget=12, kept=32)
    assert found == BestCheckpoint(16, "check", 0.9, 4.0, 2.0, kept=32, kept_value=0.5, is_kept=False)
    within = best_checkpoint(HISTORY, kl_budget=2, kept=8)
    assert within is not None
    assert (within.update, within.is_kept) == (8, True)
    bare = best_checkpoint([row(None, 0.0, 0.5, None), row(8, 1.0, 0.5, None), row(16, 2.0, 0.1, None)], None, 7)
    assert bare is not None
    assert (bare.update, bare.by, bare.kept_value) == (0, "scores", None)
    assert best_checkpoint([{"update": 1}], None, 1) is None
    assert best_checkpoint(HISTORY[2:], 0.5, 1) is None


# Catches: points left in order of making, a curve fitted on scores instead of gains over the base.
def test_over_sweep_orders_by_kl() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(5, 1, 60)
    policies = [
        EvaluatedPolicy(
            PolicySettings(f"p@v{i}", c, None),
            d * d,
            d,
            base + LAWS["rl"](d, 1.0, 0.8) + rng.normal(0, 0.1, 60),
            base,
        )
        for i, (c, d) in enumerate(((0.01, 3.9), (0.5, 0.5), (0.1, 1.2), (0.03, 2.9)))
    ]
    found = over_sweep(policies)
    assert found is not None
    assert [p.kl_coef for p in found.points] == [0.5, 0.1, 0.03, 0.01]
    assert found.points[0].gold == pytest.approx(policies[1].gold.mean())
    assert found.law.alpha.low < 1.0 < found.law.alpha.high
    assert found.turning_point.index == 1
    assert json.loads(json.dumps(to_json(found), allow_nan=False)) == to_json(found)
    assert over_sweep(policies[:1]) is None
    blind = over_sweep([replace(p, gold=None, base_gold=None) for p in policies])
    assert blind is not None
    assert (blind.law, blind.turning_point.reason) == (None, "no gold score")


def test_a_policy_below_the_floor_of_diversity_is_no_best_checkpoint() -> None:
    rows = [{"eval/scores": 1.0, "eval/closings_left": 1.0}, {"update": 8, "eval/scores": 2.0}]
    below = {"update": 16, "eval/scores": 3.0, "eval/closings_left": 0.49}
    assert above_floor([*rows, below], 0.5) == rows
    assert above_floor([*rows, below], None) == [*rows, below]
