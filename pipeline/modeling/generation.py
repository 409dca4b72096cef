"""Sampling completions: a decode loop over Hugging Face's own modules, with a cache that does not grow by copying.

Against ``generate`` it saves the per-step bookkeeping and the copy of the whole cache that every step of a growing
cache makes (44 % of a step at 124M), samples by two-level inverse CDF instead of ``torch.multinomial``, and drops
finished rows from the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.functional.masks import length_mask
from pipeline.modeling.cache import roomy_cache
from pipeline.modeling.roles import language_model


@dataclass(frozen=True)
class Completions:
    """What was sampled.

    Attributes:
        ids: (B, T) completion ids; what stands past ``lengths`` means nothing.
        lengths: (B,) tokens of each completion, its end-of-sequence token included.
        ended: (B,) bool, True where the end-of-sequence token was sampled, False where the length cut it.
        logprobs: (B, T) log-probability of each token as it was drawn, temperature included.
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


KEEP_ROWS = 7 / 8
"""Finished rows are dropped from the batch once at most this share of it is still going."""


@torch.no_grad()
def generate(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int | None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    batch_size: int = 64,
    value_head: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int], object] | None = None,
    static: bool | None = None,
) -> Completions:
    """Sample one completion for each prompt under the model's active role.

    Every row has its own stream of uniforms, so what one row gets does not depend on when another one ends.

    Args:
        prompt_ids: non-empty rows of ids.
        temperature: 0 picks the most likely token.
        generator: of the uniforms.
        noise: (B, max_new_tokens) uniforms to use instead, see :func:`uniforms`.
        value_head: from states (B, H) to values (B,), read at every token.
        progress: called with the number of rows done after each batch.
        static: decode as :mod:`pipeline.modeling.cuda_graph_decoding` does; by default on CUDA, for models that it fits.
    """
    from pipeline.modeling.cuda_graph_decoding import StaticDecoder, fits  # which builds on this module

    if noise is None:
        noise = uniforms(len(prompt_ids), max_new_tokens, generator)
    lm, steps = language_model(model), noise.shape[1]
    if static is None:
        static = lm.get_output_embeddings().weight.device.type == "cuda" and fits(lm)
    settings: dict[str, Any] = {"eos_id": eos_id, "temperature": temperature, "value_head": value_head}
    parts: list[Completions] = []
    with ExitStack() as stack:
        decode = partial(_decode, model, **settings)
        if static:
            rows, room = min(batch_size, len(prompt_ids)), max(map(len, prompt_ids)) + steps
            decode = stack.enter_context(StaticDecoder(lm, rows, room, steps, **settings)).decode
        for start in range(0, len(prompt_ids), batch_size):
            batch = prompt_ids[start : start + batch_size]
            parts.append(decode(batch, noise[start : start + batch_size]))
            if progress is not None:
                progress(len(batch))
    return Completions(**{k: torch.cat([getattr(p, k) for p in parts]) for k in vars(parts[0])})


def uniforms(rows: int, tokens: int, generator: torch.Generator | None = None) -> Tensor:
    """(rows, tokens) float64 in [0, 1): the randomness of that many completions."""
    return torch.rand(rows, tokens, dtype=torch.float64, generator=generator)


def _decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    noise: Tensor,
    eos_id: int | None,
    temperature: float,
    value_head: Callable[[Tensor], Tensor] | None,
) -> Completions:
    lm = language_model(model)
    head = lm.get_output_embeddings()
    device = head.weight.device
    noise = noise.to(device)
    count, steps = noise.shape
    ids, visible = left_pad(prompts, device)
    position = visible.sum(1)
    positions = (visible.cumsum(1) - 1).clamp(min=0)
    out = torch.zeros(count, steps, dtype=torch.long, device=device)
    logprobs = torch.zeros(count, steps, device=device)
    values = torch.zeros(count, steps, device=device)
    lengths = torch.full((count,), steps, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    rows = torch.arange(count, device=device)
    alive = torch.ones(count, dtype=torch.bool, device=device)
    cache = roomy_cache(lm.config, ids.shape[1] + steps)
    padded = not bool(visible.all())
    for t in range(steps):
        states = lm.base_model(
            input_ids=ids,
            attention_mask=attention_mask(lm, visible, ids.shape[1]) if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        token, logprobs[rows, t] = draw(head(states).float(), noise[rows, t], temperature)
        out[rows, t] = token
        if value_head is not None:
            values[rows, t] = value_head(states)
        if eos_id is not None:
            stop = alive & (token == eos_id)
            lengths[rows[stop]] = t + 1
            ended[rows[stop]] = True
            alive = alive & ~stop
            left = int(alive.sum())
            if not left:
                break
            # Moving a row's cache up costs about as much as decoding a few tokens of it.
            if left <= KEEP_ROWS * len(rows):
                keep = alive.nonzero().squeeze(1)
                cache.batch_select_indices(keep)
                rows, token, visible, position, alive = (x[keep] for x in (rows, token, visible, position, alive))
        ids, positions = token[:, None], position[:, None]
        visible = torch.cat([visible, visible.new_ones(len(rows), 1)], 1)
        position = position + 1
    counts = length_mask(lengths, steps)
    return Completions(out.cpu(), lengths.cpu(), ended.cpu(), (logprobs * counts).cpu(), (values * counts).cpu())


def attention_mask(lm: Any, visible: Tensor, queries: int) -> Tensor:
    """(B, 1, Q, K) for the fused attention, made here as the library's own takes longer than a small model's step.

    A column of padding sees itself, as a softmax over nothing would be NaN and NaN spreads.
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


def left_pad(prompts: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    width = max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = True
    return ids.to(device), mask.to(device)
