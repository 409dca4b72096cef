"""Log-probabilities and entropy of sampled tokens from hidden states, over completion positions only.

The (N, V) logits are the largest tensor of PPO, so they are made for ``chunk`` positions at a time wherever no
gradient is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def logits_of(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """fp32 (N, V) logits of states (N, H) under the output embedding (V, H), divided by the temperature."""
    return (hidden @ weight.T).float() / temperature


def selected_logprobs(hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Differentiable log-probability of ``ids`` (N,) and, without gradient, the entropy at each position (N,).

    Args:
        hidden: (N, H) states that predict ``ids``.
        weight: (V, H) output embedding.
    """
    logits = logits_of(hidden, weight, temperature)
    logsumexp = logits.logsumexp(-1)
    logprobs = logits.gather(-1, ids[:, None]).squeeze(-1) - logsumexp
    with torch.no_grad():
        probs = (logits - logsumexp[:, None]).exp()
        entropy = logsumexp - (probs * logits).sum(-1)
    return logprobs, entropy


@torch.no_grad()
def selected_logprobs_chunked(
    hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, chunk: int = 1024
) -> Tensor:
    """As :func:`selected_logprobs` without gradient or entropy, ``chunk`` rows of logits alive at a time."""
    parts = [
        selected_logprobs(hidden[i : i + chunk], weight, ids[i : i + chunk], temperature)[0]
        for i in range(0, len(ids), chunk)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)
