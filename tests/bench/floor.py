"""The floor of one update: its matrix products alone, each measured at its own shape over weights as cold as the
model's.

A product of 16 rows waits for memory, one of 1,280 computes, so one rate for both would be no floor of either.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from tests.bench.cases import Size, base


def seconds(size: Size, dtype: torch.dtype) -> tuple[float, float]:
    """(seconds, FLOPs) of the products that our update cannot do without.

    Counted: prefill and decoding with the output embedding, the reference pass with it, the reward pass, and for
    every epoch forward and the gradient of the states (weights are frozen), with the output embedding twice over
    completion tokens. Left out: attention, LoRA, norms, activations, sampling, the optimiser.
    """
    model = base(size, natural=False).to(dtype)
    body: list[Any] = [m.weight for m in model.transformer.modules() if type(m).__name__ == "Conv1D"]
    head = model.lm_head.weight
    rows, whole = size.rows, size.prompt + size.completion
    completion = rows * size.completion
    plan: list[tuple[int, int, str]] = [
        (1, rows * size.prompt, "body"),
        (size.completion - 1, rows, "body"),
        (size.completion, rows, "head"),
        (1, rows * whole, "body"),  # the reference
        (1, completion, "head"),
        (1, rows * whole, "body"),  # the reward model
    ]
    passes = size.epochs * rows // size.micro
    plan += [(passes, size.micro * whole, "body"), (passes, size.micro * whole, "body backward")]
    plan += [
        (passes, size.micro * size.completion, "head"),
        (passes, size.micro * size.completion, "head backward"),
    ]
    total = flops = 0.0
    for times, tokens, kind in plan:
        weights = [head.T] if kind == "head" else [head] if kind == "head backward" else body
        if kind == "body backward":
            weights = [w.T for w in body]
        total += times * _once(weights, tokens)
        flops += times * sum(2.0 * tokens * w.numel() for w in weights)
    return total, flops


@torch.no_grad()
def _once(weights: list[Any], tokens: int) -> float:
    """Least seconds of three runs over all the weights, one after another, so that none is warm."""
    inputs = [torch.randn(tokens, w.shape[0]).to(w.dtype) for w in weights]
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        for x, w in zip(inputs, weights, strict=True):
            torch.mm(x, w)
        best = min(best, time.perf_counter() - started)
    return best
