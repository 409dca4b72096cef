"""Calibration against scikit-learn, plain loops and models whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from pipeline.evaluation.reward.calibration import cross_fitted, equal_mass


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def margins_of(n: int, true: float, seed: int = 0) -> np.ndarray:
    """Of a model whose confidences are right once its margins are divided by ``true``."""
    rng = np.random.default_rng(seed)
    sure = np.abs(rng.normal(0, 1.5, n))
    return true * np.where(rng.random(n) < sigmoid(sure), sure, -sure)


# Catches: bins of equal width, an unweighted mean over bins.
def test_equal_mass_ece_equals_a_plain_loop() -> None:
    margins = margins_of(1000, 1.7)
    order = np.argsort(np.abs(margins))
    parts = np.array_split(order, 10)
    gaps = [abs((margins[p] > 0).mean() - sigmoid(np.abs(margins[p])).mean()) * len(p) / 1000 for p in parts]
    found = equal_mass(margins)
    assert found.ece == pytest.approx(sum(gaps))
    assert [row.count for row in found.rows] == [100] * 10
    assert [row.confidence for row in found.rows] == sorted(row.confidence for row in found.rows)


# Catches: any part with another bin's weight, resolution about .5 instead of the mean.
def test_the_brier_score_is_the_sum_of_its_parts() -> None:
    # Four confidences only, so that a bin holds equal ones and nothing is left over within them.
    margins = np.repeat([0.2, -0.2, 1.0, -1.0, 2.0, -2.0, 4.0], [30, 20, 40, 20, 50, 10, 30])
    found = equal_mass(margins)
    first = np.arange(len(margins)) % 2 == 0
    scikit = brier_score_loss(first, sigmoid(np.where(first, margins, -margins)))
    assert found.brier == pytest.approx(scikit)
    assert found.within == pytest.approx(0, abs=1e-12)
    assert found.brier == pytest.approx(found.reliability - found.resolution + found.uncertainty)
    # By hand: right in 150 of 200. Shares by confidence .6, 2/3, 5/6, 1 of 50, 60, 60, 30 pairs.
    shares = [(0.6, 50), (2 / 3, 60), (5 / 6, 60), (1.0, 30)]
    assert found.uncertainty == pytest.approx(0.75 * 0.25)
    assert found.resolution == pytest.approx(sum(n * (s - 0.75) ** 2 for s, n in shares) / 200)


# Catches: the ECE of few pairs taken at its word; the draws made with other bins or outcomes.
@pytest.mark.parametrize("n", [60, 400])
def test_what_a_calibrated_model_shows_by_chance(n: int) -> None:
    found = [equal_mass(margins_of(n, 1.0, seed)) for seed in range(60)]
    mean = np.mean([f.ece for f in found])
    assert mean > 0.02
    assert np.mean([f.expected for f in found]) == pytest.approx(mean, rel=0.1)
    assert 0.87 <= np.mean([f.ece <= f.high for f in found]) <= 1.0
    assert equal_mass(margins_of(400, 5.0)).ece > equal_mass(margins_of(400, 5.0)).high


# Catches: a temperature used on the half it was fitted on; times for divided by.
def test_each_half_is_cooled_by_the_other() -> None:
    # The margins of one half are right, of the other three times too large: each half gets a wrong temperature.
    margins = np.concatenate([margins_of(20_000, 1.0, 1), margins_of(20_000, 3.0, 2)])
    names = ["q2"] * 20_000 + ["q1"] * 20_000
    found = cross_fitted(margins, names)
    assert found.reason is None
    assert found.temperatures == pytest.approx([1.0, 3.0], abs=0.15)
    crossed = np.concatenate([margins[:20_000] / 3, margins[20_000:]])
    first = np.arange(40_000) % 2 == 0
    flipped = sigmoid(np.where(first, crossed, -crossed))
    assert found.after.log_loss == pytest.approx(log_loss(first, flipped), rel=0.01)
    assert found.after.brier == pytest.approx(brier_score_loss(first, flipped), rel=0.01)


def test_a_temperature_mends_one_that_is_too_sure() -> None:
    found = cross_fitted(margins_of(4000, 3.0), [str(i) for i in range(4000)])
    assert found.temperatures == pytest.approx([3.0, 3.0], rel=0.15)
    assert found.after.ece < 0.05 < found.before.ece
    assert found.after.log_loss < found.before.log_loss


# Catches: halves cut by row, which puts a prompt on both sides.
def test_a_prompt_is_in_one_half() -> None:
    assert cross_fitted(margins_of(500, 1.0), ["one prompt"] * 500).reason.startswith("in one half of the pairs")


def test_nothing_to_calibrate() -> None:
    assert equal_mass([]).ece is None
    assert "one half" in cross_fitted([], []).reason
    flat = equal_mass(np.zeros(10))
    assert (flat.ece, flat.brier, len(flat.rows)) == (0.0, 0.25, 1)
