"""Replace a version by a corrected one, or delete it completely. (gc does neither.)

An erased version leaves a tombstone without content: lineage, row counts, and the sha256 of its manifest, which
listed the sha256 of every file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, fsync, is_held, locked, make_dirs, replace_json, sha256_file
from pipeline.base.required import REQUIRED
from pipeline.store import refs
from pipeline.store.copies import with_copies
from pipeline.store.draft import Draft
from pipeline.store.manifest import ERASED, Manifest, Parent, Split, code_version
from pipeline.store.store import Store
from pipeline.store.version import Version

REPLACES = "replaces"
"""Governance key of a replacement: the reference of the erased version."""

Key = tuple[str, int]
"""A version's name and number."""


class Erasure(TypedDict, total=False):
    """What a tombstone's governance holds of the erased version. ``heir`` is the reference of its replacement."""

    at: str
    manifest_sha256: str
    heir: str | None
    tags: list[str]


@dataclass(frozen=True)
class VersionRecord:
    """A version of the store, or a tombstone (``path`` is None)."""

    manifest: Manifest
    path: Path | None

    @property
    def key(self) -> Key:
        return self.manifest.name, self.manifest.version

    @property
    def ref(self) -> str:
        return self.manifest.ref

    @property
    def replacement(self) -> str | None:
        """The reference of an erased version's replacement."""
        return self.manifest.governance.get(ERASED, {}).get("heir")


def all_records(store: Store) -> tuple[dict[Key, VersionRecord], list[str]]:
    """All versions and tombstones of the store, and an error line for each unreadable one.

    A manifest's governance also has the copies on the Hub that are recorded beside the version.
    """
    records: dict[Key, VersionRecord] = {}
    damaged: list[str] = []
    for home in homes(store):
        for number in refs.tombstones(home):
            path = refs.tombstone_path(home, number)
            try:
                manifest = Manifest.from_json(path.read_text("utf-8"), str(path))
                records[manifest.name, manifest.version] = VersionRecord(with_copies(manifest, home), None)
            except (StoreError, OSError, UnicodeDecodeError) as err:
                damaged.append(f"{path}: {err}")
        for number in refs.numbers(home):
            try:
                version = Version.open(refs.version_path(home, number))
                manifest = with_copies(version.manifest, home)
                records[version.name, version.number] = VersionRecord(manifest, version.path)
            except StoreError as err:
                damaged.append(str(err))
    return records, damaged


def homes(store: Store) -> list[Path]:
    """The directories of all names that have a version or a tombstone."""
    if not store.root.is_dir():
        return []
    names = [p for p in sorted(store.root.iterdir()) if p.is_dir()]
    return [p for p in names if refs.numbers(p) or refs.tombstones(p)]


def descendants(records: Mapping[Key, VersionRecord], origins: Iterable[Key]) -> list[VersionRecord]:
    """All descendants of ``origins``, nearest first; collected ones included."""
    children: dict[Key, list[VersionRecord]] = {}
    for record in records.values():
        for parent in record.manifest.parents:
            children.setdefault((parent.name, parent.version), []).append(record)
    below: dict[Key, VersionRecord] = {}
    seen = set(origins)
    layer = sorted(seen)
    while layer:
        new = {c.key: c for key in layer for c in children.get(key, []) if c.key not in seen}
        seen |= new.keys()
        below |= new
        layer = list(new)
    return list(below.values())


def replacement_of(records: Mapping[Key, VersionRecord], old: Key) -> VersionRecord | None:
    """The newest replacement of ``old``, also of an interrupted attempt."""
    ref = f"{old[0]}@{refs.spell(old[1])}"
    replacements = [
        r for r in records.values() if r.path is not None and r.manifest.governance.get(REPLACES) == ref
    ]
    return max(replacements, key=lambda record: record.key[1], default=None)


def draft_replacement(store: Store, old: Version, parents: Sequence[Parent], key: str | None) -> Draft:
    """A draft of the replacement of ``old``, with its settings and models, without its rows and stats.

    Publishing moves the head, as always; see :func:`place_heads`.

    Args:
        parents: of ``old``, with erased ones replaced.
        key: of ``old``, so that its work still counts as done; else None.
    """
    kept = {k: v for k, v in old.manifest.governance.items() if k not in (REPLACES, "hub")}
    manifest = dataclasses.replace(
        old.manifest,
        version=0,
        parents=list(parents),
        key=key,
        code=code_version(),
        governance={**kept, REPLACES: old.ref},
    )
    draft = Draft(store.home(old.name), manifest, republish_if_changed=True)
    draft.instead_of = old.number
    draft.models = list(old.manifest.models)
    draft.device = old.manifest.environment.get("device", draft.device)
    return draft


def erase(store: Store, version: Version, replacement: Version | None = None) -> list[str]:
    """Remove a version even if others refer to it; leave a tombstone without content.

    Safe to repeat after a crash: the tombstone is written first, the rows are moved to staging atomically, and
    :func:`drop_staging` removes what is left there.

    Returns:
        Its tags, which are removed: a tag never moves.
    Raises:
        StoreError: a disk error; the version may still exist.
    """
    home = store.home(version.name)
    trash = home / ".staging" / f"collected-{uuid.uuid4().hex}"
    with disk_errors(version.where):
        with locked(home / ".lock"):
            tags = [tag for tag, number in refs.read_tags(home).items() if number == version.number]
            tags = sorted(
                {*tags, *(_erasure(home, version.number).get("tags") or ())}
            )  # of an interrupted attempt
            sha = sha256_file(version.path / "manifest.json")
            tombstone = redacted_tombstone(version.manifest, sha, replacement.ref if replacement else None, tags)
            replace_json(refs.tombstone_path(home, version.number), dataclasses.asdict(tombstone))
            for tag in tags:
                (home / "refs" / "tags" / f"{tag}.json").unlink(missing_ok=True)
            if tags:
                fsync(home / "refs" / "tags")
            make_dirs(trash.parent)
            os.rename(version.path, trash)
            fsync(home / "versions")
        shutil.rmtree(trash)
    return tags


def redact_tombstone(store: Store, name: str, number: int) -> None:
    """Remove the content (config, stats, file names) from the tombstone of a collected version."""
    path = refs.tombstone_path(store.home(name), number)
    with disk_errors(str(path)):
        manifest = Manifest.from_json(path.read_text("utf-8"), str(path))
        if ERASED not in manifest.governance:
            replace_json(path, dataclasses.asdict(redacted_tombstone(manifest, sha256_file(path), None, [])))


def drop_staging(home: Path) -> list[Path]:
    """Remove the staging of dead writers in ``home``; returns the paths that are being written now.

    Unlike garbage collection it does not wait a day: a writer on another machine, whose lock is invisible, fails.

    Raises:
        StoreError: a disk error.
    """
    busy: list[Path] = []
    with disk_errors(str(home)):
        if (home / ".lock").exists():
            with locked(home / ".lock"):  # garbage collection copies manifests under it
                for path in (home / "tombstones").glob(".*"):
                    path.unlink()
        for path in sorted((home / ".staging").glob("*")):
            with contextlib.suppress(FileNotFoundError):  # published or discarded while we looked
                if path.is_dir() and is_held(path):
                    busy.append(path)
                elif path.is_dir():
                    shutil.rmtree(path)
    return busy


def place_heads(store: Store, before: Mapping[str, int]) -> None:
    """Point heads at the replacements of the versions they named, after all of these are erased.

    Args:
        before: the head of each name before the first replacement was published. Without a replacement the newest
            version left becomes the head. A head that was moved since stays.
    """
    for name, number in before.items():
        home = store.home(name)
        with disk_errors(str(home)), locked(home / ".lock"):
            numbers = refs.numbers(home)
            target = _follow(home, number, numbers)
            head = refs.read_head(home)
            if head in numbers and REPLACES not in Version.open(refs.version_path(home, head)).manifest.governance:
                continue
            if target is None:
                refs.head_path(home).unlink(missing_ok=True)
            else:
                refs.move_head(home, target, Version.open(refs.version_path(home, target)).id)


def _follow(home: Path, number: int, numbers: list[int]) -> int | None:
    """The existing version that finally replaces ``number``, else the newest of ``numbers``."""
    while number not in numbers:
        replacement = _erasure(home, number).get("heir")
        after = refs.parse_ref(replacement).number if replacement else None
        if after is None or after <= number:
            return max(numbers, default=None)
        number = after
    return number


def _erasure(home: Path, number: int) -> Erasure:
    path = refs.tombstone_path(home, number)
    try:
        return Manifest.from_json(path.read_text("utf-8"), str(path)).governance.get(ERASED, {})
    except FileNotFoundError:
        return {}


def erased(store: Store) -> set[str]:
    """References of all erased versions."""
    records, _ = all_records(store)
    return {record.ref for record in records.values() if ERASED in record.manifest.governance}


def redacted_tombstone(manifest: Manifest, sha256: str, replacement: str | None, tags: list[str]) -> Manifest:
    kept = {k: manifest.governance[k] for k in (REPLACES, REQUIRED, "hub") if k in manifest.governance}
    erasure: Erasure = {"at": refs.now(), "manifest_sha256": sha256, "heir": replacement, "tags": tags}
    return Manifest(
        name=manifest.name,
        version=manifest.version,
        id=manifest.id,
        kind=manifest.kind,
        stage=manifest.stage,
        created_at=manifest.created_at,
        key=manifest.key,
        seed=manifest.seed,
        parents=manifest.parents,
        config_hash=manifest.config_hash,
        code=manifest.code,
        models=manifest.models,
        splits={key: Split(s.rows, s.bytes, []) for key, s in manifest.splits.items()},
        governance={**kept, ERASED: erasure},
    )
