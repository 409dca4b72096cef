"""Rows of Parquet and Arrow files, batch by batch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, first_line

Located = tuple[str, dict[str, Any]]
_UTF8 = "Convert it:  iconv -f WINDOWS-1252 -t UTF-8"


def _untyped(module: str) -> Any:
    # pyarrow ships no types; imported late because it is slow to load and few commands read rows.
    return importlib.import_module(module)


def parquet_rows(path: Path) -> Iterator[Located]:
    """Rows of a Parquet file with their places. Raises DataError."""
    pq = _untyped("pyarrow.parquet")

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=1024)

    return _arrow_rows(path, batches, "Parquet")


def arrow_rows(path: Path) -> Iterator[Located]:
    """Rows of an Arrow file or stream with their places. Raises DataError."""
    pa = _untyped("pyarrow")

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as source:
            try:
                reader: Any = pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                file = pa.ipc.open_file(source)
                reader = (file.get_batch(i) for i in range(file.num_record_batches))
            for batch in reader:
                yield from (batch.slice(start, 1024) for start in range(0, batch.num_rows, 1024))

    return _arrow_rows(path, batches, "Arrow")


def _arrow_rows(path: Path, batches: Callable[[], Iterator[Any]], kind: str) -> Iterator[Located]:
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
