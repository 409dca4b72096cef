"""Garbage collection: versions that nothing needs, drafts that nobody is writing any more, abandoned checkpoints.

A collected version leaves its manifest as a tombstone, so lineage outlives the rows and its number stays used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, fsync, is_held, locked, make_dirs, prepare_json
from pipeline.store import refs
from pipeline.store.chains import FINISHED, Key, chains, ends, parents
from pipeline.store.interrupted import Left, left_behind, remove
from pipeline.store.manifest import Manifest
from pipeline.store.version import Version, list_files

# A writer on another machine of a network file system holds no lock that is seen here; its files are new, though.
ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Rules:
    """What besides is kept, and what is not.

    Attributes:
        keep: versions to keep whatever becomes of others.
        drop: versions that no longer stand for their chains, nor does what was made from them.
        unfinished: take chains that no evaluation or report came of, too.
        runs: take the checkpoints of interrupted work, and with them the hold it has on its inputs.
    """

    keep: Collection[Key] = ()
    drop: Collection[Key] = ()
    unfinished: bool = False
    runs: bool = False


@dataclass(frozen=True)
class Collected:
    """What was collected, or would be.

    Attributes:
        versions: with :attr:`newer`, for each by its reference, what stands in its place, if anything does.
        staging: drafts of writers that died.
        runs: interrupted work whose checkpoints go.
        waiting: work that is being done, or is interrupted and stays.
        unfinished: versions kept only since no evaluation or report came of them yet.
        damaged: versions that are left alone, as they make no tombstone.
        bytes: what it frees.
    """

    versions: list[Version]
    staging: list[Path]
    damaged: list[str]
    bytes: int
    newer: dict[str, str] = field(default_factory=dict[str, str])
    runs: list[Left] = field(default_factory=list[Left])
    waiting: list[Left] = field(default_factory=list[Left])
    unfinished: list[Version] = field(default_factory=list[Version])


def collect_garbage(root: Path, names: Iterable[str], rules: Rules, dry_run: bool) -> Collected:
    """Collect what nothing needs: see :func:`plan_collection`, of which this is the carrying out.

    Raises:
        StoreError: see :func:`plan_collection`; the disk.
    """
    planned = plan_collection(root, names, rules)
    return planned if dry_run else carry_out(root, names, rules, planned)


def plan_collection(root: Path, names: Iterable[str], rules: Rules) -> Collected:
    """What nothing needs.

    Needed are heads, tags, ``rules.keep``; the inputs of work that is being done or is interrupted, and what of
    its outputs is there; the newest version of each chain of equal seed and settings
    (:mod:`pipeline.store.chains`) that ends in an evaluation or report, or that nothing was made from yet; and
    the ancestors of all these.

    Raises:
        StoreError: a version that stays cannot be read, so what it was made from is unknown; nothing is collected.
    """
    store = _read_store(root, list(names))
    left = left_behind(root / ".runs")
    gone = [one for one in left if rules.runs and not one.held]
    waiting = [one for one in left if one not in gone]
    roots = _needed_for_themselves(store, rules, waiting)
    newest, newer = _newest_of_chains(store, rules)
    finished = _with_ancestors(store, roots | {key for key, whole in newest.items() if whole})
    needed = finished if rules.unfinished else _with_ancestors(store, finished | set(newest))
    doomed = [v for key, v in sorted(store.versions.items()) if key not in needed]
    staging = [s for path in sorted(root.glob("*/.staging")) for s in _abandoned_drafts(path)]
    freed = sum(map(own_bytes, [*(v.path for v in doomed), *staging])) + sum(one.bytes for one in gone)
    unfinished = [store.versions[key] for key in sorted(needed - finished) if key in store.versions]
    damaged = [str(e) for e in store.damaged.values()]
    return Collected(doomed, staging, damaged, freed, newer, gone, waiting, unfinished)


def carry_out(root: Path, names: Iterable[str], rules: Rules, planned: Collected) -> Collected:
    """Carry out a plan, less what has come to be needed since it was made.

    Raises:
        StoreError: the disk; what was collected until then is.
    """
    runs = [one for one in planned.runs if remove(one.path)]
    still = {v.ref for v in plan_collection(root, names, rules).versions}
    versions = [v for v in planned.versions if v.ref in still and _collect_version(root, v)]
    for path in planned.staging:
        shutil.rmtree(path, ignore_errors=True)
    return Collected(
        versions,
        planned.staging,
        planned.damaged,
        planned.bytes,
        planned.newer,
        runs,
        planned.waiting,
        planned.unfinished,
    )


@dataclass(frozen=True)
class _Contents:
    """All that is in a store, tombstones included."""

    root: Path
    names: list[str]
    versions: dict[Key, Version]
    damaged: dict[Key, StoreError]
    known: dict[Key, Manifest]


def _read_store(root: Path, names: list[str]) -> _Contents:
    read = _Contents(root, names, {}, {}, {})
    for home in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
        for number in refs.tombstones(home):
            path = refs.tombstone_path(home, number)
            with contextlib.suppress(StoreError, OSError, UnicodeDecodeError):
                read.known[home.name, number] = Manifest.from_json(path.read_text("utf-8"), str(path))
        for number in refs.numbers(home):
            try:
                version = Version.open(refs.version_path(home, number))
            except StoreError as err:
                read.damaged[home.name, number] = err
                continue
            read.versions[home.name, number] = version
            read.known[home.name, number] = version.manifest
    return read


def _needed_for_themselves(store: _Contents, rules: Rules, waiting: Iterable[Left]) -> set[Key]:
    """Needed for themselves: heads, tags, what is to be kept, and what work stands on that is not done."""
    found = set(rules.keep)
    for name in store.names:
        home = store.root / name
        head = refs.read_head(home) or max(refs.numbers(home))
        # Newer than the head: published by a process that died before it could move the head.
        found |= {(name, n) for n in refs.numbers(home) if n >= head}
        found |= {(name, n) for n in refs.read_tags(home).values()}
    return found | _held_by_work(store.versions, waiting)


def _held_by_work(versions: Mapping[Key, Version], waiting: Iterable[Left]) -> set[Key]:
    """The inputs of work that is not done, and those of its outputs that it has published already."""
    refs_, keys = set[str](), set[str]()
    for one in waiting:
        if one.work is not None:
            refs_ |= {ref for ref, *_ in one.work.inputs.values()}
            keys.add(one.work.key)
    return {key for key, v in versions.items() if v.ref in refs_ or v.manifest.key in keys}


def _newest_of_chains(store: _Contents, rules: Rules) -> tuple[dict[Key, bool], dict[str, str]]:
    """The version that stands for each chain, with whether it is finished; and by reference what replaces others.

    Where the newest one is damaged, the newest intact one stays beside it: that is what stages would use.
    """
    present = {key: v.manifest for key, v in store.versions.items()}
    dropped = _with_descendants(present, rules.drop)
    identity, last = chains(store.known), ends({k: m for k, m in present.items() if k not in dropped})
    groups: dict[str, list[Key]] = {}
    for key in sorted(present, key=lambda k: (k[1], k[0])):
        groups.setdefault(identity[key], []).append(key)
    found: dict[Key, bool] = {}
    newer: dict[str, str] = {}
    for group in groups.values():
        if last.isdisjoint(group):  # all of it is inside longer chains
            continue
        for key in reversed([k for k in group if k not in dropped]):
            found[key] = present[key].kind in FINISHED
            if len(group) == 1 or not store.versions[key].damage():
                break
        newer |= {store.versions[key].ref: store.versions[group[-1]].ref for key in group[:-1]}
    return found, newer


def _with_descendants(present: Mapping[Key, Manifest], origins: Collection[Key]) -> set[Key]:
    """``origins`` and everything made from them."""
    children: dict[Key, list[Key]] = {}
    for key, manifest in present.items():
        for parent in parents(manifest):
            children.setdefault(parent, []).append(key)
    found, todo = set[Key](), list(origins)
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += children.get(key, [])
    return found


def _with_ancestors(store: _Contents, roots: Iterable[Key]) -> set[Key]:
    """``roots`` and all their ancestors.

    Raises:
        StoreError: one of them cannot be read.
    """
    todo = list(roots)
    needed: set[Key] = set()
    while todo:
        key = todo.pop()
        if key in needed:
            continue
        needed.add(key)
        if key in store.damaged:
            err = store.damaged[key]
            what = f"{err.what} What it was made from is unknown; nothing was collected."
            raise StoreError(err.where, what, err.mend)
        if key in store.versions:
            todo += parents(store.versions[key].manifest)
    return needed


def _collect_version(root: Path, version: Version) -> bool:
    home = root / version.name
    tombstone = refs.tombstone_path(home, version.number)
    trash = home / ".staging" / f"collected-{uuid.uuid4().hex}"
    with disk_errors(str(home)), locked(home / ".lock"):
        # Tagged, or taken as an input, since we looked; heads move only to new numbers.
        key = (version.name, version.number)
        tagged = version.number in refs.read_tags(home).values()
        if tagged or _held_by_work({key: version}, left_behind(root / ".runs")):
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


def _abandoned_drafts(staging: Path) -> list[Path]:
    old: list[Path] = []
    for path in sorted(p for p in staging.iterdir() if p.is_dir()):
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


def own_bytes(path: Path) -> int:
    """Bytes that removing ``path`` frees: files that another version links to stay."""
    stats = [os.lstat(path / p) for p in list_files(path)]
    return sum(s.st_size for s in stats if s.st_nlink == 1)
