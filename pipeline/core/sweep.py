"""Garbage collection: versions that nothing needs, and staging directories that nobody is writing any more.

A collected version leaves its manifest as a tombstone, so lineage outlives the rows and its number stays used.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import refs
from pipeline.core.errors import StoreError
from pipeline.core.files import disk_errors, fsync, is_held, locked, make_dirs, prepare_json
from pipeline.core.version import Version, list_files

# A writer on another machine of a network file system holds no lock that is seen here; its files are new, though.
ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Swept:
    """What was collected, or would be. ``damaged`` versions are left alone: they make no tombstone."""

    versions: list[Version]
    staging: list[Path]
    damaged: list[str]
    bytes: int


def sweep(root: Path, names: Iterable[str], keep: Iterable[Version], dry_run: bool) -> Swept:
    """Collect what no head, no tag, nothing in ``keep`` and no ancestor line of these needs.

    Raises:
        StoreError: a version that stays cannot be read, so what it was made from is unknown; nothing is collected.
    """
    names = list(names)
    found, damaged = _read_all(root, names)
    needed = _needed(root, names, keep, found, damaged)
    doomed = [v for key, v in sorted(found.items()) if key not in needed]
    staging = [s for home in _homes(root) for s in _abandoned(home)]
    freed = sum(_own_bytes(p) for p in [*(v.path for v in doomed), *staging])
    if not dry_run:
        doomed = [v for v in doomed if _collect(root / v.name, v)]
        for path in staging:
            shutil.rmtree(path, ignore_errors=True)
    return Swept(doomed, staging, [str(e) for e in damaged.values()], freed)


Key = tuple[str, int]


def _read_all(root: Path, names: list[str]) -> tuple[dict[Key, Version], dict[Key, StoreError]]:
    found: dict[Key, Version] = {}
    damaged: dict[Key, StoreError] = {}
    for name in names:
        for number in refs.numbers(root / name):
            try:
                found[name, number] = Version.open(refs.version_path(root / name, number))
            except StoreError as err:
                damaged[name, number] = err
    return found, damaged


def _needed(
    root: Path,
    names: list[str],
    keep: Iterable[Version],
    found: dict[Key, Version],
    damaged: dict[Key, StoreError],
) -> set[Key]:
    todo: list[Key] = [(v.name, v.number) for v in keep]
    for name in names:
        home = root / name
        head = refs.read_head(home) or max(refs.numbers(home))
        # Newer than the head: published by a process that died before it could move the head.
        todo += [(name, n) for n in refs.numbers(home) if n >= head]
        todo += [(name, n) for n in refs.read_tags(home).values()]
    needed: set[Key] = set()
    while todo:
        key = todo.pop()
        if key in needed:
            continue
        needed.add(key)
        if key in damaged:
            err = damaged[key]
            raise StoreError(
                err.where, f"{err.what} What it was made from is unknown; nothing was collected.", err.mend
            )
        if key in found:
            todo += [(p.name, p.version) for p in found[key].manifest.parents]
    return needed


def _collect(home: Path, version: Version) -> bool:
    tombstone = refs.tombstone_path(home, version.number)
    trash = home / ".staging" / f"collected-{uuid.uuid4().hex}"
    with disk_errors(str(home)), locked(home / ".lock"):
        # Tagged since we looked; heads move only to new numbers.
        if version.number in refs.read_tags(home).values():
            return False
        make_dirs(trash.parent)
        # The tombstone first: a crash in between leaves a version with a tombstone, which still is a version.
        temporary = prepare_json(tombstone, {})
        shutil.copyfile(version.path / "manifest.json", temporary)
        fsync(temporary)
        os.replace(temporary, tombstone)
        fsync(tombstone.parent)
        # Renamed away in one step, so that no reader opens a version that is half removed.
        os.rename(version.path, trash)
        fsync(home / "versions")
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _homes(root: Path) -> list[Path]:
    return sorted(p.parent for p in root.glob("*/.staging"))


def _abandoned(home: Path) -> list[Path]:
    old: list[Path] = []
    for path in sorted((home / ".staging").iterdir()):
        try:
            newest = max(os.lstat(path / p).st_mtime for p in [".", *list_files(path)])
            if path.name.startswith("collected-") or (
                time.time() - newest > ABANDONED_SECONDS and not is_held(path)
            ):
                old.append(path)
        except OSError:
            # Published or discarded while we looked.
            continue
    return old


def _own_bytes(path: Path) -> int:
    """Bytes that removing ``path`` frees: files that another version links to stay."""
    stats = [os.lstat(path / p) for p in list_files(path)]
    return sum(s.st_size for s in stats if s.st_nlink == 1)
