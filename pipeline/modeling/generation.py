"""Sample completions: a decode loop over Hugging Face's own modules, with a cache that is allocated once.

Against ``generate`` it saves the per-step bookkeeping and the copy of the whole cache that every step of a growing
cache makes (44 % of a step at 124M), samples by two-level inverse CDF instead of ``torch.multinomial``, and drops
finished rows from the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipeline.functional.masks import length_mask
from pipeline.modeling.cache import roomy_cache
from pipeline.modeling.cuda_graph_decoding import StaticDecoder
from pipeline.modeling.drawing import Completions, attention_mask, draw, left_pad, uniforms
from pipeline.modeling.roles import language_model
from pipeline.modeling.types import CausalLM

KEEP_ROWS = 7 / 8
"""Finished rows are dropped from the batch once at most this share of its rows is unfinished."""


@torch.no_grad()
def generate(
    model: CausalLM,
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
    cuda_graphs: bool = False,
) -> Completions:
    """Sample one completion for each prompt under the model's active role.

    Every row has its own uniforms, so no row depends on when another ends.

    Args:
        prompt_ids: non-empty rows of ids.
        temperature: 0 picks the most likely token.
        generator: of the uniforms.
        noise: (B, max_new_tokens) uniforms to use instead, see :func:`uniforms`.
        value_head: from states (B, H) to values (B,), read at every token.
        progress: called with the number of rows done after each batch.
        cuda_graphs: decode by :mod:`pipeline.modeling.cuda_graph_decoding`; the model has to fit it.
    """
    if noise is None:
        noise = uniforms(len(prompt_ids), max_new_tokens, generator)
    lm, steps = language_model(model), noise.shape[1]
    settings: dict[str, Any] = {"eos_id": eos_id, "temperature": temperature, "value_head": value_head}
    parts: list[Completions] = []
    with ExitStack() as stack:
        decode = partial(_decode, model, **settings)
        if cuda_graphs:
            rows, room = min(batch_size, len(prompt_ids)), max(map(len, prompt_ids)) + steps
            decode = stack.enter_context(StaticDecoder(lm, rows, room, steps, **settings)).decode
        for start in range(0, len(prompt_ids), batch_size):
            batch = prompt_ids[start : start + batch_size]
            parts.append(decode(batch, noise[start : start + batch_size]))
            if progress is not None:
                progress(len(batch))
    return Completions(**{k: torch.cat([getattr(p, k) for p in parts]) for k in vars(parts[0])})


def _decode(
    model: CausalLM,
    prompts: Sequence[Sequence[int]],
    noise: Tensor,
    eos_id: int | None,
    temperature: float,
    value_head: Callable[[Tensor], Tensor] | None,
) -> Completions:
    lm = language_model(model)
    head = cast("nn.Linear", lm.get_output_embeddings())
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
            unfinished = int(alive.sum())
            if not unfinished:
                break
            # Moving a row's cache up costs about as much as decoding a few tokens of it.
            if unfinished <= KEEP_ROWS * len(rows):
                keep = alive.nonzero().squeeze(1)
                cache.batch_select_indices(keep)
                rows, token, visible, position, alive = (x[keep] for x in (rows, token, visible, position, alive))
        ids, positions = token[:, None], position[:, None]
        visible = torch.cat([visible, visible.new_ones(len(rows), 1)], 1)
        position = position + 1
    counts = length_mask(lengths, steps)
    return Completions(out.cpu(), lengths.cpu(), ended.cpu(), (logprobs * counts).cpu(), (values * counts).cpu())
