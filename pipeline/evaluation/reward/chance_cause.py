"""Why a reward model is at chance: a linear probe of its base, what it learnt of its own rows, noise, numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.reward.pairwise_metrics import pair_accuracy
from pipeline.evaluation.reward.pointwise_metrics import auc
from pipeline.results.measured import Measured
from pipeline.results.reward import ChanceCause, PairwiseMetrics
from pipeline.statistics.intervals import Estimate, has_value, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pipeline.results.reward import Cause, RewardMetrics

FEW = 2000
"""Below so many comparisons Gao et al. (2022) found hardly more than chance."""
SHOWS = 0.6
"""Held-out rows on which an accuracy of this would not show are too few."""
BY_HEART = 0.8
"""Accuracy on its own rows from which a model at chance has learnt them by heart."""
PENALTY = 1e-3
"""scikit-learn's C. There are more columns than rows: nearly as strong as taking the difference of means."""


def at_chance(metrics: RewardMetrics) -> bool:
    """Whether the interval on held-out rows does not clear one half."""
    main = metrics.main
    return has_value(main) and main.low <= 0.5


def probe_pairs(train: NDArray[np.float64], test: NDArray[np.float64]) -> Estimate:
    """Accuracy on ``test`` of Bradley-Terry over states, no intercept, fitted to ``train``.

    Args:
        train, test: (n, D) and (m, D) states of the chosen side less those of the rejected one.
    """
    # The classifier wants two classes: every pair enters both ways round.
    rows, labels = np.concatenate([train, -train]), np.repeat([True, False], len(train))
    return pair_accuracy(_logits(rows, labels, test, intercept=False))


def probe_labels(
    train: NDArray[np.float64], liked: ArrayLike, test: NDArray[np.float64], truth: ArrayLike
) -> Estimate:
    """AUC on ``test``, of labels ``truth``, of a logistic regression over states; as :func:`probe_pairs`."""
    return auc(_logits(train, np.asarray(liked, bool), test, intercept=True), truth)


def _logits(
    rows: NDArray[np.float64], labels: NDArray[np.bool_], test: NDArray[np.float64], intercept: bool
) -> NDArray[np.float64]:
    """(m,) logits of a penalised logistic regression on columns of unit variance; 0 where all labels are alike."""
    from sklearn.linear_model import LogisticRegression

    if len(set(labels.tolist())) < 2:
        return np.zeros(len(test))
    unit = rows.std(0) + 1e-12
    fitted = LogisticRegression(C=PENALTY, fit_intercept=intercept, max_iter=300).fit(rows / unit, labels)
    return fitted.decision_function(test / unit)


def explain(
    metrics: RewardMetrics, learnt: Estimate, probe: Estimate, rows: int, labels: Estimate | None = None
) -> ChanceCause:
    """The likeliest cause, and what to do.

    Args:
        metrics: on held-out rows, :func:`at_chance`.
        learnt, probe: as of :class:`ChanceCause`.
        rows: that it was trained on.
        labels: agreement of the held-out labels with the gold score, where the task has one.
    """
    n = metrics.main.n
    what, right = ("pairs", "is right on") if isinstance(metrics, PairwiseMetrics) else ("rows", "has an AUC of")
    rules = [("a linear probe of the base's states", probe)]
    rules += [(f'"{b.name}"', b.estimate) for b in metrics.baselines if has_value(b.estimate)]
    name, best = max(rules, key=lambda rule: rule[1].low)
    own = f"On {what} that it was trained on the reward model {right} {learnt}"
    beside = f"{own}; on the held-out ones a linear probe of the base's states {right} {probe}."
    cause: Cause
    if best.low > 0.5:
        cause = "training"
        why = f"On the held-out {what} {name}, learnt from the same {what}, {right} {best}. {own}: {_mend(learnt)}"
    elif learnt.low <= 0.5:
        cause, why = "training", f"{beside} {_mend(learnt).capitalize()}"
    elif labels is not None and labels.value < 1 - (Measured.LABEL_NOISE.about.high or 0.3):
        cause = "labels"
        why = f"They agree with the gold score on {labels}. {beside} Better labels help more than further ones."
    elif (least := least_that_shows(n)) > SHOWS and metrics.main.value > 0.5:
        cause = "number of held-out rows"
        why = f"Of {n} nothing below {least:.2f} clears one half. {beside} Raise collect.test_share."
    elif rows < FEW:
        cause = "number of labels"
        why = (
            f"It learnt from {rows:,} {what}. {beside} Collect more (2,000 are a beginning), and decide twenty by "
            "hand, to see whether the texts show what the labels say."
        )
    else:
        cause = "labels"
        why = f"{beside} Decide twenty by hand: the texts may not show what the labels say, or not to this base."
    return ChanceCause(learnt, probe, cause, f"The likeliest cause is the {cause}. {why}")


def least_that_shows(n: int) -> float:
    """The smallest accuracy on ``n`` rows whose interval lies above one half; 1 where none does."""
    return next((k / n for k in range(n // 2, n + 1) if wilson(k, n).low > 0.5), 1.0)


def _mend(learnt: Estimate) -> str:
    if learnt.low <= 0.5:
        return "it has not learnt even its own: raise reward.learning_rate or reward.num_train_epochs."
    if learnt.value >= BY_HEART:
        return "it learnt them by heart: lower reward.num_train_epochs or reward.learning_rate."
    return "try another reward.learning_rate, and more steps."
