"""Ensembles by hand, against scikit-learn, and where disagreement is known to tell errors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.evaluation.reward.ensembles import ensemble_metrics
from pipeline.statistics.bootstrap import wilson


# Catches: votes for the mean of margins, ties as right, agreement in being wrong left out.
def test_by_hand() -> None:
    margins = [[3.0, -1.0, -1.0, 1.0, 0.0, 0.0], [-1.0, -1.0, 2.0, 1.0, 1.0, 0.0]]
    found = ensemble_metrics(margins, ["m1", "m2"])
    # Means: 1, -1, .5, 1, .5, 0: right, wrong, right, right, right, tie.
    assert found.accuracy == wilson(4, 6)
    assert [m.accuracy.value for m in found.members] == [pytest.approx(2 / 6), 0.5]
    assert found.unanimous == wilson(1, 2)
    assert found.split == wilson(3, 4)
    assert found.gain.value == pytest.approx((4 - 2.5) / 6)


# Catches: the variance among pairs for that among members, the sign of either score.
def test_auc_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    margins = 0.4 + rng.normal(0, 1, (4, 400)) * np.where(rng.random(400) < 0.5, 1.5, 0.2)
    found = ensemble_metrics(list(margins), list("abcd"))
    wrong = margins.mean(0) <= 0
    assert found.disagreement.value == pytest.approx(roc_auc_score(wrong, margins.std(0)))
    assert found.doubt.value == pytest.approx(roc_auc_score(wrong, -np.abs(margins.mean(0))))
    assert found.disagreement.low > 0.5
    assert found.gain.low > 0


def test_copies_gain_nothing() -> None:
    margins = np.random.default_rng(1).normal(0.3, 1, 50)
    found = ensemble_metrics([margins] * 3, list("abc"))
    assert found.gain.value == 0
    assert found.disagreement.value == 0.5
    assert found.split.n == 0
