"""Find the files that contain an annotator's id: in versions, and below any directory."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.base.errors import PipelineError
from pipeline.erasure.erase_version import Key, VersionRecord
from pipeline.store.parquet import arrow, read_batches
from pipeline.store.version import Version, list_files

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".npz", ".npy")


def name_somebody(root: Path, people: Collection[str]) -> list[Path]:
    """Files under ``root`` that contain an id, as text or in a column, or are unreadable; weights are skipped."""
    holding: list[Path] = []
    for relative in list_files(root):
        path = root / relative
        if path.suffix in _WEIGHTS or path.is_symlink():
            continue
        try:
            holds = (_in_columns if path.suffix == ".parquet" else _in_bytes)(path, people)
        except (PipelineError, OSError):
            holds = True
        if holds:
            holding.append(path)
    return holding


def naming_versions(
    records: Mapping[Key, VersionRecord], apart: Collection[Key], people: Collection[str]
) -> list[tuple[Version, list[str]]]:
    """The versions, except ``apart``, with the texts (not rows or weights) that contain an id."""
    naming: list[tuple[Version, list[str]]] = []
    for key, record in sorted(records.items()):
        if record.path is None or key in apart:
            continue
        version = Version(record.path, record.manifest)
        texts = [f for f in list_files(version.path) if Path(f).suffix not in (*_WEIGHTS, ".parquet")]
        texts = [f for f in texts if not (version.path / f).is_symlink() and _in_bytes(version.path / f, people)]
        if texts:
            naming.append((version, texts))
    return naming


def _in_bytes(path: Path, people: Collection[str]) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(person.encode()) >= 0 for person in people)


def _in_columns(path: Path, people: Collection[str]) -> bool:
    pa, _ = arrow()
    compute: Any = import_module("pyarrow.compute")
    for batch in read_batches([path], str(path)):
        texts = [c for c in batch.columns if pa.types.is_string(c.type) or pa.types.is_large_string(c.type)]
        if any(compute.any(compute.match_substring(c, person)).as_py() for c in texts for person in people):
            return True
    return False
