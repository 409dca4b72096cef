"""Content ids: equal for equal content on any machine, in any order of rows and any cut into shards."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from pipeline.base.errors import DataError
from pipeline.base.records import digest
from pipeline.store.manifest import FileEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Weights decide a model's identity. Its text files hold paths and dates of the machine that wrote them.
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".npz", ".npy"})
# What trainers save next to weights in order to resume: pickles with output paths, clocks and rng states.
_RESUME = ("training_args", "optimizer", "scheduler", "rng_state", "scaler", "trainer_state")
_NOT_CONTENT = frozenset({"metrics.jsonl"})

RUN = 1_000_000
"""Ids in memory, 32 MB of them."""
_ID = 32


class RowIds:
    """Collects the ids of one split, 32 bytes per row, and turns them into one digest.

    Memory holds a run of them; further ones are sorted runs in a temporary file, which :meth:`digest` merges.

    Args:
        directory: of the temporary file, on the disk that the rows are written to.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._ids = bytearray()
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._ends: list[NDArray[np.int64]] = []
        """Of each run in the file, where ids with each first byte end."""

    def add(self, batch: Any, where: str) -> None:
        """Add the rows of a pyarrow record batch."""
        for row in row_keys(batch, where):
            self._ids += row
        while len(self._ids) >= RUN * _ID:
            self._write_run()

    def _write_run(self) -> None:
        run = _sorted_ids(self._ids[: RUN * _ID])
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
        self._file.write(run)
        del self._ids[: RUN * _ID]
        self._ends.append(_ends_by_byte(run))

    def digest(self) -> str:
        """sha256 over the sorted ids: the same rows in another order are the same content."""
        last = _sorted_ids(self._ids)
        if self._file is None:
            return hashlib.sha256(last).hexdigest()
        import numpy as np

        self._file.flush()
        ends = [np.insert(of_run, 0, 0) for of_run in (*self._ends, _ends_by_byte(last))]
        whole = hashlib.sha256()
        # Ids are hashes: a 256th of them begins with any one byte. Mapped pages would count as memory.
        for byte in range(256):
            spans = [(int(of_run[byte]) * _ID, int(of_run[byte + 1]) * _ID) for of_run in ends]
            parts = [self._part(number, start, end) for number, (start, end) in enumerate(spans[:-1])]
            whole.update(_sorted_ids(bytearray(b"".join([*parts, last[slice(*spans[-1])]]))))
        return whole.hexdigest()

    def _part(self, run: int, start: int, end: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file.fileno(), end - start, run * RUN * _ID + start)


def _ends_by_byte(ids: bytearray) -> NDArray[np.int64]:
    """(256,) of sorted ids, how many begin with no greater byte than each."""
    import numpy as np

    first = np.frombuffer(ids, np.uint8)[::_ID]
    return np.cumsum(np.bincount(first, minlength=256))


def _sorted_ids(ids: bytearray) -> bytearray:
    """Ids of 32 bytes, sorted in place. numpy compares all 32, zeros at the end too, as those of bytes are."""
    import numpy as np

    if ids:
        np.frombuffer(ids, dtype=f"S{_ID}").sort()
    return ids


def row_keys(batch: Any, where: str) -> list[bytes]:
    """32 bytes per row of a record batch: of its "id" column, or else of the whole row.

    Raises:
        DataError: a row without an id whose values JSON cannot spell.
    """
    if "id" in batch.schema.names:
        return [hashlib.sha256(str(i).encode("utf-8", "surrogatepass")).digest() for i in batch["id"].to_pylist()]
    try:
        return [bytes.fromhex(digest(row)) for row in batch.to_pylist()]
    except TypeError as err:
        what = f'rows without an "id" column are told apart by their JSON, but {err}.'
        raise DataError(where, what, 'Add an "id" column.') from err


def content_id(splits: dict[str, str], files: Iterable[FileEntry]) -> str:
    """The id of a version from the digests of its splits and from its weights.

    A version with neither rows nor weights, such as a report, is what its files are.
    """
    kept = [f for f in files if PurePosixPath(f.path).name not in _NOT_CONTENT]
    weights = [f for f in kept if _is_weight(PurePosixPath(f.path))]
    named = weights if weights or splits else kept
    return digest([sorted(splits.items()), sorted((f.path, f.sha256) for f in named)])


def _is_weight(path: PurePosixPath) -> bool:
    return path.suffix in _WEIGHTS and not path.name.startswith(_RESUME)
