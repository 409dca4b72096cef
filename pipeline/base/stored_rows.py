"""Rows that are written to a temporary file once, and read back in their order as often as they are needed."""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.files import disk_errors

_BATCH = 500
_SIZE = 8


class StoredRows:
    """Tuples of texts, bytes, numbers and None, of which memory holds a batch.

    The file has no name and is gone with the process. ``marshal`` is a tenth of the work of JSON, and reads nothing
    but such values; no other version of Python has to read it.

    Args:
        directory: of the file; None for that of temporary files.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._where = str(directory or tempfile.gettempdir())
        with disk_errors(self._where):
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._rows: list[tuple[Any, ...]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, row: tuple[Any, ...]) -> None:
        """Append a row.

        Raises:
            StoreError: the disk is full.
        """
        self._rows.append(row)
        self._length += 1
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        batch = marshal.dumps(self._rows)
        with disk_errors(self._where):
            self._file.write(len(batch).to_bytes(_SIZE) + batch)
        self._rows = []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All rows; one pass at a time, and none is appended meanwhile."""
        if self._rows:
            self._flush()
        with disk_errors(self._where):
            self._file.seek(0)
        while size := self._file.read(_SIZE):
            yield from marshal.loads(self._file.read(int.from_bytes(size)))
