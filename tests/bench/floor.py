"""The floor of one update: its matrix products alone, each measured at its own shape, over weights as cold as the
model's.

A product of 16 rows waits for memory, one of 1,280 computes, so one rate for both would be no floor of either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from tests.bench.models import Size, base, lora

Product = tuple[torch.Tensor, torch.Tensor]


def seconds(size: Size, dtype: torch.dtype) -> tuple[float, float]:
    """(seconds, FLOPs) of the products that our update cannot do without.

    Counted: decoding with the output embedding, the reference and the reward pass, and for every epoch forward and
    backward (weights are frozen, so only states and LoRA get gradients), with the output embedding twice over
    completion tokens; attention's and LoRA's products with them. Left out: norms, activations, softmax, sampling,
    the optimiser, and every copy.
    """
    model = base(size, natural=False).to(dtype)
    config = model.config
    body = [m.weight for m in model.transformer.modules() if type(m).__name__ == "Conv1D"]
    adapted = [m.attn.c_attn.weight for m in model.transformer.h]
    head, rank = model.lm_head.weight, lora(model).r
    heads, each = config.n_head, config.n_embd // config.n_head

    def dense(weights: list[Any], tokens: int) -> list[Product]:
        return [(torch.randn(tokens, w.shape[0]).to(dtype), w) for w in weights]

    def attention(rows: int, queries: int, keys: int) -> list[Product]:
        q, k, v, p = ((rows * heads, *s) for s in ((queries, each), (each, keys), (keys, each), (queries, keys)))
        query, key, value, probs = (torch.randn(s).to(dtype) for s in (q, k, v, p))
        return [(query, key), (probs, value)] * config.n_layer

    def low_rank(tokens: int, backward: bool) -> list[Product]:
        found: list[Product] = []
        for w in adapted:
            wide, narrow = w.shape[1], w.shape[0]
            shapes = ((tokens, narrow), (narrow, rank), (tokens, rank), (rank, wide), (tokens, wide))
            x, a, small, b, y = (torch.randn(s).to(dtype) for s in shapes)
            found += [(y, b.T), (small.T, y), (small, a.T), (x.T, small)] if backward else [(x, a), (small, b)]
        return found

    rows, whole = size.rows, size.prompt + size.completion
    middle, done = size.prompt + size.completion // 2, rows * size.completion
    turned = [w.T for w in body]
    passes, micro, part = size.epochs * rows // size.micro, size.micro * whole, size.micro * size.completion
    plan: list[tuple[int, Callable[[], list[Product]]]] = [
        (1, lambda: dense(body, rows * size.prompt) + attention(rows, size.prompt, size.prompt)),
        (size.completion - 1, lambda: dense(body, rows) + attention(rows, 1, middle)),
        (size.completion, lambda: dense([head.T], rows)),
        (1, lambda: dense(body, rows * whole) + attention(rows, whole, whole) + dense([head.T], done)),
        (1, lambda: dense(body, rows * whole) + attention(rows, whole, whole) + low_rank(rows * whole, False)),
        (passes, lambda: dense(body, micro) + attention(size.micro, whole, whole) + low_rank(micro, False)),
        (passes, lambda: dense(turned, micro) + 2 * attention(size.micro, whole, whole) + low_rank(micro, True)),
        (passes, lambda: dense([head.T], part) + dense([head], part)),
    ]
    total = flops = 0.0
    for times, products in plan:
        made = products()
        total += times * _once(made)
        flops += times * sum(2.0 * x.numel() * w.shape[-1] for x, w in made)
    return total, flops


@torch.no_grad()
def _once(products: list[Product]) -> float:
    """Least seconds of four runs over all the products, one after another, so that no weight is warm."""
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        for x, w in products:
            torch.matmul(x, w)
        best = min(best, time.perf_counter() - started)
    return best
