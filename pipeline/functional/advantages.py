"""Rewards per token and generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.functional.masks import masked_mean, masked_var


def token_rewards(score: Tensor, kl: Tensor, kl_coef: float, completion_mask: Tensor) -> Tensor:
    """(B, T) reward: minus the KL penalty on every real token, plus the score on the last real one.

    TRL 1.12 puts the score one position later, on padding (huggingface/trl#1893).

    Args:
        score: (B,) one per completion.
        kl: (B, T) per-token estimate, any values where the mask is False.
        completion_mask: (B, T), True on a prefix of every row, at least one token each.
    """
    rewards = -kl_coef * kl * completion_mask
    last = completion_mask.sum(1) - 1
    rows = torch.arange(len(score), device=score.device)
    rewards[rows, last] = rewards[rows, last] + score
    return rewards


def gae(
    rewards: Tensor, values: Tensor, completion_mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both (B, T) and 0 where the mask is False.

    The last real token is terminal: what follows it has value 0, also in a completion cut by length.

    Args:
        rewards: (B, T), KL penalty included.
        values: (B, T), the value of the state that predicts token t.
    """
    values = values * completion_mask
    advantages = torch.zeros_like(rewards)
    carried = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] if t + 1 < rewards.shape[1] else torch.zeros_like(carried)
        delta = rewards[:, t] + gamma * following - values[:, t]
        carried = (delta + gamma * lam * carried) * completion_mask[:, t]
        advantages[:, t] = carried
    return advantages, (advantages + values) * completion_mask


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale to unit variance over the positions that count, and to mean 0 if ``shift_mean``; 0 elsewhere."""
    mean = masked_mean(values, mask)
    whitened = (values - mean) * torch.rsqrt(masked_var(values, mask) + 1e-8)
    return (whitened if shift_mean else whitened + mean) * mask
