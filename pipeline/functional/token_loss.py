"""The negative log-likelihood of tokens from hidden states, of which only a chunk of logits is alive at a time."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pipeline.functional.logprobs import CHUNK, logprobs_of_chunk, room_for_chunk

IGNORED = -100
"""The target of a position that does not count, as in torch's cross entropy."""


def summed_nll(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = 2 * CHUNK) -> tuple[Tensor, ...]:
    """Summed negative log-likelihood of ``targets``, in nats, and figures of the same logits without a gradient.

    Both gradients are made while the logits are at hand: three matrix products where recomputing takes four.

    Args:
        hidden: (N, H) states that predict ``targets``.
        weight: (V, H) output embedding.
        targets: (N,), :data:`IGNORED` where a position does not count.
        chunk: rows of logits alive at once.
    Returns:
        The sum; the sum of the entropies; how many targets had the highest logit. Scalars, fp32.
    """
    fused = cast("Any", _SummedNLL.apply)  # pyright: ignore[reportUnknownMemberType]
    return fused(hidden, weight, targets, chunk)


class _SummedNLL(torch.autograd.Function):
    """With p the softmax, d nll / d logits = p - onehot(target)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> tuple[Tensor, ...]:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        counted = (targets != IGNORED).nonzero().squeeze(1)
        rows = torch.zeros_like(hidden) if wants_hidden else None
        # In fp32: sums of many chunks in bf16 lose most of them.
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        nll, entropy, correct = (hidden.new_zeros((), dtype=torch.float32) for _ in range(3))
        room = room_for_chunk(hidden, weight, chunk)
        for start in range(0, len(counted), chunk):
            index = counted[start : start + chunk]
            states, ids = hidden[index], targets[index]
            logprobs, entropies, probs, total, logits = logprobs_of_chunk(states, weight, ids, 1.0, room)
            nll -= logprobs.sum()
            entropy += entropies.sum()
            # The logits are less their maximum.
            correct += (logits.gather(1, ids[:, None]) == 0).sum()
            if rows is None and weight_grad is None:
                continue
            probs /= total
            probs[torch.arange(len(ids), device=ids.device), ids] -= 1
            slope = probs.to(weight.dtype)
            if rows is not None:
                rows[index] = slope @ weight
            if weight_grad is not None:
                if slope.dtype == torch.float32:
                    weight_grad.addmm_(slope.T, states)
                else:
                    weight_grad += slope.T @ states
        ctx.rows, ctx.weight_grad, ctx.dtype = rows, weight_grad, weight.dtype
        ctx.mark_non_differentiable(entropy, correct)
        return nll, entropy, correct

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # In place, as the second is as large as the embedding: so a second backward pass has none.
        rows, weight_grad = ctx.rows, ctx.weight_grad
        ctx.rows = ctx.weight_grad = None
        if rows is not None:
            rows.mul_(grads[0])
        if weight_grad is not None:
            weight_grad = weight_grad.mul_(grads[0]).to(ctx.dtype)
        return rows, weight_grad, None, None
