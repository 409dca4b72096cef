"""Amend a version in place: redact a person from its texts, change its work key. Rows and weights stay."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.base.files import disk_errors, fsync, locked, make_dirs
from pipeline.erasure.redact import redacted_text, redacted_value
from pipeline.store import refs
from pipeline.store.manifest import FileEntry
from pipeline.store.store import Store
from pipeline.store.version import Version

REDACTED = "redacted"
"""Governance key of a version with redacted texts: [{at, files}]."""


def redact(store: Store, version: Version, words: Collection[str], files: Iterable[str]) -> None:
    """Redact a person from the texts of a version: its manifest's figures, its card, a report's page.

    Rows, weights, number and id stay. The manifest is written first: after a crash, a repeat finds the files that
    still contain a word and completes them.

    Args:
        files: the files that contain one of ``words``, relative to the version; may include manifest.json.
    Raises:
        StoreError: a disk error.
    """
    manifest, home = version.manifest, store.home(version.name)
    aside = home / ".staging" / f"redacted-{uuid.uuid4().hex}"
    texts: dict[str, bytes] = {}
    with disk_errors(version.where), locked(home / ".lock"):
        for file in files:
            if file != "manifest.json":
                text = (version.path / file).read_bytes().decode("utf-8", "surrogateescape")
                suffix = Path(file).suffix.lower()
                texts[file] = redacted_text(text, suffix, words).encode("utf-8", "surrogateescape")
        changed = {
            name: redacted_value(getattr(manifest, name), words)
            for name in ("config", "models", "datasets", "environment", "stats", "governance")
        }
        entry = {"at": refs.now(), "files": sorted({*files, "manifest.json"})}
        changed["governance"][REDACTED] = [*changed["governance"].get(REDACTED, []), entry]
        entries = [_entry(f, texts.get(f.path)) for f in manifest.files]
        new = dataclasses.replace(manifest, files=entries, **changed)
        make_dirs(aside)
        for file, content in {"manifest.json": new.to_json().encode(), **texts}.items():
            _replace_bytes(version.path / file, content, aside)
        shutil.rmtree(aside)


def rekey(store: Store, version: Version, key: str) -> None:
    """Change a version's work key. Raises StoreError for a disk error."""
    home = store.home(version.name)
    aside = home / ".staging" / f"rekeyed-{uuid.uuid4().hex}"
    with disk_errors(version.where), locked(home / ".lock"):
        make_dirs(aside)
        content = dataclasses.replace(version.manifest, key=key).to_json().encode()
        _replace_bytes(version.path / "manifest.json", content, aside)
        shutil.rmtree(aside)


def replace_file(store: Store, version: Version, file: str, content: bytes) -> None:
    """Change a file of a version, and its hash in the manifest. Raises StoreError for a disk error.

    The manifest is written first: after a crash, a repeat finds the file as it was, and completes it.
    """
    home = store.home(version.name)
    aside = home / ".staging" / f"replaced-{uuid.uuid4().hex}"
    with disk_errors(version.where), locked(home / ".lock"):
        make_dirs(aside)
        entries = [_entry(f, content if f.path == file else None) for f in version.manifest.files]
        manifest = dataclasses.replace(version.manifest, files=entries).to_json().encode()
        _replace_bytes(version.path / "manifest.json", manifest, aside)
        _replace_bytes(version.path / file, content, aside)
        shutil.rmtree(aside)


def _entry(before: FileEntry, content: bytes | None) -> FileEntry:
    if content is None:
        return before
    return FileEntry(before.path, hashlib.sha256(content).hexdigest(), len(content))


def _replace_bytes(path: Path, content: bytes, aside: Path) -> None:
    """Write ``path`` atomically."""
    temporary = aside / path.name
    with temporary.open("wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
    fsync(path.parent)
