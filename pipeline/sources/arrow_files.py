"""Rows of Parquet and Arrow files, batch by batch."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from pipeline.base.errors import DataError, first_line

Located = tuple[str, dict[str, Any]]
_BUFFER = 1 << 20
"""Bytes of a column that are read at once."""
_UTF8 = "Convert it:  iconv -f WINDOWS-1252 -t UTF-8"


class RowFile(Protocol):
    """A file of rows: a path, or a file elsewhere (:class:`pipeline.sources.remote_files.RemoteFile`)."""

    @property
    def suffix(self) -> str: ...
    @property
    def suffixes(self) -> list[str]: ...
    def open(self, mode: Literal["rb"], /) -> IO[bytes]: ...


def _untyped(module: str) -> Any:
    # pyarrow ships no types; imported late because it is slow to load and few commands read rows.
    return importlib.import_module(module)


def parquet_rows(path: RowFile) -> Iterator[Located]:
    """Rows of a Parquet file with their places; memory holds pages of a row group. Raises DataError."""
    pq = _untyped("pyarrow.parquet")

    def batches() -> Iterator[Any]:
        # By default the whole of a row group is read at once, which in a file of pandas' is a million rows.
        local = isinstance(path, Path)
        with (
            contextlib.nullcontext(path) if local else path.open("rb") as source,
            pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER) as file,
        ):
            yield from file.iter_batches(batch_size=1024)

    return _arrow_rows(path, batches, "Parquet")


def arrow_rows(path: RowFile) -> Iterator[Located]:
    """Rows of an Arrow file or stream with their places. Raises DataError."""
    pa = _untyped("pyarrow")

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) if isinstance(path, Path) else path.open("rb") as source:
            try:
                reader: Any = pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                source.seek(0)
                file = pa.ipc.open_file(source)
                reader = (file.get_batch(i) for i in range(file.num_record_batches))
            for batch in reader:
                yield from (batch.slice(start, 1024) for start in range(0, batch.num_rows, 1024))

    return _arrow_rows(path, batches, "Arrow")


def _arrow_rows(path: RowFile, batches: Callable[[], Iterator[Any]], kind: str) -> Iterator[Located]:
    pa = _untyped("pyarrow")

    number = 0
    try:
        for batch in batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except UnicodeDecodeError as err:
        raise DataError(str(path), f"holds text that is not UTF-8 after row {number}.", _UTF8) from err
    except (pa.ArrowException, OSError) as err:
        mend = "Fetch or write it again."
        raise DataError(str(path), f"is not a readable {kind} file ({first_line(err)}).", mend) from err
