"""What takes the place of versions with somebody's rows, so that the work they stand for still counts as done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.erasure.amend import rekey
from pipeline.erasure.erase import Key, everything
from pipeline.erasure.find import Affected, Found
from pipeline.erasure.rekey import key_with
from pipeline.erasure.replacement import publish_heir
from pipeline.store import refs
from pipeline.store.manifest import Manifest, Parent
from pipeline.store.store import Store, Version


def replace(store: Store, found: Found) -> dict[Key, Version]:
    """Publish what takes the place of versions, or find what an earlier attempt published."""
    heirs: dict[Key, Version] = {}
    affected = {a.key for a in found.affected}
    for one in found.affected:
        if one.fate != "replaced":
            continue
        previous = None
        if one.previous in affected:
            previous = heirs.get(one.previous)
        elif one.previous is not None:
            previous = store.resolve(f"{one.previous[0]}@{refs.spell(one.previous[1])}")
        answers = (one.items, one.found) if one.found is not None else None
        parents = _parents(one, affected, heirs)
        work = one.work
        if work is not None and one.heir is None and (key := _key_after(store, one.version, heirs)) is not None:
            # All outputs of one piece of work have its key: of collect, the prompts and comparisons too.
            for beside in _outputs_beside(store, work):
                rekey(store, beside, key)
            work = key
        heirs[one.key] = one.heir or publish_heir(store, one.version, parents, work, previous, answers, one.after)
    return heirs


def _outputs_beside(store: Store, key: str) -> Iterator[Version]:
    known, _ = everything(store)
    for one in known.values():
        if one.path is not None and one.manifest.key == key and one.manifest.kind != "preferences":
            yield Version(one.path, one.manifest)


def _key_after(store: Store, version: Version, heirs: Mapping[Key, Version]) -> str | None:
    """The key under which the work is looked for once the config names the heirs of its inputs."""
    before: dict[str, Manifest] = {}
    for parent in version.manifest.parents:
        home = store.home(parent.name)
        path = refs.version_path(home, parent.version) / "manifest.json"
        path = path if path.is_file() else refs.tombstone_path(home, parent.version)
        if not path.is_file():
            return None
        before[parent.role] = Manifest.from_json(path.read_text("utf-8"), str(path))
    replaced = {
        p.role: heirs[p.name, p.version].manifest for p in version.manifest.parents if (p.name, p.version) in heirs
    }
    return key_with(version.manifest, before, {**before, **replaced}) if replaced else None


def _parents(one: Affected, affected: set[Key], heirs: dict[Key, Version]) -> list[Parent]:
    """Those of a version, heirs in the places of erased ones; nothing is left of a parent without one."""
    parents: list[Parent] = []
    for parent in one.version.manifest.parents:
        heir = heirs.get((parent.name, parent.version))
        if heir is not None:
            parents.append(Parent(heir.name, heir.number, heir.id, parent.role))
        elif (parent.name, parent.version) not in affected:
            parents.append(parent)
    return parents
