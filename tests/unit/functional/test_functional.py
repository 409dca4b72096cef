"""Pure PPO mathematics against plain loops, float64 autograd and hand arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.functional.advantages import gae, token_rewards, whiten
from pipeline.functional.kl import AdaptiveKL, kl_k1, kl_k3
from pipeline.functional.logprobs import selected_logprobs
from pipeline.functional.masks import (
    completion_positions,
    explained_variance,
    length_mask,
    masked_mean,
    masked_var,
    take_positions,
)

LENGTHS = torch.tensor([5, 1, 3])
MASK = length_mask(LENGTHS, 5)


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mask_counts_a_prefix_of_each_row():
    assert MASK.tolist() == [[True] * 5, [True] + [False] * 4, [True] * 3 + [False] * 2]


def test_positions_predict_the_completion():
    # Mutation caught: `prompt_length + t`, which reads the state of the token itself.
    assert completion_positions(torch.tensor([2, 4]), 3).tolist() == [[1, 2, 3], [3, 4, 5]]


def test_take_positions_gathers_states():
    hidden = torch.arange(2 * 6 * 1.0).view(2, 6, 1)
    taken = take_positions(hidden, torch.tensor([[1, 2], [5, 9]]))
    assert taken.squeeze(-1).tolist() == [[1.0, 2.0], [11.0, 11.0]]


def test_masked_moments_ignore_what_does_not_count():
    values = rows(0, 3, 5)
    real = torch.cat([values[i, :n] for i, n in enumerate(LENGTHS.tolist())])
    poisoned = values.masked_fill(~MASK, 1e6)
    # Mutations caught: dropping the mask in either; the biased variance.
    torch.testing.assert_close(masked_mean(poisoned, MASK), real.mean())
    torch.testing.assert_close(masked_var(poisoned, MASK), real.var())
    assert masked_var(values, length_mask(torch.tensor([1, 0, 0]), 5)) == 0


def test_logprobs_and_gradient_match_float64_autograd():
    hidden, weight = rows(1, 7, 8), rows(2, 11, 8)
    ids, temperature = torch.arange(7), 0.7
    wide = hidden.double().requires_grad_()
    expected = torch.log_softmax(wide @ weight.double().T / temperature, -1)
    probs = expected.exp()
    own = hidden.clone().requires_grad_()
    logprobs, entropy = selected_logprobs(own, weight, ids, temperature)
    # Mutations caught: temperature left out or multiplied; entropy's sign.
    torch.testing.assert_close(
        logprobs.double(), expected.gather(1, ids[:, None]).squeeze(1), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(entropy.double(), -(probs * expected).sum(-1), atol=1e-5, rtol=1e-5)
    logprobs.sum().backward()
    expected.gather(1, ids[:, None]).sum().backward()
    torch.testing.assert_close(own.grad.double(), wide.grad, atol=1e-5, rtol=1e-5)
    assert not entropy.requires_grad


@pytest.mark.parametrize("trained", ["hidden", "hidden and weight"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_fused_gradients_are_autograds(chunk: int, temperature: float, trained: str):
    """Log-probability and entropy, each with weights of its own, against float64 autograd over whole logits."""
    hidden, weight, ids = rows(1, 7, 8), rows(2, 11, 8), torch.arange(7) + 2
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_(trained != "hidden")]
    exact = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    first, second = rows(5, 7), rows(6, 7)
    logprobs, entropy = selected_logprobs(ours[0], ours[1], ids, temperature, True, chunk)
    (first * logprobs + second * entropy).sum().backward()
    whole = torch.log_softmax(exact[0] @ exact[1].T / temperature, -1)
    picked, spread = whole.gather(1, ids[:, None]).squeeze(1), -(whole.exp() * whole).sum(-1)
    (first.double() * picked + second.double() * spread).sum().backward()
    # Mutations caught: the entropy's gradient without "+ entropy" or with its sign flipped; a gradient not divided
    # by the temperature; a chunk's rows written to another chunk's place.
    torch.testing.assert_close(logprobs.double(), picked, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), spread, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[0].grad.double(), exact[0].grad, atol=1e-5, rtol=1e-5)
    if trained != "hidden":
        torch.testing.assert_close(ours[1].grad.double(), exact[1].grad, atol=1e-5, rtol=1e-5)


def test_no_logits_are_kept_for_the_way_back():
    """Only (N, H) rows may be saved: (N, V) logits are what fills the memory."""
    hidden, weight = rows(1, 40, 8).requires_grad_(), rows(2, 500, 8)
    saved: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.shape), t)[1], lambda t: t):
        selected_logprobs(hidden, weight, torch.arange(40), 1.0)
    assert torch.Size([40, 8]) in saved
    assert all(500 not in shape for shape in saved)


def test_nothing_to_measure_gives_nothing():
    assert [t.shape for t in selected_logprobs(rows(1, 0, 8), rows(2, 11, 8), torch.arange(0), 1.0)] == [
        (0,),
        (0,),
    ]


def test_kl_estimators_agree_with_the_exact_divergence():
    policy, reference = rows(3, 20).log_softmax(-1), rows(4, 20).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    # Mutations caught: either log-ratio's sign; k3 without its linear term. Expectation over all tokens is exact.
    torch.testing.assert_close((policy.exp() * kl_k1(policy, reference)).sum(), exact)
    torch.testing.assert_close((policy.exp() * kl_k3(policy, reference)).sum(), exact)
    assert (kl_k3(policy, reference) >= 0).all()


def test_adaptive_coefficient_moves_towards_the_target():
    above, below, fixed = (AdaptiveKL(0.1, t, 1000) for t in (5.0, 20.0, None))
    for controller in (above, below, fixed):
        controller.update(10.0, 100)
    # By hand: the error is clipped to 0.2, so 0.1 * (1 + 0.2 * 100 / 1000) and 0.1 * (1 - 0.2 * 100 / 1000).
    assert above.coef == pytest.approx(0.102)
    assert below.coef == pytest.approx(0.098)
    assert fixed.coef == 0.1


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


def test_explained_variance():
    returns = rows(8, 3, 5)
    assert explained_variance(returns, returns, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(3, 5), returns, MASK).item() == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-returns, returns, MASK).item() == pytest.approx(-3.0, abs=1e-5)
    assert explained_variance(returns, torch.ones(3, 5), MASK) == 0
    assert math.isfinite(explained_variance(returns, returns, length_mask(torch.tensor([1, 0, 0]), 5)))
