"""Metrics of a reward model on held-out pairs: accuracy, baselines, gold agreement, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pipeline.evaluation.reward.calibration import calibration
from pipeline.evaluation.reward.clustered_accuracy import dependent_accuracy
from pipeline.results.reward import (
    Baseline,
    Correlation,
    DependentAccuracy,
    PairGold,
    PairwiseMetrics,
    best_baseline,
)
from pipeline.statistics.bootstrap import Estimate, as_finite, bootstrap_mean, finite, wilson
from pipeline.texts import words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# With fewer training pairs a bag of words has too little evidence.
FEWEST_TRAINING_PAIRS = 20


@dataclass(frozen=True)
class ScoredPairs:
    """Held-out preferences with the reward model's scores.

    Attributes:
        chosen_scores, rejected_scores: (n,) raw scores.
        chosen, rejected: (n,) completions, without their prompt.
        chosen_gold_scores, rejected_gold_scores: (n,) of the task's ground truth, where there is one.
        prompts: (n,) where they are known; pairs of one prompt are not independent.
    """

    chosen_scores: Sequence[float]
    rejected_scores: Sequence[float]
    chosen: Sequence[str]
    rejected: Sequence[str]
    chosen_gold_scores: Sequence[float] | None = None
    rejected_gold_scores: Sequence[float] | None = None
    prompts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if (self.chosen_gold_scores is None) != (self.rejected_gold_scores is None):
            raise ValueError("gold scores of one side only")
        lengths = {name: len(column) for name, column in vars(self).items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different lengths: {lengths}")


def reward_metrics(
    test: ScoredPairs, train: Sequence[tuple[str, str]] = (), seed: int = 0, level: float = 0.95
) -> PairwiseMetrics:
    """The metrics from scores and texts alone; :func:`pair_metrics` adds slices and notes.

    Args:
        test: held-out pairs; none of them may have been trained on.
        train: (chosen, rejected) completions of the training pairs, for the baselines.
    Raises:
        DataError: a score is NaN or infinite.
    """
    margins = as_finite(test.chosen_scores, "scores") - as_finite(test.rejected_scores, "scores")
    accuracy = pair_accuracy(margins, level)
    pairs = list(zip(test.chosen, test.rejected, strict=True))
    baselines = longer_wins(pairs, train, level), bag_of_words(train, pairs, level)
    dependent = None
    if test.prompts is not None:
        dependent = dependent_accuracy(margins, test.prompts, test.chosen, test.rejected, level)
    clears, sentence = verdict(accuracy, baselines, dependent)
    texts = [*test.chosen, *test.rejected]
    return PairwiseMetrics(
        n=len(margins),
        level=level,
        accuracy=accuracy,
        dependent=dependent,
        ties=int((margins == 0).sum()),
        margin=bootstrap_mean(margins, seed, level),
        calibration=calibration(margins),
        baselines=baselines,
        length_correlation=length_correlation([*test.chosen_scores, *test.rejected_scores], texts),
        gold=gold_agreement(test, level),
        words=words.how_split(texts),
        clears_baselines=clears,
        verdict=sentence,
        slices={},
        items=None,
        notes=(),
    )


def pair_accuracy(margins: ArrayLike, level: float = 0.95) -> Estimate:
    """Share of margins (chosen - rejected score) above 0. A tie is not correct: a constant model gets 0."""
    data = as_finite(margins, "margins")
    return wilson(int((data > 0).sum()), len(data), level)


def longer_wins(
    test: Sequence[tuple[str, str]], train: Sequence[tuple[str, str]] = (), level: float = 0.95
) -> Baseline:
    """Prefer the longer completion, in characters - or the shorter one, where the training pairs say so.

    Completions of equal length count half, as a coin would: a baseline gets the benefit of the doubt.

    Args:
        test, train: (chosen, rejected) completions.
    """

    def signs(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        return np.sign([float(len(chosen) - len(rejected)) for chosen, rejected in pairs])

    shorter = signs(train).sum() < 0
    name = "shorter wins" if shorter else "longer wins"
    if not test:
        return Baseline(name, None, "no test pairs")
    return Baseline(name, _coin_wilson(signs(test) * (-1 if shorter else 1), level), None)


def bag_of_words(
    train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]], level: float = 0.95
) -> Baseline:
    """Bradley-Terry over word counts: logistic regression, no intercept, on count(chosen) - count(rejected).

    Lower-cased words and punctuation marks; of scripts without blanks, characters and pairs of them. Pairs it
    cannot tell apart count half.

    Args:
        train, test: (chosen, rejected) completions.
    """
    name = "bag of words"
    if not test or len(train) < FEWEST_TRAINING_PAIRS:
        few = f"{len(train)} training pairs, fewer than {FEWEST_TRAINING_PAIRS}"
        return Baseline(name, None, few if test else "no test pairs")
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = CountVectorizer(analyzer=cast("Any", words.bag_of_words))
    try:
        counter.fit(text for pair in train for text in pair)
    except ValueError:  # scikit-learn's "empty vocabulary"
        return Baseline(name, None, "the training completions hold no words")

    def differences(pairs: Sequence[tuple[str, str]]) -> Any:
        return counter.transform([c for c, _ in pairs]) - counter.transform([r for _, r in pairs])

    rows = differences(train)
    if rows.count_nonzero() == 0:
        return Baseline(name, None, "the two completions of every training pair hold the same words")
    # The classifier wants two classes: every pair enters both ways round, and C is halved for it.
    labels = np.repeat([1, 0], len(train))
    model = LogisticRegression(C=0.5, fit_intercept=False, max_iter=1000).fit(vstack([rows, -rows]), labels)
    return Baseline(name, _coin_wilson(np.sign(model.decision_function(differences(test))), level), None)


def length_correlation(scores: Sequence[float], texts: Sequence[str]) -> Correlation:
    """Pearson's and Spearman's correlation of score and length in characters; None where one is constant."""
    from scipy.stats import pearsonr, spearmanr

    values = as_finite(scores, "scores")
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(lengths) == 0:
        return Correlation(None, None, len(values))
    results: list[Any] = [measure(values, lengths) for measure in (pearsonr, spearmanr)]
    pearson, spearman = (finite(float(result.statistic)) for result in results)
    return Correlation(pearson, spearman, len(values))


def gold_agreement(test: ScoredPairs, level: float = 0.95) -> PairGold | None:
    """Agreement with the truth where the gold scores of a pair differ; None without gold scores."""
    if test.chosen_gold_scores is None or test.rejected_gold_scores is None:
        return None
    margins = as_finite(test.chosen_scores, "scores") - as_finite(test.rejected_scores, "scores")
    gold = as_finite(test.chosen_gold_scores, "gold") - as_finite(test.rejected_gold_scores, "gold")
    differ = gold != 0
    n = int(differ.sum())
    # Signs, as a product of two small margins may underflow to 0. A tied score is not correct here either.
    right = int((np.sign(margins[differ]) == np.sign(gold[differ])).sum())
    wrong_labels = int((gold < 0).sum())
    shares = (wilson(k, n, level) for k in (right, n - wrong_labels, wrong_labels))
    return PairGold(n, len(gold) - n, *shares)


def verdict(
    accuracy: Estimate, baselines: Sequence[Baseline], dependent: DependentAccuracy | None = None
) -> tuple[bool, str]:
    """Whether the lower limit clears one half and the best baseline, and a sentence saying so.

    Args:
        dependent: the interval of pairs that go together, if they do, which then has to clear them too.
    """
    if accuracy.n == 0:
        return False, "There are no held-out pairs, so nothing is known about the reward model."
    best = best_baseline(baselines)
    opening = f"The reward model is right on {accuracy} of {accuracy.n} held-out pairs"
    low, high = accuracy.low, accuracy.high
    if dependent is not None:
        low, high = min(low, dependent.low), max(high, dependent.high)
        opening += f" ({low:.2f} to {high:.2f} as pairs with a {dependent.by} in common go together)"
    if high < 0.5:
        return False, f"{opening}: its interval lies below one half, so it is worse than a coin."
    if low <= 0.5:
        return (
            False,
            f"{opening}. Its interval does not clear one half: as far as these show, it is no better than chance.",
        )
    return against_baseline(opening, low, best)


def against_baseline(opening: str, low: float, best: tuple[float, str] | None) -> tuple[bool, str]:
    """Whether a lower limit above one half also clears the best baseline, and the sentence."""
    if best is None:
        return True, f"{opening}: its interval lies above one half; no baseline could be computed."
    value, name = best
    rival = f"the best baseline ({name}, {value:.2f})"
    if low <= value:
        return False, (
            f"{opening}: its interval does not clear {rival}, so it may have learnt nothing beyond that."
        )
    return True, f"{opening}: its interval lies above {rival}."


def _coin_wilson(signs: NDArray[np.float64], level: float) -> Estimate:
    """Accuracy of decisions in -1, 0, 1 where a 0 is decided by a coin."""
    return wilson(float((signs > 0).sum() + (signs == 0).sum() / 2), len(signs), level)
