"""Write completions token by token, those of several people together, each under its own role.

Reading the weights is most of the cost of a token, so that a step of many rows costs little more than one of a
single row. Rows join and leave at any step. For the same uniforms the tokens are those of
:func:`pipeline.modeling.decoding.generation.generate`, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from pipeline.modeling.decoding.cache import RoomyLayer, is_roomy, roomy_cache
from pipeline.modeling.decoding.drawing import attention_mask, draw
from pipeline.modeling.roles import Role, language_model
from pipeline.modeling.tokens import decode
from pipeline.modeling.types import CausalLM, Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""How a text ends whose last character is written by more tokens than there are yet."""
NO_ADAPTER = "__base__"
"""PEFT's name for a row without an adapter, among rows with one."""


class Stream:
    """A completion in the making.

    Args:
        noise: (T,) uniforms; T is the most tokens.
    Attributes:
        ids: the tokens so far, the end-of-sequence token included.
        ended: whether the model ended it, rather than the length.
    """

    def __init__(self, role: Role, tokenizer: Tokenizer, prompt_ids: Sequence[int], noise: Tensor) -> None:
        self.role, self.tokenizer, self.prompt_ids, self.noise = role, tokenizer, list(prompt_ids), noise
        self.ids: list[int] = []
        self.ended = False

    @property
    def over(self) -> bool:
        return self.ended or self.left == 0

    @property
    def left(self) -> int:
        """Tokens that it may still get."""
        return len(self.noise) - len(self.ids)

    @property
    def held(self) -> int:
        """Tokens before the newest one, which the next step reads."""
        return len(self.prompt_ids) + len(self.ids) - 1

    def text(self) -> str:
        """The completion so far, without a last character that is not whole yet."""
        text = decode(self.tokenizer, self.ids)
        return text if self.over else text.rstrip(UNFINISHED)


class Batch:
    """Rows of one model that get a token each at every :meth:`step`.

    Attributes:
        rows: the completions in the making.
        joins: whether rows can join others; not where the cache is of more than keys and values.
    """

    def __init__(self, model: CausalLM, temperature: float) -> None:
        self.model, self.temperature = model, temperature
        self.config = language_model(model).config
        self.rows: list[Stream] = []
        self.joins = is_roomy(roomy_cache(self.config, 1))
        self._cache = roomy_cache(self.config, 0)

    @torch.no_grad()
    def add(self, streams: Sequence[Stream]) -> None:
        """Read a prompt once for each of its streams, and draw their first tokens."""
        assert self.joins or not self.rows
        prompt, rows = streams[0].prompt_ids, len(streams)
        cache = roomy_cache(self.config, len(prompt) + streams[0].left)
        ids = torch.tensor([prompt] * rows)
        positions = torch.arange(len(prompt)).expand(rows, -1)
        self._draw(streams, self._logits(streams, ids, None, positions, cache))
        if self.rows:
            held = [max(s.held for s in self.rows), len(prompt)]
            cache = _joined(self._cache, cache, held, max(s.left for s in (*self.rows, *streams)))
        self._cache, self.rows = cache, [*self.rows, *streams]

    @torch.no_grad()
    def step(self) -> None:
        """One token of every row."""
        held = torch.tensor([s.held for s in self.rows])
        width = int(held.max()) + 1
        mask = None
        if int(held.min()) < width - 1:  # rows end at the same column
            visible = torch.arange(width) >= width - 1 - held[:, None]
            mask = attention_mask(language_model(self.model), visible.to(self.model.device), 1)
            self._narrow(width - 1)
        ids = torch.tensor([s.ids[-1:] for s in self.rows])
        self._draw(self.rows, self._logits(self.rows, ids, mask, held[:, None], self._cache))

    def keep(self, wanted: Callable[[Stream], bool]) -> None:
        """Drop the rows that are not wanted any more."""
        index = [i for i, stream in enumerate(self.rows) if wanted(stream)]
        if len(index) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in index]
        if index:
            self._cache.batch_select_indices(torch.tensor(index))
            if self.joins:
                self._narrow(max(s.held for s in self.rows))
        else:
            self._cache = roomy_cache(self.config, 0)

    def _narrow(self, held: int) -> None:
        """Leave the columns out of attention in which no row has a token."""
        for layer in self._cache.layers:
            roomy = cast("RoomyLayer", layer)
            roomy.first = roomy.used - held

    def _logits(
        self, rows: Sequence[Stream], ids: Tensor, mask: Tensor | None, positions: Tensor, cache: DynamicCache
    ) -> Tensor:
        """(B, V) of the last column."""
        device, options = self.model.device, dict[str, Any]()
        if hasattr(self.model, "peft_config"):
            options["adapter_names"] = [s.role.adapter or NO_ADAPTER for s in rows]
        out = cast("Any", self.model)(
            input_ids=ids.to(device),
            attention_mask=mask,
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **options,
        )
        return out.logits[:, -1].float()

    def _draw(self, rows: Sequence[Stream], logits: Tensor) -> None:
        uniform = torch.stack([s.noise[len(s.ids)] for s in rows]).to(logits.device)
        for stream, token in zip(rows, draw(logits, uniform, self.temperature)[0].tolist(), strict=True):
            stream.ids.append(token)
            stream.ended = token == stream.tokenizer.eos_token_id


def _joined(first: DynamicCache, second: DynamicCache, held: Sequence[int], steps: int) -> DynamicCache:
    """The rows of two caches as one, all ending at one column, with room for ``steps`` tokens more.

    Args:
        held: tokens of each cache's longest row.
    """
    both = DynamicCache()
    both.layers = []
    for one, other in zip(first.layers, second.layers, strict=True):
        layer = RoomyLayer(max(held) + steps)
        layer.used = max(held)
        layer.is_initialized = True
        parts = [cast("RoomyLayer", part) for part in (one, other)]
        layer.dtype, layer.device = parts[0].dtype, parts[0].device
        for buffers in zip(*(part.buffers for part in parts), strict=True):
            states = [b[:, :, p.used - n : p.used] for b, p, n in zip(buffers, parts, held, strict=True)]
            padded = [pad(s, (0, 0, layer.used - s.shape[2], steps)) for s in states]
            layer.buffers.append(torch.cat(padded))
        both.layers.append(layer)
    return both
