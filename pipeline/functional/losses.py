"""PPO's clipped losses (Schulman et al. 2017, arXiv:1707.06347), per token; the caller sums and normalises.

Returned unreduced on purpose: a loss is divided by the tokens of the whole optimiser step, so that one batch of
eight and eight batches of one give the same gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.functional.masks import masked_var


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, cliprange: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Per-token clipped surrogate, the ratio, and where the clip was active (all of the inputs' shape)."""
    ratio = torch.exp(logprobs - old_logprobs)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - cliprange, 1.0 + cliprange)
    return torch.maximum(plain, clipped), ratio, clipped > plain


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, cliprange_value: float
) -> tuple[Tensor, Tensor]:
    """Per-token clipped squared error (with its factor one half) and where the clip was active."""
    bounded = old_values + (values - old_values).clamp(-cliprange_value, cliprange_value)
    plain, clipped = (values - returns) ** 2, (bounded - returns) ** 2
    return 0.5 * torch.maximum(plain, clipped), clipped > plain


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the positions that count; 0 when returns do not vary."""
    spread = masked_var(returns, mask)
    if spread < 1e-12:
        return torch.zeros(())
    return 1.0 - masked_var(returns - values, mask) / spread
