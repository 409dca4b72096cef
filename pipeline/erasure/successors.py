"""Publish replacements of affected versions under keys by which their work still counts as done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.erasure.amend import rekey
from pipeline.erasure.erase import Key, all_records
from pipeline.erasure.find import Affected, Traces
from pipeline.erasure.rekey import key_with
from pipeline.erasure.replacement import publish_replacement
from pipeline.store import refs
from pipeline.store.manifest import Manifest, Parent
from pipeline.store.store import Store, Version


def replace(store: Store, traces: Traces) -> dict[Key, Version]:
    """Publish the replacement of every affected version, unless an earlier attempt did."""
    replacements: dict[Key, Version] = {}
    affected = {a.key for a in traces.affected}
    for one in traces.affected:
        if one.fate != "replaced":
            continue
        previous = None
        if one.previous in affected:
            previous = replacements.get(one.previous)
        elif one.previous is not None:
            previous = store.resolve(f"{one.previous[0]}@{refs.spell(one.previous[1])}")
        parents = _parents(one, affected, replacements)
        key = one.work_key
        if key is not None and one.replacement is None and (new := _key_after(store, one.version, replacements)):
            # All outputs of one piece of work have its key: of collect, the prompts and comparisons too.
            for beside in _outputs_beside(store, key):
                rekey(store, beside, new)
            key = new
        replacements[one.key] = one.replacement or publish_replacement(
            store, one.version, parents, key, previous, one.labelled, one.after
        )
    return replacements


def _outputs_beside(store: Store, key: str) -> Iterator[Version]:
    records, _ = all_records(store)
    for record in records.values():
        if record.path is not None and record.manifest.key == key and record.manifest.kind != "preferences":
            yield Version(record.path, record.manifest)


def _key_after(store: Store, version: Version, replacements: Mapping[Key, Version]) -> str | None:
    """The key under which the work is looked for once the config names the replacements of its inputs."""
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


def _parents(one: Affected, affected: set[Key], replacements: dict[Key, Version]) -> list[Parent]:
    """The parents of a replacement: erased ones are replaced too, or dropped where nothing replaces them."""
    parents: list[Parent] = []
    for parent in one.version.manifest.parents:
        replacement = replacements.get((parent.name, parent.version))
        if replacement is not None:
            parents.append(Parent(replacement.name, replacement.number, replacement.id, parent.role))
        elif (parent.name, parent.version) not in affected:
            parents.append(parent)
    return parents
