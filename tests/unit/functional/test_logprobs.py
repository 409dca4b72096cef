"""Log-probabilities, entropies and their gradients against float64 autograd."""

from __future__ import annotations

import pytest
import torch

from pipeline.functional.logprobs import selected_logprobs
from tests.unit.functional.helpers import rows


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
