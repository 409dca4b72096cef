"""Masks from lengths, and moments of what counts, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.functional.masks import (
    completion_positions,
    explained_variance,
    length_mask,
    masked_mean,
    masked_var,
    take_rows,
)
from tests.unit.functional.helpers import LENGTHS, MASK, rows


def test_mask_counts_a_prefix_of_each_row():
    assert MASK.tolist() == [[True] * 5, [True] + [False] * 4, [True] * 3 + [False] * 2]


def test_positions_predict_the_completion():
    # Mutation caught: `prompt_length + t`, which reads the state of the token itself.
    assert completion_positions(torch.tensor([2, 4]), 3).tolist() == [[1, 2, 3], [3, 4, 5]]


def test_rows_taken_give_their_gradient_back():
    hidden, index = rows(1, 6, 3).requires_grad_(), torch.tensor([4, 0, 5])
    weights = rows(2, 3, 3)
    expected = torch.autograd.grad((hidden[index] * weights).sum(), hidden)[0]
    taken = take_rows(hidden, index)
    assert torch.equal(taken, hidden[index])
    # Mutation caught: the gradient in the order of the index's values.
    assert torch.equal(torch.autograd.grad((taken * weights).sum(), hidden)[0], expected)


def test_masked_moments_ignore_what_does_not_count():
    values = rows(0, 3, 5)
    real = torch.cat([values[i, :n] for i, n in enumerate(LENGTHS.tolist())])
    poisoned = values.masked_fill(~MASK, 1e6)
    # Mutations caught: dropping the mask in either; the biased variance.
    torch.testing.assert_close(masked_mean(poisoned, MASK), real.mean())
    torch.testing.assert_close(masked_var(poisoned, MASK), real.var())
    assert masked_var(values, length_mask(torch.tensor([1, 0, 0]), 5)) == 0


def test_explained_variance():
    returns = rows(8, 3, 5)
    assert explained_variance(returns, returns, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(3, 5), returns, MASK).item() == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-returns, returns, MASK).item() == pytest.approx(-3.0, abs=1e-5)
    assert explained_variance(returns, torch.ones(3, 5), MASK) == 0
    assert math.isfinite(explained_variance(returns, returns, length_mask(torch.tensor([1, 0, 0]), 5)))
