"""Publish replacements of affected versions under work keys that still count as done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.erasure.amend import rekey
from pipeline.erasure.erase_version import Key, all_records
from pipeline.erasure.find import Affected, Traces
from pipeline.erasure.rekey import key_with
from pipeline.erasure.replacement import publish_replacement
from pipeline.store import refs
from pipeline.store.manifest import Manifest, Parent
from pipeline.store.store import Store, Version


def replace(store: Store, traces: Traces) -> dict[Key, Version]:
    """Publish the replacement of every affected version, unless an earlier attempt did.

    Returns the replacements by the key of the replaced version.
    """
    replacements: dict[Key, Version] = {}
    affected = {a.key for a in traces.affected}
    for entry in traces.affected:
        if entry.fate != "replaced":
            continue
        previous = None
        if entry.previous in affected:
            previous = replacements.get(entry.previous)
        elif entry.previous is not None:
            previous = store.resolve(f"{entry.previous[0]}@{refs.spell(entry.previous[1])}")
        parents = _parents(entry, affected, replacements)
        key = entry.work_key
        if (
            key is not None
            and entry.replacement is None
            and (new := _key_after(store, entry.version, replacements))
        ):
            # All outputs of one run of a stage share its key: for collect also prompts and comparisons.
            for output in _outputs_beside(store, key):
                rekey(store, output, new)
            key = new
        replacements[entry.key] = entry.replacement or publish_replacement(
            store, entry.version, parents, key, previous, entry.labelled, entry.after
        )
    return replacements


def _outputs_beside(store: Store, key: str) -> Iterator[Version]:
    records, _ = all_records(store)
    for record in records.values():
        if record.path is not None and record.manifest.key == key and record.manifest.kind != "preferences":
            yield Version(record.path, record.manifest)


def _key_after(store: Store, version: Version, replacements: Mapping[Key, Version]) -> str | None:
    """The work key once the replacements are its inputs; None where it does not change or cannot be computed."""
    before: dict[str, Manifest] = {}
    for parent in version.manifest.parents:
        home = store.home(parent.name)
        path = refs.version_path(home, parent.version) / "manifest.json"
        path = path if path.is_file() else refs.tombstone_path(home, parent.version)
        if not path.is_file():
            return None
        before[parent.role] = Manifest.from_json(path.read_text("utf-8"), str(path))
    replaced = {
        p.role: replacements[p.name, p.version].manifest
        for p in version.manifest.parents
        if (p.name, p.version) in replacements
    }
    return key_with(version.manifest, before, {**before, **replaced}) if replaced else None


def _parents(entry: Affected, affected: set[Key], replacements: dict[Key, Version]) -> list[Parent]:
    """The parents of a replacement: erased ones are replaced, or dropped without a replacement."""
    parents: list[Parent] = []
    for parent in entry.version.manifest.parents:
        replacement = replacements.get((parent.name, parent.version))
        if replacement is not None:
            parents.append(Parent(replacement.name, replacement.number, replacement.id, parent.role))
        elif (parent.name, parent.version) not in affected:
            parents.append(parent)
    return parents
