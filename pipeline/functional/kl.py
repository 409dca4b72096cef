"""Estimators of KL(policy || reference) from sampled tokens, and the adaptive coefficient.

Names follow Schulman, "Approximating KL Divergence" (joschu.net/blog/kl-approx.html): with x ~ policy and
log r = ref_logprob - logprob, k1 = -log r (unbiased, may be negative), k3 = (r - 1) - log r (unbiased, never
negative).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k1 estimate, same shape as the inputs, in nats."""
    return logprobs - ref_logprobs


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token k3 estimate, same shape as the inputs, in nats; never negative."""
    log_ratio = ref_logprobs - logprobs
    return log_ratio.expm1() - log_ratio


@dataclass
class AdaptiveKL:
    """Ziegler et al. 2019 (arXiv:1909.08593), section 2.2: move the coefficient towards a target KL.

    Args:
        coef: the KL coefficient now.
        target: wanted KL in nats per completion; None keeps the coefficient fixed.
        horizon: episodes over which an error of 20 % changes the coefficient by 20 %.
    """

    coef: float
    target: float | None
    horizon: int

    def update(self, measured: float, episodes: int) -> None:
        """Take one update's mean KL (nats per completion) over ``episodes`` completions into account."""
        if self.target is None:
            return
        error = min(max(measured / self.target - 1.0, -0.2), 0.2)
        self.coef *= 1.0 + error * episodes / self.horizon
