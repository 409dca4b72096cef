"""How good is a reward model on held-out preferences? Leaves out the scoring itself: scores come in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.reward.clustered_accuracy import dependent_accuracy
from pipeline.statistics.bootstrap import Estimate, as_finite, bootstrap_mean, finite, wilson
from pipeline.texts import words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Under this many training pairs a bag of words has more words than evidence and its number says nothing.
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


@dataclass(frozen=True)
class Baseline:
    """A baseline's accuracy, or the reason there is none."""

    name: str
    accuracy: Estimate | None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        accuracy = None if self.accuracy is None else self.accuracy.as_dict()
        return {"name": self.name, "accuracy": accuracy, "reason": self.reason}


def reward_metrics(
    test: ScoredPairs, train: Sequence[tuple[str, str]] = (), seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """Everything the report says about a reward model, as plain JSON.

    Args:
        test: held-out pairs; none of them may have been trained on.
        train: (chosen, rejected) completions of the training pairs, for the baselines.
    Returns:
        n, level, accuracy, dependent (see :func:`dependent_accuracy`), ties, margin, calibration, baselines,
        length_correlation, gold, words (a sentence where texts were split into characters, else None), verdict,
        clears_baselines.
    Raises:
        DataError: a score is NaN or infinite.
    """
    margins = as_finite(test.chosen_scores, "scores") - as_finite(test.rejected_scores, "scores")
    accuracy = pair_accuracy(margins, level)
    pairs = list(zip(test.chosen, test.rejected, strict=True))
    baselines = [longer_wins(pairs, train, level), bag_of_words(train, pairs, level)]
    dependent = None
    if test.prompts is not None:
        dependent = dependent_accuracy(margins, test.prompts, test.chosen, test.rejected, level)
    clears, sentence = verdict(accuracy, baselines, dependent)
    return {
        "n": len(margins),
        "level": level,
        "accuracy": accuracy.as_dict(),
        "dependent": dependent,
        "ties": int((margins == 0).sum()),
        "margin": bootstrap_mean(margins, seed, level).as_dict(),
        "calibration": calibration(margins),
        "baselines": [baseline.as_dict() for baseline in baselines],
        "length_correlation": length_correlation(
            [*test.chosen_scores, *test.rejected_scores], [*test.chosen, *test.rejected]
        ),
        "gold": gold_agreement(test, level),
        "words": words.how_split([*test.chosen, *test.rejected]),
        "clears_baselines": clears,
        "verdict": sentence,
    }


def pair_accuracy(margins: ArrayLike, level: float = 0.95) -> Estimate:
    """Share of margins (chosen - rejected score) above 0. A tie is not correct: a constant model gets 0."""
    data = as_finite(margins, "margins")
    return wilson(int((data > 0).sum()), len(data), level)


def calibration(margins: ArrayLike, bins: int = 10) -> dict[str, Any]:
    """Is a pair of which the model is p sure decided its way with frequency p?

    The model's probability that the chosen completion wins is sigmoid(margin) (Bradley and Terry 1952). It
    cannot know which that is, so confidence is max(p, 1 - p), in .5 .. 1, and observed is whether the one it
    favoured was chosen (a margin of 0 counts half). ECE: Guo et al. 2017, arXiv:1706.04599.

    Args:
        margins: (n,) chosen score minus rejected score.
        bins: of equal width over .5 .. 1; empty ones are left out of the rows.
    Returns:
        ece, brier (None without pairs), rows (low, high, confidence, accuracy with Wilson's interval, count),
        temperature and temperature_reason (see :func:`fit_temperature`), ece_at_temperature.
    """
    data = as_finite(margins, "margins")
    rows = _reliability_rows(data, bins)
    temperature, reason = fit_temperature(data)
    return {
        "ece": _ece(rows),
        "brier": float(np.mean(sigmoid(-data) ** 2)) if len(data) else None,
        "rows": rows,
        "temperature": temperature,
        "temperature_reason": reason,
        "ece_at_temperature": temperature and _ece(_reliability_rows(data / temperature, bins)),
    }


def fit_temperature(margins: ArrayLike) -> tuple[float | None, str | None]:
    """The T that minimises the mean of -log sigmoid(margin / T) on these pairs: a diagnosis, no correction.

    T above 1 means too sure, below 1 too timid (Guo et al. 2017, section 4.2).

    Returns:
        (T, None), or (None, the reason) where no finite T is best.
    """
    from scipy.optimize import minimize_scalar

    data = as_finite(margins, "margins")
    if len(data) == 0 or data.mean() <= 0:
        return None, "the mean margin is not positive, so no temperature helps" if len(data) else "no pairs"
    if (data >= 0).all():
        return None, "no pair is wrong, so ever smaller temperatures fit better"

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -data / math.exp(log_temperature)).mean())

    # The loss is convex in 1/T: one minimum in log T. Scores have no fixed scale, so the search is around the
    # typical margin.
    centre = math.log(float(np.abs(data).mean()))
    found: Any = minimize_scalar(loss, bounds=(centre - 7, centre + 7), method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x), None


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
    return Baseline(name, _coin_wilson(signs(test) * (-1 if shorter else 1), level))


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

    analyzer: Any = words.bag_of_words
    counter = CountVectorizer(analyzer=analyzer)
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
    return Baseline(name, _coin_wilson(np.sign(model.decision_function(differences(test))), level))


def length_correlation(scores: Sequence[float], texts: Sequence[str]) -> dict[str, Any]:
    """Pearson's and Spearman's correlation of score and length in characters; None where one is constant."""
    from scipy.stats import pearsonr, spearmanr

    values = as_finite(scores, "scores")
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    out: dict[str, Any] = {"pearson": None, "spearman": None, "n": len(values)}
    if len(values) >= 3 and np.ptp(values) > 0 and np.ptp(lengths) > 0:
        for name, measure in (("pearson", pearsonr), ("spearman", spearmanr)):
            result: Any = measure(values, lengths)
            out[name] = finite(float(result.statistic))
    return out


def gold_agreement(test: ScoredPairs, level: float = 0.95) -> dict[str, Any] | None:
    """Agreement with the truth where the gold scores of a pair differ: the model's, and the labels' own.

    Returns:
        None without gold scores, else n, gold_ties, accuracy (the model's), labels (the annotators'), and
        label_noise = 1 - labels.
    """
    if test.chosen_gold_scores is None or test.rejected_gold_scores is None:
        return None
    margins = as_finite(test.chosen_scores, "scores") - as_finite(test.rejected_scores, "scores")
    gold = as_finite(test.chosen_gold_scores, "gold") - as_finite(test.rejected_gold_scores, "gold")
    differ = gold != 0
    n = int(differ.sum())
    # Signs, as a product of two small margins may underflow to 0. A tied score is not correct here either.
    right = int((np.sign(margins[differ]) == np.sign(gold[differ])).sum())
    wrong_labels = int((gold < 0).sum())
    return {
        "n": n,
        "gold_ties": len(gold) - n,
        "accuracy": wilson(right, n, level).as_dict(),
        "labels": wilson(n - wrong_labels, n, level).as_dict(),
        "label_noise": wilson(wrong_labels, n, level).as_dict(),
    }


def verdict(
    accuracy: Estimate, baselines: Sequence[Baseline], dependent: dict[str, Any] | None = None
) -> tuple[bool, str]:
    """Whether the lower limit clears one half and the best baseline, and a sentence saying so.

    Args:
        dependent: the interval of pairs that go together, if they do, which then has to clear them too.
    """
    if accuracy.n == 0:
        return False, "There are no held-out pairs, so nothing is known about the reward model."
    known = [(b.accuracy.value, b.name) for b in baselines if b.accuracy is not None]
    best, name = max(known, default=(0.0, ""))
    opening = f"The reward model is right on {accuracy} of {accuracy.n} held-out pairs"
    low, high = accuracy.low, accuracy.high
    if dependent is not None:
        low, high = min(low, dependent["low"]), max(high, dependent["high"])
        what = "prompt" if dependent["by"] == "prompt" else "completion"
        opening += f" ({low:.2f} to {high:.2f} as pairs with a {what} in common go together)"
    if high < 0.5:
        return False, f"{opening}: its interval lies below one half, so it is worse than a coin."
    if low <= 0.5:
        return (
            False,
            f"{opening}. Its interval does not clear one half: as far as these show, it is no better than chance.",
        )
    if low <= best:
        return False, (
            f"{opening}: its interval does not clear the best baseline ({name}, {best:.2f}), "
            "so it may have learnt nothing beyond that."
        )
    rival = f"the best baseline ({name}, {best:.2f})" if known else "one half; no baseline could be computed"
    return True, f"{opening}: its interval lies above {rival}."


def _coin_wilson(signs: NDArray[np.float64], level: float) -> Estimate:
    """Accuracy of decisions in -1, 0, 1 where a 0 is decided by a coin."""
    return wilson(float((signs > 0).sum() + (signs == 0).sum() / 2), len(signs), level)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def _reliability_rows(margins: NDArray[np.float64], bins: int) -> list[dict[str, Any]]:
    confidence = sigmoid(np.abs(margins))
    observed = np.where(margins == 0, 0.5, margins > 0)
    # A confidence of exactly 1 belongs to the last bin.
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    return [
        {
            "low": 0.5 + b / (2 * bins),
            "high": 0.5 + (b + 1) / (2 * bins),
            "confidence": float(confidence[index == b].mean()),
            "accuracy": wilson(float(observed[index == b].sum()), int((index == b).sum())).as_dict(),
            "count": int((index == b).sum()),
        }
        for b in np.unique(index).tolist()
    ]


def _ece(rows: Sequence[dict[str, Any]]) -> float | None:
    n = sum(row["count"] for row in rows)
    gaps = (row["count"] * abs(row["accuracy"]["value"] - row["confidence"]) for row in rows)
    return sum(gaps) / n if n else None
