"""Find what a report shows besides its inputs; where that came after the report was written, a new one is due."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.base.json_values import dict_of, parse_json
from pipeline.store.evaluations import newest_made_of
from pipeline.store.store import Store, Version
from pipeline.workflow.graph import Input

AUDIT_LOG = Path(".audit") / "log.jsonl"
"""Of :mod:`pipeline.governance.audit_log`, which is not below this module."""

SHOWN = ("approved", "rejected", "withdrawn", "overridden")
"""Events on a version that change what the page shows: a no ends an approval."""


def made_since(store: Store, inputs: Mapping[str, Input]) -> list[str]:
    """The newest screening and swaps, and the audit log's events on these inputs: with others the page differs."""
    versions = {role: source for role, source in inputs.items() if isinstance(source, Version)}
    extra = [
        newest_made_of(store, versions[role], role, kind)
        for role, kind in (("evaluation", "screening"), ("policy", "fairness"))
        if role in versions
    ]
    # The id alone is that of the rows: other settings may give the same.
    newest = [f"{version.ref} {version.id}" for version in extra if version is not None]
    return newest + _events(store.root / AUDIT_LOG, {version.ref for version in versions.values()})


def _events(log: Path, refs: set[str]) -> list[str]:
    """The hashes of approvals and withdrawals of these versions, and of erasures."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    hashes: list[str] = []
    for line in lines:
        try:
            event = dict_of(parse_json(line))
        except ValueError:  # cut off by a kill, or edited: reading the log says so
            continue
        about = dict_of(event.get("facts")).get("ref") in refs
        if event.get("event") == "erased" or (about and event.get("event") in SHOWN):
            hashes.append(str(event.get("hash")))
    return hashes
