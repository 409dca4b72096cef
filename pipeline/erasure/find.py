"""What of some people is in the versions: which hold rows of theirs, and what they would be without them.

It changes nothing. Their events and names are the log's (:meth:`pipeline.labelling.log.log.Log.forget`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.base.errors import PipelineError
from pipeline.erasure.erase import ERASED, REPLACES, Key, Known, descendants, everything, heir_of
from pipeline.erasure.mentions import naming_versions
from pipeline.erasure.replacement import of_people, without
from pipeline.labelling.items import Item
from pipeline.labelling.votes_to_rows import Labelled
from pipeline.store import refs
from pipeline.store.parquet import read_footer
from pipeline.store.store import Store, Version

Fate = Literal["replaced", "followed", "emptied"]

_SAMPLED = ("prompts", "comparisons", "rollouts")


@dataclass
class Affected:
    """A version that holds rows of theirs, or carries those of one that does.

    Attributes:
        theirs: their rows, by split.
        fate: replaced by one without them; or nothing takes its place: a later version of the same work has
            ``followed`` it and no head or tag names it, or it would be ``emptied``.
        work: the key for the version in its place; None where a later version stands for the work.
        heir: what takes its place already: an attempt before this one got so far.
        found: what the others' answers amount to; None where no answers of people are in it, only carried rows.
        previous: the version whose rows it carries.
        gone: ids of the rows that go; ``before`` and ``after`` count those of each split.
    """

    version: Version
    theirs: dict[str, int]
    previous: Key | None
    work: str | None
    fate: Fate = "replaced"
    heir: Version | None = None
    items: list[Item] = field(default_factory=list["Item"])
    found: Labelled | None = None
    after: set[str] = field(default_factory=set[str])
    gone: set[str] = field(default_factory=set[str])

    @property
    def key(self) -> Key:
        return self.version.name, self.version.number


@dataclass
class Found:
    """What :func:`look` found.

    Attributes:
        affected: one that carries another's rows comes after it.
        derived: versions made from them that show rows which go, and how many; models apart.
        made: everything else that was made from them, models among it, nearest first.
        perhaps: made from versions erased earlier, of which nobody knows any more whose rows they held.
        origins: what the rows were in, versions replaced earlier included.
        named: other versions whose texts name them, such as a model's figures by person, and those texts.
        imported: hold rows of theirs that came from outside, and are left alone.
        damaged: a line about each version that cannot be read.
    """

    affected: list[Affected]
    derived: list[tuple[Version, int]]
    made: list[Known]
    perhaps: list[Known]
    origins: list[Known]
    named: list[tuple[Version, list[str]]]
    imported: list[Version]
    damaged: list[str]


def look(store: Store, people: Collection[str], earlier: Collection[str] = ()) -> Found:
    """Everything of these annotators in the versions of ``store``.

    Args:
        people: annotators' ids.
        earlier: references of versions that an attempt before this one found, and may have erased since.
    """
    known, damaged = everything(store)
    affected, imported = _affected(store, known, people, damaged)
    for one in affected.values():
        _work_out(store, known, affected, one, people)
    sure = _back(known, {*affected, *map(_key, earlier)})
    gone = {i for one in affected.values() for i in one.gone}
    names = {name for name, _ in sure}
    erased = {k for k, v in known.items() if ERASED in v.manifest.governance}
    made = [k for k in descendants(known, sure) if k.key not in erased | set(affected)]
    derived: list[tuple[Version, int]] = []
    for version in filter(None, map(_version, made)):
        try:
            # A comparison may have the id of the pair that was made of it; nobody's answer is in it.
            shown_ids = set[str]() if version.manifest.kind in _SAMPLED else gone
            if rows := _rows_among(version, shown_ids, people):
                derived.append((version, rows))
        except PipelineError as err:
            damaged.append(str(err))
    shown = {(v.name, v.number) for v, _ in derived}
    certain = {k.key for k in made}
    before = {k for k in erased if k[0] in names}
    maybe = [k for k in descendants(known, before | sure) if k.key not in certain | set(affected) | erased]
    return Found(
        affected=list(affected.values()),
        derived=derived,
        made=[k for k in made if k.key not in shown],
        perhaps=maybe,
        origins=[known[k] for k in sorted(sure) if k in known],
        named=naming_versions(known, {*affected, *shown, *((v.name, v.number) for v in imported)}, people),
        imported=imported,
        damaged=damaged,
    )


# Which versions


def _affected(
    store: Store, known: Mapping[Key, Known], people: Collection[str], damaged: list[str]
) -> tuple[dict[Key, Affected], list[Version]]:
    theirs: dict[Key, dict[str, int]] = {}
    imported: list[Version] = []
    for key, one in known.items():
        version = _version(one)
        if version is None or one.manifest.kind != "preferences":
            continue
        try:
            rows = _rows_of(version, people)
        except PipelineError as err:
            damaged.append(str(err))
            continue
        if rows and not of_people(version):
            imported.append(version)
        elif rows:
            theirs[key] = rows
    ordered: dict[Key, Affected] = {}
    for key in _carriers_last(known):
        version, previous = _version(known[key]), _previous(known[key])
        if version is not None and (key in theirs or previous in ordered):
            ordered[key] = Affected(version, theirs.get(key, {}), previous, version.manifest.key)
    for one in ordered.values():
        carried = any(other.previous == one.key for other in ordered.values())
        if _later(known, one.version):
            one.work = None
            one.fate = "replaced" if carried or _named(store, one.version) else "followed"
    return ordered, [v for v in imported if _brought(v, _previous(known[v.name, v.number]), known, people)]


def _brought(version: Version, previous: Key | None, known: Mapping[Key, Known], people: Collection[str]) -> bool:
    """Whether rows of theirs came into this very version, and not with the rows that it carries."""
    carried = _version(known[previous]) if previous is not None and previous in known else None
    ids = _ids(carried) if carried is not None else set[str]()
    for key in version.splits:
        if "annotator" in _columns(version, key):
            columns = [c for c in ("id", "annotator") if c in _columns(version, key)]
            rows = version.iter_rows(*_split(key), columns=columns)
            if any(row["annotator"] in people and row.get("id") not in ids for row in rows):
                return True
    return False


def _carriers_last(known: Mapping[Key, Known]) -> Iterator[Key]:
    """Every version once, after the one whose rows it carries; else in the order of numbers."""
    done: set[Key] = set()
    waiting = sorted(known)
    while waiting:
        later: list[Key] = []
        for key in waiting:
            previous = _previous(known[key])
            if previous in known and previous not in done:
                later.append(key)
            else:
                done.add(key)
                yield key
        assert len(later) < len(waiting), f"versions that carry each other: {later}"
        waiting = later


def _rows_of(version: Version, people: Collection[str]) -> dict[str, int]:
    """How many rows of each split are theirs."""
    counts: dict[str, int] = {}
    for key in version.splits:
        if "annotator" in _columns(version, key):
            rows = version.iter_rows(*_split(key), columns=["annotator"])
            counts[key] = sum(row["annotator"] in people for row in rows)
    return {key: n for key, n in counts.items() if n}


def _later(known: Mapping[Key, Known], version: Version) -> bool:
    """Whether a later version has its key: that one stands for the work."""
    key = version.manifest.key
    return key is not None and any(
        k.path is not None and k.manifest.key == key and k.key[0] == version.name and k.key[1] > version.number
        for k in known.values()
    )


def _named(store: Store, version: Version) -> bool:
    return version.number in [store.head(version.name), *store.tags(version.name).values()]


def _back(known: Mapping[Key, Known], keys: set[Key]) -> set[Key]:
    """With the versions in whose place these stand: they held the same rows, and models were trained on them."""
    found: set[Key] = set()
    while keys:
        found |= keys
        replaced = (known[k].manifest.governance.get(REPLACES) for k in keys if k in known)
        keys = {_key(ref) for ref in replaced if ref} - found
    return found


# What they would be


def _work_out(
    store: Store,
    known: Mapping[Key, Known],
    affected: Mapping[Key, Affected],
    one: Affected,
    people: Collection[str],
) -> None:
    heir = heir_of(known, one.key)
    one.heir = _version(heir) if heir is not None else None
    before = _ids(one.version)
    carried = _carried(known, affected, one)
    if one.heir is not None:
        one.after, one.fate = _ids(one.heir), "replaced"
    elif of_people(one.version):
        one.items, one.found = without(one.version, people)
        parts = [one.found.preferences, one.found.unpaired, one.found.edits]
        own = {row["id"] for part in parts for rows in part.values() for row in rows}
        one.after = carried | own
        if not one.after and not any(one.found.votes.values()):
            one.fate = "emptied"
    else:
        assert one.previous is not None
        before_it = _version(known[one.previous])
        one.after = carried | (before - (_ids(before_it) if before_it else set[str]()))
        if not one.after:
            one.fate = "emptied"
    one.gone = before - one.after


def _carried(known: Mapping[Key, Known], affected: Mapping[Key, Affected], one: Affected) -> set[str]:
    if one.previous is None:
        return set()
    if one.previous in affected:
        return affected[one.previous].after
    previous = _version(known[one.previous]) if one.previous in known else None
    return _ids(previous) if previous is not None else set()


# Rows


def _rows_among(version: Version, gone: Collection[str], people: Collection[str]) -> int:
    """How many rows have one of these ids or annotators; 0 for a model."""
    count = 0
    for key in version.splits:
        columns = [c for c in ("id", "annotator") if c in _columns(version, key)]
        if columns:
            rows = version.iter_rows(*_split(key), columns=columns)
            count += sum(row.get("id") in gone or row.get("annotator") in people for row in rows)
    return count


def _ids(version: Version) -> set[str]:
    """Ids of the rows that something may be trained on."""
    keys = [key for key in version.splits if _split(key)[1] in ("default", "unpaired", "edits")]
    return {row["id"] for key in keys for row in version.iter_rows(*_split(key), columns=["id"])}


def _columns(version: Version, key: str) -> list[str]:
    shards = version.shards(*_split(key))
    return read_footer(shards[0], version.where).schema.names if shards else []


def _split(key: str) -> tuple[str, str]:
    """(split, config) of a key of a manifest's splits."""
    config, _, split = key.rpartition("/")
    return split, config or "default"


def _version(known: Known) -> Version | None:
    return None if known.path is None else Version(known.path, known.manifest)


def _previous(known: Known) -> Key | None:
    """The version whose rows it carries; what ``collect`` makes beside preferences carries none."""
    if known.manifest.kind != "preferences":
        return None
    return next(((p.name, p.version) for p in known.manifest.parents if p.role == "previous"), None)


def _key(ref: str) -> Key:
    parsed = refs.parse_ref(ref)
    return parsed.name, parsed.number or 0
