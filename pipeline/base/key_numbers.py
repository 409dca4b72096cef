"""Numbers of keys, sets and columns for millions of rows, in a fraction of the memory of a dict and a list."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from pipeline.base.records import short_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEWEST_SLOTS = 1024
_TWO = struct.Struct(">QQ")


class KeyNumbers:
    """Numbers distinct keys of 16 bytes in the order in which they are first added.

    A table of open addressing with linear probing (Knuth, vol. 3, 6.4): 22 to 28 bytes a key, where a dict takes
    200. The keys are hashes already, or two halves of which one may often be the same: both say where to look.
    """

    def __init__(self) -> None:
        self._first, self._second = array("Q"), array("Q")
        self._slots = memoryview(array("I", bytes(4 * _FEWEST_SLOTS)))
        self._mask = _FEWEST_SLOTS - 1

    def __len__(self) -> int:
        return len(self._first)

    def __contains__(self, key: bytes) -> bool:
        return self._find(*_TWO.unpack(key))[1] != 0

    def add(self, key: bytes) -> tuple[int, bool]:
        """The key's number, and whether it is new."""
        first, second = _TWO.unpack(key)
        slot, number = self._find(first, second)
        if number:
            return number - 1, False
        self._first.append(first)
        self._second.append(second)
        number = len(self._first)
        self._slots[slot] = number
        if number * 3 > len(self._slots) * 2:
            self._double()
        return number - 1, True

    def key(self, number: int) -> bytes:
        """The key of a number."""
        return _TWO.pack(self._first[number], self._second[number])

    def first_halves(self) -> NDArray[np.uint64]:
        """The first eight bytes of each key, (n,), as numbers."""
        import numpy as np

        return np.frombuffer(self._first, np.uint64)

    def in_order(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """These numbers in the order of their keys as bytes."""
        import numpy as np

        first, second = (np.frombuffer(half, np.uint64)[numbers] for half in (self._first, self._second))
        return numbers[np.lexsort((second, first))]

    def _find(self, first: int, second: int) -> tuple[int, int]:
        """(slot, number + 1 in it); a slot that holds 0 is free."""
        slots, mask = self._slots, self._mask
        slot = (first ^ second) & mask
        while number := slots[slot]:
            if self._second[number - 1] == second and self._first[number - 1] == first:
                return slot, number
            slot = (slot + 1) & mask
        return slot, 0

    def _double(self) -> None:
        import numpy as np

        mask = 2 * len(self._slots) - 1
        slots = np.zeros(mask + 1, np.uint32)
        # Whoever finds a slot free takes it; who comes second looks at the next one.
        left = np.arange(1, len(self) + 1, dtype=np.uint32)
        first, second = np.frombuffer(self._first, np.uint64), np.frombuffer(self._second, np.uint64)
        at = ((first ^ second) & np.uint64(mask)).astype(np.int64)
        while len(left):
            free = slots[at] == 0
            slots[at[free]] = left[free]
            lost = slots[at] != left
            left, at = left[lost], (at[lost] + 1) & mask
        self._slots, self._mask = memoryview(cast("Any", slots)), mask


class TextSet:
    """A set of texts, of which memory holds a hash of 16 bytes each: whether a text is in it."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._keys = KeyNumbers()
        for text in texts:
            self._keys.add(short_hash(text))

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and short_hash(text) in self._keys

    def __len__(self) -> int:
        return len(self._keys)


class Column:
    """A column of numbers, which takes no memory while all of them are the usual one.

    Args:
        typecode: of :mod:`array`.
        usual: may be NaN, which then stands for an absent value.
    """

    def __init__(self, typecode: str, usual: float) -> None:
        self._typecode, self._usual, self._length = typecode, usual, 0
        self._values: array[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> Any:
        return self._usual if self._values is None else self._values[place]

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(self._length))

    def append(self, value: float) -> None:
        """Append a value."""
        if self._values is None and not (value == self._usual or (value != value and self._usual != self._usual)):
            self._values = array(self._typecode, [self._usual]) * self._length
        if self._values is not None:
            self._values.append(value)
        self._length += 1

    @property
    def alike(self) -> bool:
        """Whether all values are the usual one."""
        return self._values is None

    def numpy(self) -> NDArray[Any]:
        """The values, (n,)."""
        import numpy as np

        if self._values is None:
            return np.full(self._length, self._usual, dtype=np.dtype(self._typecode))
        return np.frombuffer(self._values, dtype=np.dtype(self._typecode))


class Tally:
    """Counts distinct things by a hash of each, eight bytes a thing."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, thing: object) -> None:
        """Count a thing that can be hashed."""
        self._hashes.append(hash(thing))

    def distinct(self) -> int:
        """How many differ."""
        import numpy as np

        return len(np.unique(np.frombuffer(self._hashes, dtype=np.int64))) if self._hashes else 0
