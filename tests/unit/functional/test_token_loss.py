"""The loss without kept logits, against torch's cross entropy and autograd."""

from __future__ import annotations

import torch

from pipeline.functional.token_loss import IGNORED, summed_nll


def case(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 6, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(13, 6, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, 13, (11,), generator=generator)
    targets[[0, 4, 10]] = IGNORED
    return hidden, weight, targets


def test_the_sum_and_both_gradients_are_those_of_cross_entropy():
    hidden, weight, targets = case()
    logits = hidden @ weight.T
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
    grads = torch.autograd.grad(expected / 7, (hidden, weight))
    # Chunks of 3 rows: 8 count, so the last is shorter.
    nll, entropy, correct = summed_nll(hidden, weight, targets, chunk=3)
    torch.testing.assert_close(nll, expected)
    # Mutations caught: the last chunk's weight gradient alone; the factor 1 / 7 applied to one of the two.
    for own, reference in zip(torch.autograd.grad(nll / 7, (hidden, weight)), grads, strict=True):
        torch.testing.assert_close(own, reference, atol=1e-6, rtol=1e-5)
    counted = logits[targets != IGNORED].detach()
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=counted).entropy().sum())
    assert float(correct) == int((counted.argmax(-1) == targets[targets != IGNORED]).sum())


def test_nothing_that_counts_is_a_loss_of_zero_with_gradients_of_zero():
    hidden, weight, targets = case()
    nll, _, _ = summed_nll(hidden, weight, torch.full_like(targets, IGNORED))
    assert float(nll) == 0
    assert all(bool((g == 0).all()) for g in torch.autograd.grad(nll, (hidden, weight)))


def test_a_frozen_embedding_gets_no_gradient_and_bf16_stays_close():
    hidden, weight, targets = case()
    nll, _, _ = summed_nll(hidden, weight, targets)
    (grad,) = torch.autograd.grad(nll, hidden)
    half = hidden.detach().bfloat16().requires_grad_()
    loss, _, _ = summed_nll(half, weight.detach().bfloat16(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nll, atol=0, rtol=0.02)
    loss.backward()
    assert half.grad is not None
    torch.testing.assert_close(half.grad.float(), grad, atol=0.05, rtol=0.05)
