"""Content ids: equal for equal content on any machine, in any order of rows and any cut into shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.records import digest
from pipeline.store.manifest import FileEntry

# Weights decide a model's identity. Its text files hold paths and dates of the machine that wrote them.
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".npz", ".npy"})
# What trainers save next to weights in order to resume: pickles with output paths, clocks and rng states.
_RESUME = ("training_args", "optimizer", "scheduler", "rng_state", "scaler", "trainer_state")
_NOT_CONTENT = frozenset({"metrics.jsonl"})


class RowIds:
    """Collects the ids of one split, 32 bytes per row, and turns them into one digest."""

    def __init__(self) -> None:
        self._ids = bytearray()

    def add(self, batch: Any, where: str) -> None:
        """Add the rows of a pyarrow record batch."""
        for row in row_keys(batch, where):
            self._ids += row

    def digest(self) -> str:
        """sha256 over the sorted ids: the same rows in another order are the same content."""
        import numpy as np

        if self._ids:
            # Sorted in place. numpy compares all 32 bytes, zeros at the end too, as those of bytes are.
            np.frombuffer(self._ids, dtype="S32").sort()
        return hashlib.sha256(self._ids).hexdigest()


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
