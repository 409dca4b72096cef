"""A key-value cache with room for the whole completion from the start.

Transformers' own ``DynamicCache`` copies everything it holds at every token: 44 % of a decoding step of GPT-2 124M
at 16 rows. Its ``StaticCache`` does not, but has attention look at all of its room at every step.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values (B, heads, tokens, head size) as views of a buffer of ``room`` tokens."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.used = room, 0
        self.buffers: list[Tensor] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.buffers = [s.new_empty(*s.shape[:2], self.room, s.shape[-1]) for s in (key_states, value_states)]
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
        self.keys, self.values = (b[:, :, :end] for b in self.buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.used

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows (ascending), in place: each moves up to a row that is already free."""
        for buffer in self.buffers:
            for new, old in enumerate(indices.tolist()):
                if new != old:
                    buffer[new, :, : self.used] = buffer[old, :, : self.used]
        self.buffers = [b[: len(indices)] for b in self.buffers]
        self.keys, self.values = (b[:, :, : self.used] for b in self.buffers)


def roomy_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """A cache for ``room`` tokens. Only layers of plain attention are replaced."""
    cache = DynamicCache(config=config)
    if cache.layers:  # none where the config does not say how many there are
        cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
