"""Decoding on a GPU: one token's step over buffers that never move, captured once and replayed as a CUDA graph.

A GPU finishes a small model's step before Python has launched its few hundred kernels; a graph launches all of
them at once, sampling included. The cost: attention reads the whole buffer, finished rows stay in the batch, and
whether every row has ended is checked only every few steps.

A graph holds addresses. ``roles.merged_adapter`` swaps the weights for other tensors, which a graph of earlier
weights would not see, so a decoder lives for one call of ``generate``.

Opt-in (``ppo.cuda_graph_decoding``, ``generate(cuda_graphs=True)``): neither run nor measured on a GPU so far.
On a CPU the same step is tested uncaptured, and the order of warming up, capturing and replaying against stand-ins
for ``torch.cuda``; the tests for a GPU are in ``tests/gpu``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from pipeline.functional.masks import length_mask
from pipeline.modeling.decoding.drawing import Completions, attention_mask, draw, left_pad

LOOK_EVERY = 8
"""Steps between two checks whether all rows have ended: a check waits for the GPU."""

WARM_UP = 3
"""Steps before the capture, in which libraries initialise themselves; their tokens count."""


def fits(lm: PreTrainedModel) -> bool:
    """Whether a graph can decode this model: fused attention, plain caches of keys and values, and no autocast,
    which frees the weights it casts while the graph still holds their addresses.
    """
    layers = DynamicCache(config=lm.config).layers
    plain = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    device = lm.device.type
    return plain and lm.config._attn_implementation == "sdpa" and not torch.is_autocast_enabled(device)


class StaticLayer(DynamicLayer):
    """Buffers (B, heads, room, head size), handed out whole; a token is written where the tensor ``at`` says."""

    def __init__(self, prompt: Any, room: int, at: Tensor) -> None:
        super().__init__()
        self.dtype, self.device, self.at = prompt.dtype, prompt.device, at
        # Zeros: what is masked still enters attention with weight 0, and 0 times a NaN is NaN.
        self.buffers = [s.new_zeros(*s.shape[:2], room, s.shape[-1]) for s in (prompt.keys, prompt.values)]
        self.keys, self.values = self.buffers
        self.is_initialized = True

    def load(self, prompt: Any) -> None:
        """Copy a prompt's states from a layer of a plain cache."""
        for buffer, states in zip(self.buffers, (prompt.keys, prompt.values), strict=True):
            buffer[:, :, : states.shape[2]] = states

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write one token's states."""
        del args, kwargs
        keys, values = self.buffers
        return keys.index_copy_(2, self.at, key_states), values.index_copy_(2, self.at, value_states)

    def get_seq_length(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A tensor, as in the library's own static layer: a number would be frozen into the graph."""
        return self.at


class StaticDecoder:
    """Samples completions of ``rows`` prompts at a time; a context, which frees the graph's memory at its end.

    Args:
        room: most tokens of a prompt and its completion.
        steps: most tokens of a completion.

    Raises:
        ValueError: the model does not :func:`fits`.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        rows: int,
        room: int,
        steps: int,
        eos_id: int | None,
        temperature: float,
        value_head: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not fits(lm):
            raise ValueError("static decoding needs sdpa attention, plain cache layers and no autocast")
        self.lm, self.head, self.value_head = lm, cast("nn.Linear", lm.get_output_embeddings()), value_head
        self.eos_id, self.temperature, self.rows = eos_id, temperature, rows
        self.device = self.head.weight.device
        # Attention on CUDA pads a mask whose rows do not start at multiples of 8, in every layer of every step.
        self.room = -(-room // 8) * 8

        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=self.device)

        self.last, self.positions = zeros(rows, 1), zeros(rows, 1)
        self.visible = zeros(rows, 1, 1, self.room, dtype=torch.bool)
        self.at, self.token = zeros(1), zeros(1)  # slot in the cache, and number of the completion's token
        self.noise = zeros(rows, steps, dtype=torch.float64)
        self.ids, self.lengths, self.ended = zeros(rows, steps), zeros(rows), zeros(rows, dtype=torch.bool)
        self.logprobs = zeros(rows, steps, dtype=torch.float32)
        self.values = zeros(rows, steps, dtype=torch.float32)
        self.capture, self.warm = self.device.type == "cuda", 0
        self.cache: Any = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def __enter__(self) -> StaticDecoder:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.graph is not None:
            self.graph.reset()
            self.graph = None
            torch.cuda.empty_cache()  # a graph's pool of memory serves nothing else

    def decode(self, prompts: Sequence[Sequence[int]], noise: Tensor) -> Completions:
        """One completion for each of up to ``rows`` prompts.

        Args:
            noise: (B, steps) uniforms.
        """
        count, steps = noise.shape
        self.noise[:count] = noise.to(self.device)
        self.ended.zero_()
        self.ended[count:] = True
        self.lengths.zero_()
        self.token.zero_()
        self.prefill([*prompts, *[prompts[-1]] * (self.rows - count)])
        for t in range(1, steps):
            if t % LOOK_EVERY == 0 and bool(self.ended.all()):
                break
            self.advance()
        columns = {f.name: getattr(self, f.name)[:count].to("cpu", copy=True) for f in fields(Completions)}
        mask = length_mask(columns["lengths"], steps)
        return Completions(**columns | {k: columns[k] * mask for k in ("logprobs", "values")})

    def prefill(self, prompts: Sequence[Sequence[int]]) -> None:
        """Write the prompts' keys and values into the buffers, and draw the first token."""
        ids, seen = left_pad(prompts, self.device)
        width = ids.shape[1]
        plain = DynamicCache(config=self.lm.config)
        states = self.lm.base_model(
            input_ids=ids,
            attention_mask=None if bool(seen.all()) else attention_mask(self.lm, seen, width),
            position_ids=(seen.cumsum(1) - 1).clamp(min=0),
            past_key_values=plain,
            use_cache=True,
        ).last_hidden_state[:, -1]
        if self.cache is None:
            self.cache = DynamicCache()
            self.cache.layers = [StaticLayer(layer, self.room, self.at) for layer in plain.layers]
        for layer, prompt in zip(self.cache.layers, plain.layers, strict=True):
            layer.load(prompt)
        self.visible.zero_()
        self.visible[:, 0, 0, :width] = seen
        self.at.fill_(width - 1)
        self.positions.copy_(seen.sum(1, keepdim=True) - 1)
        self.record(states)

    def step(self) -> None:
        """Decode one token of every row. No shape, address or Python number changes from step to step."""
        states = self.lm.base_model(
            input_ids=self.last,
            attention_mask=self.visible,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        self.record(states)

    def record(self, states: Tensor) -> None:
        """Draw a token from states (B, H), store it, and make it the next input."""
        uniform = self.noise.index_select(1, self.token).squeeze(1)
        token, logprob = draw(self.head(states).float(), uniform, self.temperature)
        self.ids.index_copy_(1, self.token, token[:, None])
        self.logprobs.index_copy_(1, self.token, logprob[:, None])
        if self.value_head is not None:
            self.values.index_copy_(1, self.token, self.value_head(states)[:, None].float())
        self.lengths.add_(~self.ended)
        if self.eos_id is not None:
            self.ended.logical_or_(token == self.eos_id)
        self.last.copy_(token[:, None])
        for number in (self.token, self.positions, self.at):
            number.add_(1)
        self.visible.index_fill_(3, self.at, True)

    def advance(self) -> None:
        """Run a :meth:`step`. On a GPU: a few to warm up, then capture one, and replay it from there on."""
        if self.graph is not None:
            self.graph.replay()
        elif not self.capture:
            self.step()
        elif self.warm < WARM_UP:
            self.warm += 1
            stream = _side_stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                if self.warm < WARM_UP:
                    self.step()
                else:
                    self.capture = not _waits(self.step)
            torch.cuda.current_stream(self.device).wait_stream(stream)
        else:
            self.graph = torch.cuda.CUDAGraph()
            # Other threads, such as a collective's watchdog, may go on using the GPU meanwhile.
            with torch.cuda.graph(self.graph, stream=_side_stream(self.device), capture_error_mode="thread_local"):
                self.step()
            self.graph.replay()


def _waits(step: Callable[[], None]) -> bool:
    """Take a step; return whether Python waits for the GPU in it (to route experts), which no graph can hold."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError:
        torch.cuda.set_sync_debug_mode(mode)
        step()  # again from its start: a step changes what it starts from last of all
        return True
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return False


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all decoders: cuBLAS keeps a workspace for every stream it captured on (pytorch#99196)."""
    return torch.cuda.Stream(device)
