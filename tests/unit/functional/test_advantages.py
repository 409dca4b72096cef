"""Rewards per token, advantages against a plain loop, whitening."""

from __future__ import annotations

import pytest
import torch

from pipeline.functional.advantages import gae, token_rewards, whiten
from tests.unit.functional.helpers import LENGTHS, MASK, rows


def test_score_lands_on_the_last_real_token():
    rewards = token_rewards(torch.tensor([10.0, 20.0, 30.0]), torch.ones(3, 5), 0.5, MASK)
    # Mutation caught: one position later, where TRL 1.12 puts it; a KL penalty on padding.
    assert rewards.tolist() == [
        [-0.5, -0.5, -0.5, -0.5, 9.5],
        [19.5, 0.0, 0.0, 0.0, 0.0],
        [-0.5, -0.5, 29.5, 0.0, 0.0],
    ]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_gae_matches_a_plain_loop(gamma: float, lam: float):
    rewards, values = rows(5, 3, 5) * MASK, rows(6, 3, 5)
    advantages, returns = gae(rewards, values, MASK, gamma, lam)
    for i, n in enumerate(LENGTHS.tolist()):
        v = [*values[i, :n].tolist(), 0.0]
        deltas = [rewards[i, t].item() + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            # The definition, equation 16 of the paper. Mutations caught: bootstrapping past the last token from
            # padding, lam and gamma swapped, an off-by-one in the value.
            expected = sum((gamma * lam) ** k * deltas[t + k] for k in range(n - t))
            assert advantages[i, t].item() == pytest.approx(expected, abs=1e-5)
            assert returns[i, t].item() == pytest.approx(expected + v[t], abs=1e-5)
    assert (advantages[~MASK] == 0).all()
    assert (returns[~MASK] == 0).all()


def test_whitening_uses_real_tokens_only():
    values = rows(7, 3, 5).masked_fill(~MASK, 1e6)
    whitened = whiten(values, MASK)
    real = whitened[MASK]
    assert real.mean().item() == pytest.approx(0, abs=1e-6)
    assert real.var().item() == pytest.approx(1, abs=1e-4)
    assert (whitened[~MASK] == 0).all()
    kept = whiten(values, MASK, shift_mean=False)[MASK]
    assert kept.mean().item() == pytest.approx(values[MASK].mean().item(), abs=1e-5)
