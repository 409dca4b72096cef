"""Metrics of single labelled completions against scikit-learn, a plain search and hand arithmetic."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from pipeline.evaluation.reward.pointwise_metrics import (
    Completions,
    auc,
    bag_of_words,
    calibration,
    gold_agreement,
    longer_liked,
    pointwise_metrics,
    threshold,
    verdict,
)
from pipeline.results.reward import AucBaseline, NamedAccuracy
from pipeline.statistics.bootstrap import Estimate, wilson

RNG = np.random.default_rng(0)
LIKED = RNG.random(300) < 0.7
# Rounded, so that there are ties between likes and dislikes.
SCORES = np.round(RNG.normal(0, 1, 300) + LIKED, 1)


def completions(labels: list[bool], texts: list[str], gold: list[float] | None = None) -> Completions:
    return Completions(labels, ["p"] * len(texts), texts, gold)


# Catches: a tie counted as 0 or 1; likes and dislikes swapped.
def test_auc_by_hand() -> None:
    # Likes 3 and 1, dislikes 2, 1 and 0: of six couples 3 beats all three, 1 beats one and ties one: 4.5 / 6.
    assert auc([3, 1, 2, 1, 0], [True, True, False, False, False]).value == 0.75
    assert auc([2, 1], [True, False]).value == 1.0
    assert auc([1, 2], [True, False]).value == 0.0


def test_auc_equals_scikit_learn() -> None:
    assert auc(SCORES, LIKED).value == pytest.approx(roc_auc_score(LIKED, SCORES), abs=1e-12)


@pytest.mark.parametrize("n", [2, 30, 1000])
def test_a_constant_model_gets_one_half_and_no_praise(n: int) -> None:
    area = auc([0.0] * n, np.arange(n) < n // 2)
    assert area.value == 0.5
    assert area.low < 0.5 < area.high
    clears, said = verdict(area, [], n // 2)
    assert not clears
    assert "no better than chance" in said


# One like and one dislike are one trial, and the interval is Wilson's. Catches: group sizes not less one.
@pytest.mark.parametrize("value", [0, 1])
def test_the_interval_of_one_couple_is_wilsons(value: int) -> None:
    found = auc([value, 1 - value], [True, False])
    one = wilson(value, 1)
    assert (found.low, found.high) == (pytest.approx(one.low, abs=1e-9), pytest.approx(one.high, abs=1e-9))


# Catches: the two limits swapped, z of one side, a variance at the estimate instead of at the limit.
@pytest.mark.parametrize(("likes", "dislikes"), [(15, 15), (25, 5), (5, 45)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_limits_are_where_the_estimate_is_z_standard_errors_away(
    likes: int, dislikes: int, level: float
) -> None:
    labels = np.arange(likes + dislikes) < likes
    found = auc(np.random.default_rng(likes).normal(0, 1, len(labels)) + labels, labels, level)
    thetas = np.linspace(0, 1, 200_001)
    mean = (likes + dislikes) / 2
    variance = thetas * (1 - thetas) / (likes * dislikes)
    variance *= 1 + (mean - 1) * ((1 - thetas) / (2 - thetas) + thetas / (1 + thetas))
    z = NormalDist().inv_cdf((1 + level) / 2)
    near = thetas[np.abs(found.value - thetas) <= z * np.sqrt(variance)]
    assert (found.low, found.high) == (pytest.approx(near.min(), abs=1e-5), pytest.approx(near.max(), abs=1e-5))


# The area of two normals a distance apart is Phi(distance / sqrt(2)). Catches: half or twice the variance.
@pytest.mark.parametrize(("likes", "dislikes", "distance"), [(40, 40, 0.7), (80, 15, 1.5), (12, 12, 0.0)])
def test_intervals_hold_the_truth(likes: int, dislikes: int, distance: float) -> None:
    rng, trials = np.random.default_rng(4), 1000
    truth = NormalDist().cdf(distance / math.sqrt(2))
    labels = np.arange(likes + dislikes) < likes
    found = [auc(rng.normal(0, 1, len(labels)) + distance * labels, labels) for _ in range(trials)]
    # Three standard deviations of 1,000 draws at .95 are .02.
    assert 0.93 <= sum(i.low <= truth <= i.high for i in found) / trials <= 0.98


# DeLong's interval and the bootstrap have a width of 0 here.
def test_a_perfect_model_on_few_rows_is_not_certain() -> None:
    found = auc([1.0] * 5 + [0.0] * 5, [True] * 5 + [False] * 5)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.5 < found.low < 0.8


@pytest.mark.parametrize("labels", [[], [True, True], [False]])
def test_one_kind_of_label_has_no_auc(labels: list[bool]) -> None:
    found = auc([0.0] * len(labels), labels)
    assert math.isnan(found.value)
    assert (found.low, found.high, found.n) == (0.0, 1.0, len(labels))


# Catches: a logit of 0 taken for a like, the offset's sign, the test rows' majority.
def test_threshold_by_hand() -> None:
    logits, liked = np.array([1.0, -1.0, 0.0, 2.0, -3.0]), np.array([True, True, True, False, False])
    found = threshold(logits, liked, -0.5, 0.95)
    assert found.accuracy == wilson(2, 5)
    assert found.majority == NamedAccuracy("always a dislike", wilson(2, 5))
    assert threshold(logits, liked, 0.5, 0.95).majority.name == "always a like"


# Catches: bins over .5 .. 1, a mean over bins that is not weighted, a probability of 1 in a bin of its own.
def test_calibration_by_hand() -> None:
    # sigmoid(ln 3) = .75: two of four liked, gap .25. sigmoid(-ln 19) = .05: none of one liked, gap .05. A logit
    # of 40 is a probability of 1: liked. Together (4 * .25 + .05 + 0) / 6 = .175.
    three = math.log(3.0)
    logits = np.array([three, three, three, three, -math.log(19.0), 40.0])
    found = calibration(logits, np.array([True, True, False, False, False, True]), three)
    assert found.ece == pytest.approx(0.175, abs=1e-9)
    assert [(row.low, row.high, row.count) for row in found.rows] == [
        (0.0, 0.1, 1), (0.7, 0.8, 4), (0.9, 1.0, 1),
    ]  # fmt: skip
    assert [row.accuracy.value for row in found.rows] == [0.0, 0.5, 1.0]
    # Always .75: three likes (.0625) and three dislikes (.5625).
    assert found.brier_base_rate == pytest.approx(0.3125)


def test_brier_equals_scikit_learn() -> None:
    found = calibration(SCORES, LIKED, 0.0).brier
    assert found == pytest.approx(brier_score_loss(LIKED, 1 / (1 + np.exp(-SCORES))), abs=1e-12)


# Catches: the direction learnt from the test rows.
def test_longer_liked() -> None:
    test = completions([True, False, False], ["long", "s", "longer"])
    assert longer_liked(test, completions([], [])).auc == auc([4, 1, 6], [True, False, False])
    flipped = longer_liked(test, completions([True, False], ["s", "long"]))
    assert flipped.name == "shorter is liked"
    assert flipped.auc == auc([-4, -1, -6], [True, False, False])
    assert longer_liked(completions([True], ["x"]), test).auc is None


def words(train: list[str], liked: list[bool], test: list[str], test_liked: list[bool]) -> AucBaseline:
    return bag_of_words("words", train, test, np.array(liked), np.array(test_liked))


# Catches: the score of a dislike.
def test_bag_of_words_learns_words() -> None:
    train, liked = ["a good film", "a bad film"] * 15, [True, False] * 15
    found = words(train, liked, ["so good", "unseen", "so bad", "good !"], [True, True, False, False])
    # good 2, good 1: tie. good > bad, unseen > bad, unseen < good: 2.5 of 4.
    assert found.auc == auc([2, 1, 0, 2], [True, True, False, False])


@pytest.mark.parametrize(
    ("train", "liked", "test_liked", "reason"),
    [
        (["a b"] * 3, [True, False, True], [True, False], "fewer than"),
        ([""] * 30, [True, False] * 15, [True, False], "no words"),
        (["a b"] * 30, [True] * 30, [True, False], "training labels are alike"),
        (["a b"] * 30, [True, False] * 15, [True, True], "both likes and dislikes"),
    ],
)
def test_bag_of_words_says_why_it_cannot(
    train: list[str], liked: list[bool], test_liked: list[bool], reason: str
) -> None:
    found = words(train, liked, ["a", "b"], test_liked)
    assert found.auc is None
    assert reason in str(found.reason)


# A score of the prompt alone must not look like a score of completions. Mutation caught: completions for prompts.
def test_what_the_prompt_alone_tells_is_a_baseline() -> None:
    prompts, labels = ["nice one"] * 20 + ["rude one"] * 20, [True] * 20 + [False] * 20
    rows = Completions(labels, prompts, ["same"] * 40)
    found = pointwise_metrics([1.0] * 20 + [0.0] * 20, 0.0, rows, rows)
    assert found.baselines[1].auc.value == 0.5
    assert found.baselines[2].auc.value == 1.0
    assert not found.clears_baselines
    assert "best baseline (bag of words of the prompt, 1.00)" in found.verdict


# Catches: the model's AUC in place of the gold score's.
def test_gold_agreement_by_hand() -> None:
    rows = completions([True, False, True], ["a"] * 3, [1.0, 2.0, 3.0])
    found = gold_agreement(np.array([1.0, 3.0, 2.0]), rows)
    assert found is not None
    # Ranks 1 3 2 against 1 2 3: 1 - 6 * 2 / 24 = .5. Gold 1 and 3 against 2: one of two.
    assert found.spearman == pytest.approx(0.5)
    assert found.labels.value == 0.5
    assert gold_agreement(np.array([1.0]), completions([True], ["a"])) is None


def test_verdict_of_nothing() -> None:
    nothing, alike = Estimate(math.nan, 0.0, 1.0, 0), Estimate(math.nan, 0.0, 1.0, 7)
    assert "no held-out completions" in verdict(nothing, [], 0)[1]
    assert "All 7 held-out completions are likes" in verdict(alike, [], 7)[1]
    assert "All 7 held-out completions are dislikes" in verdict(alike, [], 0)[1]


# Catches: the offset left out of the probabilities, or put into the AUC's or the length's score twice.
def test_probabilities_hold_the_offset_and_ranks_do_not_care() -> None:
    rows = completions([True, True, True, False], ["a", "b", "c", "d"])
    scores = [0.5, -0.2, -0.2, -0.9]
    plain, moved = (pointwise_metrics(scores, offset, rows, rows) for offset in (0.0, math.log(3)))
    assert plain.auc == moved.auc
    assert plain.threshold.accuracy.value == 0.5
    assert moved.threshold.accuracy.value == 0.75
    expected = brier_score_loss([1, 1, 1, 0], 1 / (1 + np.exp(-(np.array(scores) + math.log(3)))))
    assert moved.calibration.brier == pytest.approx(expected)
