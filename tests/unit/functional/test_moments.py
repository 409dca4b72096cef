"""Running moments of scores against those of all scores at once."""

from __future__ import annotations

import pytest
import torch

from pipeline.functional.moments import RunningMoments
from tests.unit.functional.helpers import rows


# Mutations caught: the shift of the mean left out of the squares; the biased deviation; a mean of means.
def test_batches_of_any_size_give_the_moments_of_all() -> None:
    scores = 3 * rows(0, 40).double() + 100
    moments = RunningMoments()
    for batch in scores.split([1, 4, 30, 5]):
        moments.update(batch)
    assert moments.count == 40
    assert moments.mean == pytest.approx(scores.mean().item())
    assert moments.std == pytest.approx(scores.std().item())
    scaled = moments.scale(scores)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-9)
    assert scaled.std().item() == pytest.approx(1)


# Mutation caught: a deviation of 0, by which scores would become infinite.
@pytest.mark.parametrize("scores", [[5.0], [5.0, 5.0, 5.0]])
def test_an_unknown_deviation_scales_nothing(scores: list[float]) -> None:
    moments = RunningMoments()
    moments.update(torch.tensor(scores))
    assert moments.std == 1.0
    assert moments.scale(torch.tensor([5.0, 7.0])).tolist() == [0.0, 2.0]
