"""Texts of a set that may be larger than memory: a sequence of which memory holds where each one begins."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from pipeline.base.files import disk_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IN_MEMORY = 16_000_000
"""Bytes of texts, above which they go to a temporary file (in ``TMPDIR``), which is gone with the process."""
_READ = 1 << 20
_TOGETHER = 2000
"""Places of a selection that are looked at together."""


class _Texts(Sequence[str]):
    """What sequences of stored texts have in common: slices and comparisons, as of a list."""

    @abstractmethod
    def _at(self, place: int) -> str:
        """The text at this place, which is not negative."""

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._at(i) for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._at(place % len(self))

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        others = cast("Sequence[Any]", other)
        return len(self) == len(others) and all(a == b for a, b in zip(self, others, strict=True))

    def __add__(self, other: Sequence[str]) -> list[str]:
        return [*self, *other]

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # like a list's

    def __repr__(self) -> str:
        return f"<{len(self)} texts: {self[:3]!r} ...>"


class StoredTexts(_Texts):
    """Texts that are appended and read, in any order; eight bytes of memory each, and at most 16 MB of text.

    Args:
        distinct: whoever appends sees to it that no two are equal.
    """

    def __init__(self, texts: Iterable[str] = (), *, distinct: bool = False) -> None:
        self.distinct = distinct
        self._ends = array("Q")
        self._tail = bytearray()
        self._file: Any = None
        self._written = 0
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, text: str) -> None:
        """Append a text.

        Raises:
            StoreError: the disk of temporary files is full.
        """
        self._tail += text.encode("utf-8", "surrogatepass")
        self._ends.append(self._written + len(self._tail))
        if len(self._tail) > IN_MEMORY:
            self._flush()

    def _flush(self) -> None:
        with disk_errors(
            tempfile.gettempdir(),
            lambda: "texts are kept there while a stage runs, and TMPDIR names another place",
        ):
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            left = memoryview(self._tail)
            while left:
                left = left[self._file.write(left) :]
        self._written += len(self._tail)
        self._tail = bytearray()

    def _bytes(self, start: int, end: int) -> bytes:
        """Those up to ``end``, or to the end of the file, where no text goes on."""
        if start >= self._written:
            return bytes(self._tail[start - self._written : end - self._written])
        # pread: processes that were forked share the file's position.
        return os.pread(self._file.fileno(), min(end, self._written) - start, start)

    def _at(self, place: int) -> str:
        start = self._ends[place - 1] if place else 0
        return self._bytes(start, self._ends[place]).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start, held, held_from = 0, b"", 0
        for place in range(len(self)):
            end = self._ends[place]
            if end > held_from + len(held):
                held, held_from = self._bytes(start, min(max(end, start + _READ), self._ends[-1])), start
            yield held[start - held_from : end - held_from].decode("utf-8", "surrogatepass")
            start = end

    def read(self, places: NDArray[np.integer[Any]] | array[int]) -> Iterator[str]:
        """Those at these places, of which a few are read at once where they lie close together."""
        import numpy as np

        at: list[int] = np.asarray(places, dtype=np.int64).tolist()
        first, last = (min(at), max(at)) if at else (0, 0)
        start = self._ends[first - 1] if first else 0
        if not at or self._ends[last] - start > _READ or self._ends[last] > self._written > start:
            yield from map(self._at, at)
            return
        held = self._bytes(start, self._ends[last])
        for place in at:
            begin = self._ends[place - 1] if place else 0
            yield held[begin - start : self._ends[place] - start].decode("utf-8", "surrogatepass")

    def at(self, places: NDArray[np.integer[Any]] | array[int]) -> SelectedTexts:
        """Those at these places, in this order; none is copied."""
        return SelectedTexts(self, places)


class SelectedTexts(_Texts):
    """Some of other texts, by their places."""

    def __init__(self, texts: StoredTexts, places: NDArray[np.integer[Any]] | array[int]) -> None:
        self._texts, self._places = texts, places

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, place: int) -> str:
        return self._texts[int(self._places[place])]

    @property
    def distinct(self) -> bool:
        """Whether it is known that no two are equal."""
        import numpy as np

        return self._texts.distinct and len(np.unique(self._places)) == len(self._places)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._places), _TOGETHER):
            yield from self._texts.read(self._places[start : start + _TOGETHER])

    def at(self, places: NDArray[np.integer[Any]]) -> SelectedTexts:
        """Those at these places of this selection."""
        import numpy as np

        return SelectedTexts(self._texts, np.asarray(self._places, dtype=np.uint32)[places])


def in_order(texts: Sequence[str], places: NDArray[np.integer[Any]]) -> Sequence[str]:
    """Some of the texts, by their places: a list of a list, and of stored texts none in memory."""
    if isinstance(texts, StoredTexts | SelectedTexts):
        return texts.at(places)
    return [texts[int(i)] for i in places]
