"""A key-value cache with room for whole completions from the start, in whose rows one follows another.

Transformers' own ``DynamicCache`` copies everything it holds at every token: 44 % of a decoding step of GPT-2 124M
at 16 rows. Its ``StaticCache`` does not, but has attention look at all of its room at every step.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values (B, heads, tokens, head size) as views of a buffer of ``room`` tokens.

    All rows write to one column. What a row holds ends there, so a row that begins later begins further right; the
    columns before ``first`` are those that no row needs any more.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.first, self.used = room, 0, 0
        self.buffers: list[Tensor] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self._allocate(key_states, value_states, len(key_states))

    def _allocate(self, key_states: Tensor, value_states: Tensor, rows: int) -> None:
        # Zeros: what is masked still enters attention with weight 0, and 0 times a NaN is NaN.
        states = key_states, value_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self.buffers = [s.new_zeros(rows, s.shape[1], self.room, s.shape[-1]) for s in states]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the new states; return the old and the new."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.used + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.used : end] = states
        self.used = end
        self.keys, self.values = (b[:, :, self.first : end] for b in self.buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.used - self.first

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows (ascending), in place: each moves up to a row that is already free."""
        for buffer in self.buffers:
            for new, old in enumerate(indices.tolist()):
                if new != old:
                    buffer[new, :, self.first : self.used] = buffer[old, :, self.first : self.used]
        self.buffers = [b[: len(indices)] for b in self.buffers]
        self.keys, self.values = (b[:, :, self.first : self.used] for b in self.buffers)

    def put(self, rows: Tensor, prompts: RoomyLayer, which: Tensor, batch: int, used: int) -> None:
        """Begin ``rows`` of ``batch`` anew with the prompts ``which`` of another layer, padded on the left.

        Args:
            used: the column before which they end.
        """
        if not self.is_initialized:
            keys, values = prompts.buffers
            self._allocate(keys, values, batch)
        self.used = used
        for buffer, states in zip(self.buffers, prompts.buffers, strict=True):
            buffer[rows, :, used - prompts.used : used] = states[which, :, : prompts.used]

    def drop_columns(self, count: int) -> None:
        """Move everything ``count`` columns to the left, over the columns that no row needs."""
        for buffer in self.buffers:
            buffer[:, :, : self.used - count] = buffer[:, :, count : self.used].clone()
        self.first, self.used = self.first - count, self.used - count


def roomy_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """A cache for ``room`` tokens. Only layers of plain attention are replaced."""
    cache = DynamicCache(config=config)
    if cache.layers:  # none where the config does not say how many there are
        cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_roomy(cache: DynamicCache) -> bool:
    """Whether all its layers are of plain attention, so that a completion can begin in a row of another's."""
    return bool(cache.layers) and all(isinstance(layer, RoomyLayer) for layer in cache.layers)
