"""Reward-model metrics against scikit-learn, scipy and hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import brier_score_loss

from pipeline.evaluation.reward.calibration import calibration, fit_temperature
from pipeline.evaluation.reward.pairwise_metrics import (
    ScoredPairs,
    bag_of_words,
    gold_agreement,
    length_correlation,
    longer_wins,
    pair_accuracy,
    reward_metrics,
)
from pipeline.statistics.bootstrap import wilson

MARGINS = np.random.default_rng(0).normal(0.8, 1.5, 300)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# Catches: >= for >, under which a constant model is always right.
def test_a_tie_is_never_correct() -> None:
    assert pair_accuracy([1.0, -1.0, 0.0, 2.0]).value == 0.5
    assert pair_accuracy([0.0] * 10).value == 0.0


# Catches: (1 - p)^2 of the confidence instead of the chosen side's probability, a flipped margin.
def test_brier_equals_scikit_learn() -> None:
    # The same pairs written as a classifier's: half of them with the chosen completion in second place.
    flip = np.arange(len(MARGINS)) % 2 == 0
    first_wins = np.where(flip, 0, 1)
    probability = sigmoid(np.where(flip, -MARGINS, MARGINS))
    assert calibration(MARGINS).brier == pytest.approx(brier_score_loss(first_wins, probability), abs=1e-12)


# Catches: bins over 0 .. 1, an unweighted mean over bins, ties counted as wrong.
def test_ece_by_hand() -> None:
    # sigmoid(ln 3) = .75 (bin .75-.80): 2 of 4 right, gap .25. sigmoid(ln 19) = .95 (bin .95-1): 1 of 1, gap .05.
    # A margin of 0: confidence .5, half right, gap 0. Together (4 * .25 + 1 * .05 + 1 * 0) / 6 = .175.
    a, b = np.log(3.0) + 1e-12, np.log(19.0) + 1e-12
    result = calibration([a, a, -a, -a, b, 0.0])
    assert result.ece == pytest.approx(0.175, abs=1e-9)
    assert [(row.low, row.count) for row in result.rows] == [(0.5, 1), (0.75, 4), (0.95, 1)]
    assert [row.accuracy.value for row in result.rows] == [0.5, 0.5, 1.0]


def test_a_calibrated_model_has_a_small_ece_and_temperature_one() -> None:
    rng = np.random.default_rng(3)
    sure = np.abs(rng.normal(0, 2, 40_000))
    margins = np.where(rng.random(40_000) < sigmoid(sure), sure, -sure)
    assert calibration(margins).ece < 0.01
    assert fit_temperature(margins)[0] == pytest.approx(1.0, abs=0.03)
    # Catches: margin * T for margin / T. Three times too sure needs a temperature of 3.
    tripled = calibration(3 * margins)
    assert tripled.temperature == pytest.approx(3.0, abs=0.1)
    assert tripled.ece_at_temperature < 0.01 < 0.05 < tripled.ece


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_temperature_equals_a_general_optimiser_at_any_scale(scale: float) -> None:
    best = minimize(lambda beta: np.logaddexp(0, -beta[0] * MARGINS).mean(), x0=[1.0], method="BFGS").x[0]
    assert fit_temperature(MARGINS * scale)[0] == pytest.approx(scale / best, rel=1e-3)


@pytest.mark.parametrize(
    ("margins", "reason"),
    [([], "no pairs"), ([1.0, 2.0], "no pair is wrong"), ([-1.0, 0.5], "not positive"), ([0.0], "not positive")],
)
def test_no_finite_temperature_is_said(margins: list[float], reason: str) -> None:
    temperature, said = fit_temperature(margins)
    assert temperature is None
    assert reason in str(said)


# Catches: ties counted as right, a direction learnt from the test pairs.
def test_longer_wins() -> None:
    test = [("long", "s"), ("s", "long"), ("same", "size"), ("longer", "s")]
    assert longer_wins(test).accuracy == wilson(2.5, 4)
    flipped = longer_wins(test, train=[("s", "long")])
    assert flipped.name == "shorter wins"
    assert flipped.accuracy == wilson(1.5, 4)
    assert longer_wins([]).accuracy is None


# Catches: rejected - chosen, an intercept, fitting on the test pairs.
def test_bag_of_words_learns_words_and_only_words() -> None:
    train = [("a good film", "a bad film"), ("what a good day", "what a dull bad day")] * 15
    test = [("good !", "bad !"), ("so good", "so bad"), ("bad", "good"), ("unseen", "unknown")]
    assert bag_of_words(train, test).accuracy == wilson(2.5, 4)


def test_bag_of_words_equals_bradley_terry_by_gradient() -> None:
    # Catches: a wrong C (158 right at twice it, 142 at 100 times), a lost mirror image. Independent: its loss,
    # log-losses + |w|^2 / 2, minimised by scipy. Few pairs, many words: the prior matters.
    rng = np.random.default_rng(7)
    words = np.array([2 * letter for letter in "abcdefghijkl"])
    counts = rng.integers(0, 3, (230, 2, 12))
    wins = rng.random(230) < sigmoid((counts[:, 0] - counts[:, 1]) @ np.linspace(2, -2, 12))
    counts = np.where(wins[:, None, None], counts, counts[:, ::-1])
    pairs = [(" ".join(np.repeat(words, a)), " ".join(np.repeat(words, b))) for a, b in counts]
    d = (counts[:, 0] - counts[:, 1]).astype(float)
    fit = minimize(lambda w: np.logaddexp(0, -d[:30] @ w).sum() + w @ w / 2, np.zeros(12), method="BFGS")
    assert bag_of_words(pairs[:30], pairs[30:]).accuracy == wilson(int((d[30:] @ fit.x > 0).sum()), 200)


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ([("a", "b")] * 3, "fewer than"),
        ([("", " ")] * 30, "no words"),
        ([("one two", "two one")] * 30, "same words"),
    ],
)
def test_bag_of_words_says_why_it_cannot(train: list[tuple[str, str]], reason: str) -> None:
    baseline = bag_of_words(train, [("a", "b")])
    assert baseline.accuracy is None
    assert reason in str(baseline.reason)


def test_length_correlation() -> None:
    texts = ["a" * n for n in (1, 2, 3, 10)]
    result = length_correlation([1.0, 2.0, 3.0, 4.0], texts)
    assert result.spearman == pytest.approx(1.0)
    # By hand: deviations (-1.5, -.5, .5, 1.5) and (-3, -2, -1, 6): 14 / sqrt(5 * 50) = .8854.
    assert result.pearson == pytest.approx(0.885438, abs=1e-6)
    assert length_correlation([1.0] * 4, texts).pearson is None


# Catches: gold ties kept in n, the model's sign not compared with gold's, label noise of the model.
def test_gold_agreement_by_hand() -> None:
    pairs = ScoredPairs(
        chosen_scores=[1, 1, 0, 1, 0],
        rejected_scores=[0, 0, 0, 0, 1],
        chosen=["x"] * 5,
        rejected=["y"] * 5,
        chosen_gold_scores=[1, 0, 1, 1, 0],
        rejected_gold_scores=[0, 1, 0, 1, 1],
    )
    # Pair 4 is a gold tie. Gold says +, -, +, -; the model +, +, tie, -: 2 of 4. The labels say +: 2 of 4.
    result = gold_agreement(pairs)
    assert result is not None
    assert (result.n, result.gold_ties) == (4, 1)
    assert result.accuracy == wilson(2, 4)
    assert result.labels == wilson(2, 4)
    assert result.label_noise.value == 0.5


def test_label_noise_is_the_flipped_share() -> None:
    flipped = [True] * 3 + [False] * 27
    gold = [-1.0 if f else 1.0 for f in flipped]
    pairs = ScoredPairs(gold, [0.0] * 30, ["a"] * 30, ["b"] * 30, gold, [0.0] * 30)
    result = gold_agreement(pairs)
    assert result is not None
    assert result.label_noise.value == pytest.approx(0.1)
    assert result.accuracy.value == 1.0


def chinese(n: int) -> list[tuple[str, str]]:
    """Pairs that one character tells apart, in clauses of which nearly none is there twice."""
    rng = np.random.default_rng(0)
    parts = [[f"{x}{y}" for x in "杯灯书门" for y in "大小新旧"], [f"{x}{y}" for x in "早晚" for y in "上春秋冬"]]
    clauses = ["".join(str(rng.choice(part)) for part in parts) for _ in range(n)]
    return [(f"{clause}好看极了", f"{clause}难看极了") for clause in clauses]


# Catches: a clause of a script without blanks as a single word.
def test_a_bag_of_words_reads_scripts_without_blanks_and_the_report_says_how() -> None:
    found = bag_of_words(chinese(60), chinese(90)[60:])
    assert found.accuracy is not None
    assert found.accuracy.value == 1
    test = chinese(30)
    scored = ScoredPairs([1.0] * 30, [0.0] * 30, [c for c, _ in test], [r for _, r in test])
    assert reward_metrics(scored, chinese(60)).words.startswith("Words are single characters")
    plain = ScoredPairs([1.0], [0.0], ["a good one"], ["a bad one"])
    assert reward_metrics(plain).words is None
