"""Log-probabilities and entropy of sampled tokens from hidden states, over completion positions only.

The (N, V) logits are the largest tensor of PPO, so only ``chunk`` rows of them are alive at a time, also where a
gradient is wanted.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import checkpoint as recompute

CHUNK = 128
"""Rows of logits alive at once: wide enough for the matrix product, small enough to stay near the processor."""
CACHED = 2**17
"""Logits that a core's cache holds beside their exponentials: 1 MB."""


def selected_logprobs(
    hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, entropy_grad: bool = False, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Log-probability of ``ids`` and the entropy at each position, both (N,) fp32.

    The gradient flows into ``hidden`` (into ``weight`` as well where it is trained); that of the entropy only on
    request, as it costs a third matrix product.

    Args:
        hidden: (N, H) states that predict ``ids``.
        weight: (V, H) output embedding.
        ids: (N,).
        temperature: the logits are divided by it.
    """
    if not len(ids):
        return hidden.new_zeros(0, dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
    if not torch.is_grad_enabled() or not (hidden.requires_grad or weight.requires_grad):
        with torch.no_grad():
            room = room_for_chunk(hidden, weight, chunk, keep_logits=False)
            parts = [
                logprobs_of_chunk(h, weight, y, temperature, room)[:2] for h, y in _chunks(hidden, ids, chunk)
            ]
    elif weight.requires_grad:  # full training: both gradients by autograd, the logits made again on the way back
        again = cast("Any", recompute.checkpoint)  # pyright: ignore[reportUnknownMemberType]
        parts = cast(
            "list[tuple[Tensor, Tensor]]",
            [
                again(_differentiable, h, weight, y, temperature, use_reentrant=False)
                for h, y in _chunks(hidden, ids, chunk)
            ],
        )
    else:
        fused = cast("Any", _Selected.apply)  # pyright: ignore[reportUnknownMemberType]
        return fused(hidden, weight, ids, temperature, entropy_grad, chunk)
    logprobs, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
    return logprobs, entropy if entropy_grad else entropy.detach()


def _chunks(hidden: Tensor, ids: Tensor, chunk: int) -> list[tuple[Tensor, Tensor]]:
    return [(hidden[i : i + chunk], ids[i : i + chunk]) for i in range(0, len(ids), chunk)]


def _differentiable(hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logprobs = ((hidden @ weight.T).float() / temperature).log_softmax(-1)
    return logprobs.gather(-1, ids[:, None]).squeeze(-1), -(logprobs.exp() * logprobs).sum(-1)


def logprobs_of_chunk(
    hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, room: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probability and entropy (N,), and what their gradients need.

    Args:
        room: see :func:`room_for_chunk`; allocated for every chunk, it would scatter the memory.
    Returns:
        Also the unnormalised probabilities (N, V), their sums (N, 1) and logits less their maximum (N, V), which
        the probabilities overwrite where the room has one part.
    """
    logits = room[0][: len(ids)]
    weights = logits if room[1] is None else room[1][: len(ids)]
    if weight.dtype == logits.dtype:
        torch.mm(hidden, weight.T, out=logits)
    else:
        logits.copy_(hidden @ weight.T)
    if temperature != 1.0:
        logits /= temperature
    dot = cast("Any", torch.linalg.vecdot)  # pyright: ignore[reportUnknownMemberType] - half the time of einsum
    total, dots = logits.new_empty(len(ids), 1), logits.new_empty(len(ids))
    chosen = logits.gather(-1, ids[:, None])
    # A few rows at a time: five passes over what the processor's cache holds instead of over memory.
    step = torch.get_num_threads() * CACHED // len(weight) if logits.device.type == "cpu" else len(ids)
    for start in range(0, len(ids), max(step, 1)):
        part = slice(start, start + max(step, 1))
        rows, highest = logits[part], logits[part].amax(-1, keepdim=True)
        chosen[part] -= highest
        rows -= highest
        exps = torch.exp(rows)
        total[part], dots[part] = exps.sum(-1, keepdim=True), dot(exps, rows)
        weights[part] = exps
    log_total = total.log().squeeze(-1)
    return chosen.squeeze(-1) - log_total, log_total - dots / total.squeeze(-1), weights, total, logits


def room_for_chunk(
    hidden: Tensor, weight: Tensor, rows: int, keep_logits: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Two of (N or ``rows``, V) fp32 to work in; one where the logits may be overwritten."""
    shape = (min(rows, len(hidden)), len(weight))
    first = hidden.new_empty(shape, dtype=torch.float32)
    return first, torch.empty_like(first) if keep_logits else None


class _Selected(torch.autograd.Function):
    """The gradients are linear in what comes back, so their rows (N, H) are made while the logits are at hand.

    With p the softmax and T the temperature, d logprob / d hidden = (W[y] - p W) / T and
    d entropy / d hidden = -(p (log p + entropy)) W / T: one matrix product each, and no logits are kept.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, entropy_grad: bool, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs = hidden.new_empty(len(ids), dtype=torch.float32)
        entropy = torch.empty_like(logprobs)
        rows = hidden.new_empty(hidden.shape, dtype=torch.float32)
        entropy_rows = torch.empty_like(rows) if entropy_grad else None
        room = room_for_chunk(hidden, weight, chunk, keep_logits=entropy_grad)
        for start in range(0, len(ids), chunk):
            part = slice(start, start + chunk)
            logprobs[part], entropy[part], weights, total, logits = logprobs_of_chunk(
                hidden[part], weight, ids[part], temperature, room
            )
            rows[part] = (
                weight[ids[part]].float() - (weights.to(weight.dtype) @ weight).float() / total
            ) / temperature
            if entropy_rows is not None:
                probs = weights / total
                slope = probs * (logits - total.log() + entropy[part, None])
                entropy_rows[part] = -(slope.to(weight.dtype) @ weight).float() / temperature
        ctx.save_for_backward(rows, entropy_rows)
        ctx.dtype = hidden.dtype
        if not entropy_grad:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, entropy_rows = ctx.saved_tensors
        grad = rows * grads[0][:, None]
        if entropy_rows is not None:
            grad += entropy_rows * grads[1][:, None]
        return grad.to(ctx.dtype), None, None, None, None, None
