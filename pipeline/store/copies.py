"""Record where copies of a version are on the Hub, beside the versions: ``data forget`` names them.

Not in the manifest, of which people sign off the bytes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from pipeline.base.files import disk_errors, locked, read_json, replace_json
from pipeline.store import refs
from pipeline.store.manifest import Manifest
from pipeline.store.version import Version

KEY = "hub"
"""Of governance: ``[{repo, revision}]``, in a tombstone and in a version that was pulled."""


def record_copy(version: Version, repo: str, revision: str) -> None:
    """Add a copy, before it is made: one that nobody knows of could not be named.

    Raises:
        StoreError: the record cannot be written.
    """
    home = version.path.parents[1]
    entry = {"repo": repo, "revision": revision}
    with disk_errors(version.where), locked(home / ".lock"):
        copies = recorded_copies(home, version.number)
        if entry not in copies:
            replace_json(_path(home, version.number), {"copies": [*copies, entry]})


def with_copies(manifest: Manifest, home: Path) -> Manifest:
    """The manifest of a version of ``home``, or of a tombstone, with the copies that are recorded beside it."""
    copies: list[Any] = [*manifest.governance.get(KEY, [])]
    copies += [entry for entry in recorded_copies(home, manifest.version) if entry not in copies]
    return dataclasses.replace(manifest, governance={**manifest.governance, KEY: copies}) if copies else manifest


def _path(home: Path, number: int) -> Path:
    return home / "copies" / f"{refs.spell(number)}.json"


def recorded_copies(home: Path, number: int) -> list[Any]:
    """The copies that are recorded beside a version, ``{repo, revision}`` each."""
    try:
        copies = read_json(_path(home, number)).get("copies")
    except FileNotFoundError:
        return []
    return cast("list[Any]", copies) if isinstance(copies, list) else []
