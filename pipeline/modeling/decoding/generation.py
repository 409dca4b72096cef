"""Sample completions: a decode loop over Hugging Face's own modules, with a cache that is allocated once.

Against ``generate`` it saves the per-step bookkeeping and the copy of the whole cache that every step of a growing
cache makes (44 % of a step at 124M), samples by two-level inverse CDF instead of ``torch.multinomial``, reads a
prompt once however many completions it gets, and begins the next completion where one has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.modeling.decoding.continuous_batching import Decoder
from pipeline.modeling.decoding.cuda_graph_decoding import StaticDecoder
from pipeline.modeling.decoding.drawing import Completions, uniforms
from pipeline.modeling.roles import language_model
from pipeline.modeling.types import CausalLM


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

    Every row has its own uniforms, so no row depends on its batch, nor on when another ends, but for rounding.

    Args:
        prompt_ids: non-empty rows of ids.
        temperature: 0 picks the most likely token.
        generator: of the uniforms.
        noise: (B, max_new_tokens) uniforms to use instead, see :func:`uniforms`.
        batch_size: completions decoded at a time.
        value_head: from states (B, H) to values (B,), read at every token.
        progress: called with the number of further rows that are done.
        cuda_graphs: decode by :mod:`pipeline.modeling.decoding.cuda_graph_decoding`; the model has to fit it.
    """
    if noise is None:
        noise = uniforms(len(prompt_ids), max_new_tokens, generator)
    lm, steps = language_model(model), noise.shape[1]
    rows = min(batch_size, len(prompt_ids))
    settings: dict[str, Any] = {"eos_id": eos_id, "temperature": temperature, "value_head": value_head}
    progress = progress or (lambda _: None)
    if not cuda_graphs:
        return Decoder(lm, prompt_ids, noise, rows, progress, **settings).run()
    parts: list[Completions] = []
    with StaticDecoder(lm, rows, max(map(len, prompt_ids)) + steps, steps, **settings) as decoder:
        for start in range(0, len(prompt_ids), batch_size):
            batch = prompt_ids[start : start + batch_size]
            parts.append(decoder.decode(batch, noise[start : start + batch_size]))
            progress(len(batch))
    return Completions(**{k: torch.cat([getattr(p, k) for p in parts]) for k in vars(parts[0])})
