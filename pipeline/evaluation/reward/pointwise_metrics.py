"""Metrics of a reward model on single labelled completions: AUC, baselines, calibration, verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pipeline.evaluation.reward.calibration import calibration_error, reliability_bins, sigmoid
from pipeline.evaluation.reward.pairwise_metrics import against_baseline, length_correlation
from pipeline.results.calibration import LikeCalibration
from pipeline.results.reward import (
    AucBaseline,
    LikeGold,
    NamedAccuracy,
    PointwiseMetrics,
    Threshold,
    best_baseline,
)
from pipeline.statistics.bootstrap import Estimate, as_finite, finite, wilson
from pipeline.texts import words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# As for pairs: with fewer, a bag of words has more words than evidence.
FEWEST_TRAINING_ROWS = 20


@dataclass(frozen=True)
class Completions:
    """Single completions with their labels.

    Attributes:
        labels: (n,) True for a liked one.
        prompts, completions: (n,) texts.
        gold_scores: (n,) of the task's ground truth, where there is one.
    """

    labels: Sequence[bool]
    prompts: Sequence[str]
    completions: Sequence[str]
    gold_scores: Sequence[float] | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in vars(self).items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different lengths: {lengths}")

    @property
    def liked(self) -> NDArray[np.bool_]:
        return np.asarray(self.labels, dtype=bool)


def pointwise_metrics(
    scores: ArrayLike, offset: float, test: Completions, train: Completions, level: float = 0.95
) -> PointwiseMetrics:
    """All metrics of a reward model on single labelled completions.

    Args:
        scores: (n,) raw scores of ``test``.
        offset: log-odds of a like among the training rows: P(like) is sigmoid(score + offset).
        test: held-out rows; none of them may have been trained on.
        train: the training rows, for the baselines.
    Raises:
        DataError: a score is NaN or infinite.
    """
    values = as_finite(scores, "scores")
    if len(values) != len(test.labels):
        raise ValueError(f"{len(values)} scores for {len(test.labels)} labels")
    area = auc(values, test.liked, level)
    baselines = (
        longer_liked(test, train, level),
        bag_of_words("bag of words", train.completions, test.completions, train.liked, test.liked, level),
        # A policy cannot choose its prompt: a reward model that has learnt no more than this teaches it nothing.
        bag_of_words("bag of words of the prompt", train.prompts, test.prompts, train.liked, test.liked, level),
    )
    likes = int(test.liked.sum())
    clears, sentence = verdict(area, baselines, likes)
    split = words.how_split(test.completions)
    return PointwiseMetrics(
        n=len(values),
        likes=likes,
        level=level,
        auc=area,
        threshold=threshold(values + offset, test.liked, offset, level),
        baselines=baselines,
        calibration=calibration(values + offset, test.liked, offset),
        length_correlation=length_correlation(values.tolist(), test.completions),
        gold=gold_agreement(values, test, level),
        notes=(split,) if split else (),
        clears_baselines=clears,
        verdict=sentence,
    )


def auc(scores: ArrayLike, liked: ArrayLike, level: float = 0.95) -> Estimate:
    """Share of (like, dislike) couples in which the like scores higher; a tie is half, so a constant gets 0.5.

    The Mann-Whitney statistic, with Newcombe's score interval (2006, Statistics in Medicine 25, method 5). Rows
    count as independent.

    Args:
        scores: (n,) scores.
        liked: (n,) booleans.
    Returns:
        NaN with limits 0 and 1 where all labels are alike.
    """
    from scipy.stats import rankdata

    values, labels = as_finite(scores, "scores"), np.asarray(liked, dtype=bool)
    m, n = int(labels.sum()), int((~labels).sum())
    if m == 0 or n == 0:
        return Estimate(math.nan, 0.0, 1.0, len(values))
    area = float((rankdata(values)[labels].sum() - m * (m + 1) / 2) / (m * n))
    return Estimate(area, _newcombe(area, m, n, level), 1 - _newcombe(1 - area, m, n, level), len(values))


def _newcombe(area: float, m: int, n: int, level: float) -> float:
    """The lower limit: the AUC theta below ``area`` that is z of its own standard errors away.

    People label few completions, and a good model has an AUC near 1, where estimated standard errors go to 0. Over
    1500 draws of normal scores, 15 likes and 15 dislikes, AUC 0.96, the 95 % interval held the truth in 98 %;
    DeLong's in 78 %, the bootstrap over rows in 80 %. With 45 and 5: 96 %, 71 %, 80 %. With two dependent rows
    of each of 30 prompts (AUC 0.5 to 0.8): 94 % to 96 %.
    """
    from scipy.optimize import brentq

    if area == 0:
        return 0.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    others = (m + n) / 2 - 1

    def gap(theta: float) -> float:
        # Hanley and McNeil's variance (1982) with both group sizes in the numerator replaced by their mean.
        spread = 1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (area - theta) ** 2 - z * z * theta * (1 - theta) * spread / (m * n)

    # At an area of 1 the gap has another root, at 1 itself.
    return float(brentq(gap, 0.0, min(area, 1 - 1e-12)))  # type: ignore[arg-type]


def threshold(logits: NDArray[np.float64], liked: NDArray[np.bool_], offset: float, level: float) -> Threshold:
    """Accuracy of "a like where P(like) is above one half", beside always saying what most training rows say.

    A logit of exactly 0 decides nothing and is not correct.
    """
    more = offset >= 0
    right = int((np.sign(logits) == np.where(liked, 1, -1)).sum())
    always = wilson(int((liked == more).sum()), len(liked), level)
    return Threshold(
        offset,
        wilson(right, len(liked), level),
        NamedAccuracy(f"always a {'like' if more else 'dislike'}", always),
    )


def calibration(
    logits: NDArray[np.float64], liked: NDArray[np.bool_], offset: float, bins: int = 10
) -> LikeCalibration:
    """Of the completions given a probability p of a like, is a share p liked? Few rows bias the ECE upwards.

    Args:
        logits: (n,) log-odds of a like as the model sees them.
        offset: log-odds of a like among the training rows, for the Brier score of knowing nothing else.
        bins: of equal width over 0 .. 1; empty ones are left out of the rows.
    """
    if len(logits) == 0:
        return LikeCalibration((), None, None, None)
    probability = sigmoid(logits)
    rows = reliability_bins(probability, liked, 0.0, bins)
    return LikeCalibration(
        rows=rows,
        ece=calibration_error(rows),
        brier=float(np.mean((probability - liked) ** 2)),
        brier_base_rate=float(np.mean((sigmoid(np.array([offset])) - liked) ** 2)),
    )


def longer_liked(test: Completions, train: Completions, level: float = 0.95) -> AucBaseline:
    """The length in characters as the score - or minus it, where the training rows say so."""

    def area(rows: Completions, sign: int) -> Estimate:
        return auc([sign * float(len(text)) for text in rows.completions], rows.liked, level)

    shorter = area(train, 1).value < 0.5
    longer = area(test, -1 if shorter else 1)
    name = "shorter is liked" if shorter else "longer is liked"
    return AucBaseline(name, longer, None) if math.isfinite(longer.value) else AucBaseline(name, None, _ALIKE)


def bag_of_words(
    name: str,
    train: Sequence[str],
    test: Sequence[str],
    train_liked: NDArray[np.bool_],
    test_liked: NDArray[np.bool_],
    level: float = 0.95,
) -> AucBaseline:
    """Logistic regression over the counts of words, as in :func:`pipeline.texts.words.bag_of_words`."""
    if len(set(test_liked.tolist())) < 2:
        return AucBaseline(name, None, _ALIKE)
    if len(train) < FEWEST_TRAINING_ROWS:
        return AucBaseline(name, None, f"{len(train)} training rows, fewer than {FEWEST_TRAINING_ROWS}")
    if len(set(train_liked.tolist())) < 2:
        return AucBaseline(name, None, "all training labels are alike")
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = CountVectorizer(analyzer=cast("Any", words.bag_of_words))
    try:
        counts = counter.fit_transform(train)
    except ValueError:  # scikit-learn's "empty vocabulary"
        return AucBaseline(name, None, "the training texts hold no words")
    model = LogisticRegression(max_iter=1000).fit(counts, train_liked)
    return AucBaseline(name, auc(model.decision_function(counter.transform(test)), test_liked, level), None)


def gold_agreement(scores: NDArray[np.float64], test: Completions, level: float = 0.95) -> LikeGold | None:
    """Agreement of scores and labels with the gold score; None without gold scores."""
    from scipy.stats import spearmanr

    if test.gold_scores is None:
        return None
    gold = as_finite(test.gold_scores, "gold")
    correlation = None
    if len(gold) >= 3 and np.ptp(scores) > 0 and np.ptp(gold) > 0:
        correlation = finite(float(cast("Any", spearmanr(scores, gold)).statistic))
    return LikeGold(len(gold), correlation, auc(gold, test.liked, level))


def verdict(area: Estimate, baselines: Sequence[AucBaseline], likes: int) -> tuple[bool, str]:
    """Whether the lower limit clears one half and the best baseline, and a sentence saying so."""
    if area.n == 0:
        return False, "There are no held-out completions, so nothing is known about the reward model."
    if not math.isfinite(area.value):
        alike = "likes" if likes else "dislikes"
        return False, f"All {area.n} held-out completions are {alike}, so nothing is known about the reward model."
    opening = f"The reward model tells likes from dislikes with an AUC of {area} on {area.n} held-out completions"
    if area.low <= 0.5:
        return False, f"{opening}: its interval does not clear one half, so it may be no better than chance."
    return against_baseline(opening, area.low, best_baseline(baselines))


_ALIKE = "the held-out completions do not hold both likes and dislikes"
