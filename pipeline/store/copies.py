"""Record in a version's manifest where copies of it are on the Hub: ``data forget`` names them."""

from __future__ import annotations

import json

from pipeline.base.files import disk_errors, locked, read_json, replace_text
from pipeline.store.version import Version

KEY = "hub"
"""Of governance: ``[{repo, revision}]``."""


def record_copy(version: Version, repo: str, revision: str) -> None:
    """Add a copy, before it is made: one that nobody knows of could not be named.

    Raises:
        StoreError: the manifest cannot be written.
    """
    home = version.path.parents[1]
    with disk_errors(version.where), locked(home / ".lock"):
        manifest = read_json(version.path / "manifest.json")
        governance = manifest["governance"] = {**manifest.get("governance", {})}
        entry = {"repo": repo, "revision": revision}
        if entry not in governance.get(KEY, []):
            governance[KEY] = [*governance.get(KEY, []), entry]
            text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
            replace_text(version.path / "manifest.json", text, home / "refs")
