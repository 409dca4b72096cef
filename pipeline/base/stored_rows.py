"""Rows that are written to a temporary file once, and read back in their order as often as they are needed."""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.files import disk_error, disk_errors

_BUFFER = 1 << 18
_SIZE = 4


class StoredRows:
    """Tuples of texts, bytes, numbers and None, none of which memory holds.

    The file has no name and is gone with the process. ``marshal`` is a tenth of the work of JSON, and reads
    nothing but such values; no other version of Python has to read it.

    Args:
        directory: of the file; None for that of temporary files.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._where = str(directory or tempfile.gettempdir())
        with disk_errors(self._where):
            self._file = tempfile.TemporaryFile(dir=directory, buffering=_BUFFER)  # noqa: SIM115
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, row: tuple[Any, ...]) -> None:
        """Append a row.

        Raises:
            StoreError: the disk is full.
        """
        spelled = marshal.dumps(row)
        try:
            self._file.write(len(spelled).to_bytes(_SIZE) + spelled)
        except OSError as err:
            raise disk_error(err, self._where) from err
        self._length += 1

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All rows; one pass at a time, and none is appended meanwhile."""
        with disk_errors(self._where):
            self._file.seek(0)  # which writes what is in the buffer
        read = self._file.read
        while size := read(_SIZE):
            yield marshal.loads(read(int.from_bytes(size)))
