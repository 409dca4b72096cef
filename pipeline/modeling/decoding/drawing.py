"""Draw tokens, each from one uniform number, so that a completion does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.modeling.types import Device


@dataclass(frozen=True)
class Completions:
    """Sampled completions.

    Attributes:
        ids: (B, T) completion ids; cells past ``lengths`` are undefined.
        lengths: (B,) tokens of each completion, its end-of-sequence token included.
        ended: (B,) bool, True where the end-of-sequence token was sampled, False where the length cut it.
        logprobs: (B, T) log-probability of each token at the sampling temperature.
        values: (B, T) of the states that predict each token; zeros without a value head.
    """

    ids: Tensor
    lengths: Tensor
    ended: Tensor
    logprobs: Tensor
    values: Tensor

    def rows(self) -> list[list[int]]:
        """The completions as lists of ids."""
        return [row[:n] for row, n in zip(self.ids.tolist(), self.lengths.tolist(), strict=True)]


def uniforms(rows: int, tokens: int, generator: torch.Generator | None = None) -> Tensor:
    """(rows, tokens) float64 in [0, 1): the randomness of that many completions."""
    return torch.rand(rows, tokens, dtype=torch.float64, generator=generator)


def attention_mask(lm: PreTrainedModel, visible: Tensor, queries: int) -> Tensor:
    """(B, 1, Q, K) mask for the fused attention; the library's own takes longer than a small model's step.

    A padding token attends to itself: a softmax over nothing would be NaN, which spreads.
    """
    if lm.config._attn_implementation != "sdpa" or getattr(lm.config, "sliding_window", None):
        return visible.long()
    keys = visible.shape[1]
    if queries == 1:
        return visible[:, None, None, :]
    seen = torch.ones(queries, keys, dtype=torch.bool, device=visible.device).tril(keys - queries)
    itself = torch.eye(queries, keys, dtype=torch.bool, device=visible.device)
    return (seen & visible[:, None, :] | itself)[:, None]


def sample(logits: Tensor, uniform: Tensor, temperature: float, block: int = 256) -> Tensor:
    """The token ids of :func:`draw`."""
    return draw(logits, uniform, temperature, block)[0]


def draw(logits: Tensor, uniform: Tensor, temperature: float, block: int = 256) -> tuple[Tensor, Tensor]:
    """One token id per row by inverse CDF in two levels, block and token inside it; and its log-probability.

    Args:
        logits: (B, V) fp32.
        uniform: (B,) float64 in [0, 1).
        temperature: 0 picks the largest, and gives its log-probability at temperature 1.
    """
    if temperature == 0.0:
        best, token = logits.log_softmax(-1).max(-1)
        return token, best
    count, vocab = logits.shape
    blocks = -(-vocab // block)
    shifted = logits - logits.amax(-1, keepdim=True)
    if temperature != 1.0:
        shifted /= temperature
    weights = logits.new_zeros(count, blocks * block)
    torch.exp(shifted, out=weights[:, :vocab])
    weights = weights.view(count, blocks, block)
    edges = weights.sum(-1).double().cumsum(-1)
    target = (uniform * edges[:, -1])[:, None]
    which = torch.searchsorted(edges, target, right=True).clamp_(max=blocks - 1)
    below = torch.where(which > 0, edges.gather(1, (which - 1).clamp(min=0)), torch.zeros_like(target))
    inside = weights[torch.arange(count, device=logits.device), which.squeeze(1)].double()
    token = torch.searchsorted(inside.cumsum(-1), (target - below).clamp(min=0), right=True)
    # Rounding may point past the last token that has any weight; never return one of probability 0.
    last = (inside > 0).long().mul(torch.arange(1, block + 1, device=logits.device)).amax(-1, keepdim=True) - 1
    token = which * block + torch.minimum(token, last)
    logprob = shifted.gather(1, token) - edges[:, -1:].log().float()
    return token.squeeze(1), logprob.squeeze(1)


def left_pad(prompts: Sequence[Sequence[int]], device: Device) -> tuple[Tensor, Tensor]:
    """(B, L) ids padded on the left and (B, L) mask, True on tokens."""
    width = max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = True
    return ids.to(device), mask.to(device)
