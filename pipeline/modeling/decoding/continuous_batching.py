"""The decode loop: a batch of rows, in each of which one completion follows another while prompts wait.

A row that ends costs as much as one that does not, so the next completion begins in it at once. Prompts are read
together, each once however many completions it gets, and wait with their keys and values for a row to be free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from pipeline.modeling.decoding.cache import RoomyLayer, is_roomy, roomy_cache
from pipeline.modeling.decoding.drawing import Completions, attention_mask, draw, left_pad

KEEP_ROWS = 7 / 8
"""Where no prompt waits, finished rows are dropped once at most this share of the batch is unfinished."""

PREFILL_TOKENS = 4096
"""Tokens of prompts that are read at a time: enough for the matrix products, and few enough for the memory."""

FREE = -1
"""The completion of a row that has none."""


@dataclass(frozen=True)
class _Read:
    """Prompts that were read together: their keys and values, and (B, L) True on tokens, padded on the left."""

    cache: DynamicCache
    visible: Tensor


class Decoder:
    """Samples a completion of each prompt.

    A model whose cache is not of keys and values alone (sliding windows, recurrent states) gets a new batch only
    when the last one has ended.

    Args:
        noise: (B, T) uniforms.
        batch: rows at a time.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        noise: Tensor,
        batch: int,
        progress: Callable[[int], object],
        eos_id: int | None,
        temperature: float,
        value_head: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.lm, self.head = lm, cast("nn.Linear", lm.get_output_embeddings())
        self.prompts, self.batch, self.progress = prompts, batch, progress
        self.eos_id, self.temperature, self.value_head = eos_id, temperature, value_head
        self.device, (count, self.steps) = self.head.weight.device, noise.shape

        def results(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(count + 1, *shape, dtype=dtype, device=self.device)  # the last is that of FREE

        self.noise = results(noise.dtype, self.steps)
        self.noise[:count] = noise
        self.ids, self.lengths, self.ended = (
            results(torch.long, self.steps),
            results(torch.long),
            results(torch.bool),
        )
        self.logprobs, self.values = results(torch.float32, self.steps), results(torch.float32, self.steps)
        # Long prompts first, so that each finds room to the left of the column written to; equal ones together.
        self.waiting = deque(sorted(range(count), key=lambda i: (-len(prompts[i]), list(prompts[i]))))
        self.begun: deque[tuple[int, int]] = deque()  # completions of one token, with the places of their prompts
        self.read: _Read | None = None

        self.first, self.used = 0, max(map(len, prompts))
        self.room = self.used + self.steps
        self.cache = roomy_cache(lm.config, self.room)
        self.refills = is_roomy(self.cache)
        if self.refills and count > batch:
            self.room += max(self.steps // 2, 16)  # so that columns are moved about twice in a completion's length
            self.cache = roomy_cache(lm.config, self.room)
        self._new_batch(batch)

    def _new_batch(self, rows: int) -> None:
        self.rows, self.held = [FREE] * rows, [0] * rows  # completions, and tokens in the cache
        self.row = torch.full((rows,), FREE, device=self.device)
        self.token, self.drawn, self.position = (torch.zeros_like(self.row) for _ in range(3))
        self.visible = torch.zeros(rows, self.room, dtype=torch.bool, device=self.device)

    def run(self) -> Completions:
        """All completions, in the order of the prompts."""
        while True:
            self._fill()
            if all(row == FREE for row in self.rows):
                break
            self._step()
        ids, lengths, ended, logprobs, values = (
            x[:-1].cpu() for x in (self.ids, self.lengths, self.ended, self.logprobs, self.values)
        )
        return Completions(ids, lengths, ended, logprobs, values)

    def _fill(self) -> None:
        """Begin completions in the rows that are free; drop such rows where no prompt waits."""
        while (free := self._free()) and (self.begun or self.waiting):
            if not self.refills and len(free) < len(self.rows):
                break
            if not self.begun:
                self._read_prompts()
            count = min(len(free), len(self.begun)) if self.refills else len(self.begun)
            if count:
                self._begin(free[:count], [self.begun.popleft() for _ in range(count)])
        live = len(self.rows) - len(free)
        # Moving a row's cache up costs about as much as decoding a few tokens of it.
        if free and 0 < live <= KEEP_ROWS * len(self.rows):
            self._keep([i for i, row in enumerate(self.rows) if row != FREE])

    def _free(self) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row == FREE]

    def _read_prompts(self) -> None:
        """Read the next prompts, and draw the first token of each of their completions."""
        completions, places = self._next_prompts()
        prompts: dict[int, Sequence[int]] = {p: self.prompts[c] for c, p in zip(completions, places, strict=True)}
        ids, visible = left_pad([*prompts.values()], self.device)
        width = ids.shape[1]
        cache = roomy_cache(self.lm.config, width if self.refills else self.room)
        positions = (visible.cumsum(1) - 1).clamp(min=0)
        mask = None if bool(visible.all()) else attention_mask(self.lm, visible, width)
        states = self._states(ids, mask, positions, cache)
        self.read = _Read(cache, visible)
        row = torch.tensor(completions, device=self.device)
        ended = self._draw(states[torch.tensor(places, device=self.device)], row, torch.zeros_like(row))
        self.begun.extend((c, p) for c, p, end in zip(completions, places, ended, strict=True) if not end)
        self.progress(sum(ended))

    def _next_prompts(self) -> tuple[list[int], list[int]]:
        """The completions to begin next, and the place of each one's prompt among those to read."""
        completions: list[int] = []
        places: list[int] = []
        distinct: dict[object, int] = {}
        width = len(self.prompts[self.waiting[0]])
        while self.waiting and len(completions) < self.batch:
            # Without refills, a row's prompt is read into the cache in which it is decoded.
            prompt = tuple(self.prompts[self.waiting[0]]) if self.refills else self.waiting[0]
            if (
                self.refills
                and distinct
                and prompt not in distinct
                and (len(distinct) + 1) * width > PREFILL_TOKENS
            ):
                break
            completions.append(self.waiting.popleft())
            places.append(distinct.setdefault(prompt, len(distinct)))
        return completions, places

    def _begin(self, rows: list[int], begun: list[tuple[int, int]]) -> None:
        """Continue completions, of which one token is drawn, in these rows of the batch."""
        assert self.read is not None
        completions, where = (list(column) for column in zip(*begun, strict=True))
        prompts, width = self.read.visible.shape
        if not self.refills:
            self._new_batch(prompts)
            rows, self.cache, self.used = where, self.read.cache, width
        completion, places, index = (torch.tensor(x, device=self.device) for x in (completions, where, rows))
        if self.refills:
            for layer, states in zip(self.cache.layers, self.read.cache.layers, strict=True):
                cast("RoomyLayer", layer).put(index, cast("RoomyLayer", states), places, len(self.rows), self.used)
        visible = self.read.visible[places]
        self.visible[index] = False
        self.visible[index, self.used - width : self.used] = visible
        self.row[index], self.token[index], self.drawn[index] = completion, self.ids[completion, 0], 1
        self.position[index] = visible.sum(1)
        for i, c in zip(rows, completions, strict=True):
            self.rows[i], self.held[i] = c, len(self.prompts[c])

    def _step(self) -> None:
        """Decode one token of every row."""
        held = [n for n, row in zip(self.held, self.rows, strict=True) if row != FREE]
        if self.refills:
            self._drop_columns(max(held))
        self.visible[:, self.used] = True
        visible = self.visible[:, self.first : self.used + 1]
        mask = attention_mask(self.lm, visible, 1) if min(held) < visible.shape[1] - 1 else None
        states = self._states(self.token[:, None], mask, self.position[:, None], self.cache)
        ended = self._draw(states, self.row, self.drawn)
        self.token = self.ids[self.row, self.drawn]
        self.drawn = (self.drawn + 1).clamp(max=self.steps - 1)
        self.position += 1
        self.used += 1
        self.held = [n + 1 for n in self.held]
        self.progress(sum(end and row != FREE for row, end in zip(self.rows, ended, strict=True)))
        if any(ended):
            self.rows = [FREE if end else row for row, end in zip(self.rows, ended, strict=True)]
            self.row = torch.tensor(self.rows, device=self.device)

    def _drop_columns(self, held: int) -> None:
        """Leave the columns out of attention in which no row has a token; reuse them where there is no other."""
        self.first = self.used - held
        if self.used == self.room:
            # The next prompts end at the column written to as well.
            count = self.used - max(held, self.read.visible.shape[1] if self.read else 0)
            for layer in self.cache.layers:
                cast("RoomyLayer", layer).drop_columns(count)
            self.visible[:, : self.used - count] = self.visible[:, count : self.used].clone()
            self.first, self.used = self.first - count, self.used - count
        for layer in self.cache.layers:
            cast("RoomyLayer", layer).first = self.first

    def _keep(self, rows: list[int]) -> None:
        """Drop all other rows of the batch."""
        index = torch.tensor(rows, device=self.device)
        self.cache.batch_select_indices(index)
        self.rows, self.held = [self.rows[i] for i in rows], [self.held[i] for i in rows]
        self.row, self.token, self.drawn = self.row[index], self.token[index], self.drawn[index]
        self.position, self.visible = self.position[index], self.visible[index]

    def _states(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: DynamicCache) -> Tensor:
        """(B, H) states of the last column."""
        out = self.lm.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return out.last_hidden_state[:, -1]

    def _draw(self, states: Tensor, completion: Tensor, drawn: Tensor) -> list[bool]:
        """Draw the next token of each completion; return whether it was the last."""
        logits = self.head(states).float()
        token, self.logprobs[completion, drawn] = draw(logits, self.noise[completion, drawn], self.temperature)
        self.ids[completion, drawn] = token
        if self.value_head is not None:
            self.values[completion, drawn] = self.value_head(states)
        stop = token == self.eos_id if self.eos_id is not None else torch.zeros_like(token, dtype=torch.bool)
        self.lengths[completion], self.ended[completion] = drawn + 1, stop
        return (stop | (drawn + 1 == self.steps)).tolist()
