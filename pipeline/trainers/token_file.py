"""Tokenised rows in an Arrow file: written batch by batch, and memory-mapped, as a trainer reads them.

Pages of a mapped file that were read count in a process's resident memory, and the system takes them back when it
needs them. What goes through all rows in their order reads the file instead, and keeps a batch.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from pipeline.base.files import disk_errors, fsync, make_dirs, write_text

ROWS = 1000
"""Of a batch while tokenising."""
BATCH_BYTES = 2_000_000
"""Of a batch in the file."""
IDS = pa.list_(pa.int32())

Columns = dict[str, list[Any]]
Figures = dict[str, int]


def token_file(
    path: Path | None, schema: Mapping[str, Any], batches: Callable[[Figures], Iterator[Columns]]
) -> tuple[Dataset, Figures]:
    """The rows of ``batches`` in a file; a complete one that is there already is taken as it is.

    Args:
        path: of the file; None for a temporary one that has no name.
        schema: the columns and their types.
        batches: yields batches of columns, and counts in the dictionary it gets.
    Returns:
        The mapped rows, and what was counted.
    """
    if path is None:
        with tempfile.TemporaryDirectory() as directory:  # the mapping keeps the bytes
            return token_file(Path(directory) / "tokens.arrow", schema, batches)
    done = path.with_suffix(".json")
    if not done.is_file():
        figures: Figures = {}
        with disk_errors(str(path)):
            make_dirs(path.parent)
            part = path.with_suffix(".part")
            fields = pa.schema(schema)
            with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, fields) as writer:
                for table in _grouped(pa.record_batch(c, schema=fields) for c in batches(figures)):
                    writer.write_table(table)
            fsync(part)
            os.replace(part, path)
            write_text(done, json.dumps(figures))
    return Dataset.from_file(str(path)), json.loads(done.read_text(encoding="utf-8"))


def _grouped(batches: Iterator[Any]) -> Iterator[Any]:
    """Tables of one batch each, of some size: whoever touches a mapped page gets 64 kB around it."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if sum(each.nbytes for each in group) >= BATCH_BYTES:
            yield pa.Table.from_batches(group).combine_chunks()
            group = []
    if group:
        yield pa.Table.from_batches(group).combine_chunks()


class FileColumn(Sequence[Any]):
    """A column of a mapped file, of which no more is held than what is asked for.

    Args:
        path: of the file, which is read from its start where all rows are asked for in their order.
    """

    def __init__(self, dataset: Dataset, name: str, path: Path | None = None) -> None:
        self._column: Any = dataset.data.column(name)
        self._name, self._path = name, path

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._column[i].as_py() for i in range(*place.indices(len(self)))]
        return self._column[int(place)].as_py()

    def __iter__(self) -> Iterator[Any]:
        if self._path is None:
            yield from (value for chunk in self._column.chunks for value in chunk.to_pylist())
            return
        with pa.OSFile(str(self._path)) as source:
            for batch in pa.ipc.open_stream(source):
                yield from batch.column(self._name).to_pylist()

    def at(self, places: Sequence[int]) -> list[Any]:
        """The rows at these rising places. The file is read, so that none of its pages stays mapped for them."""
        if self._path is None:
            return [self[place] for place in places]
        found: list[Any] = []
        wanted, first = np.asarray(places, dtype=np.int64), 0
        with pa.OSFile(str(self._path)) as source:
            for batch in pa.ipc.open_stream(source):
                begin, end = np.searchsorted(wanted, [first, first + len(batch)])
                found += batch.column(self._name).take(pa.array(wanted[begin:end] - first)).to_pylist()
                first += len(batch)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # like a list's

    def lengths(self) -> NDArray[np.int32]:
        """(n,) tokens of each row, in a column of lists."""
        parts = [chunk.value_lengths().to_numpy() for chunk in self._column.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def rows_at(rows: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """The rows at these rising places."""
    return rows.at(places) if isinstance(rows, FileColumn) else [rows[place] for place in places]


def row_lengths(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """(n,) tokens of each row."""
    return rows.lengths() if isinstance(rows, FileColumn) else np.fromiter(map(len, rows), np.int32, len(rows))


def of_rank(values: NDArray[np.int32], rank: int) -> int:
    """The place of the value that a stable sort puts at ``rank``, in half of its memory."""
    value = np.partition(values, rank)[rank]
    return int(np.flatnonzero(values == value)[rank - np.count_nonzero(values < value)])


def first_and_longest(sets: Sequence[Dataset], column: str) -> list[list[int]]:
    """The first row of all, and the first of those that have the most tokens."""
    longest, most = [], -1
    for dataset in sets:
        lengths = FileColumn(dataset, column).lengths()
        if (indices := cast("Any", dataset)._indices) is not None:  # shuffled, or without some rows
            lengths = lengths[indices.column(0).to_numpy()]
        if len(lengths) and lengths.max() > most:
            longest, most = dataset[int(lengths.argmax())][column], int(lengths.max())
    return [sets[0][0][column], longest]
