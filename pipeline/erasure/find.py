"""Find the versions that contain given people's answers, and compute each version without them.

Their events and names are in the log: :meth:`pipeline.labelling.log.log.Log.forget` erases those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.base.errors import PipelineError
from pipeline.erasure.erase import ERASED, REPLACES, Key, VersionRecord, all_records, descendants, replacement_of
from pipeline.erasure.mentions import naming_versions
from pipeline.erasure.replacement import of_people, without
from pipeline.labelling.votes_to_rows import Labelled
from pipeline.store import refs
from pipeline.store.parquet import read_footer
from pipeline.store.store import Store, Version

Fate = Literal["replaced", "followed", "emptied"]

_SAMPLED = ("prompts", "comparisons", "rollouts")


@dataclass
class Affected:
    """A version that holds rows of these people, or carries those of one that does.

    Attributes:
        theirs: their rows, by split.
        fate: replaced by one without them; or nothing takes its place: a later version of the same work has
            ``followed`` it and no head or tag names it, or it would be ``emptied``.
        work_key: the key for the version in its place; None where a later version stands for the work.
        replacement: the version in its place already: an earlier attempt got so far.
        labelled: what the others' answers come to; None where it holds no answers of people, only carried rows.
        previous: the version whose rows it carries.
        after, gone: ids of the rows that stay, and of those that go.
    """

    version: Version
    theirs: dict[str, int]
    previous: Key | None
    work_key: str | None
    fate: Fate = "replaced"
    replacement: Version | None = None
    labelled: Labelled | None = None
    after: set[str] = field(default_factory=set[str])
    gone: set[str] = field(default_factory=set[str])

    @property
    def key(self) -> Key:
        return self.version.name, self.version.number


@dataclass
class Traces:
    """What there is of some people in the versions of a store.

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
    made: list[VersionRecord]
    perhaps: list[VersionRecord]
    origins: list[VersionRecord]
    named: list[tuple[Version, list[str]]]
    imported: list[Version]
    damaged: list[str]


def find_traces(store: Store, people: Collection[str], earlier: Collection[str] = ()) -> Traces:
    """Find every trace of these annotators in the versions of ``store``.

    Args:
        people: annotators' ids.
        earlier: references of versions that an attempt before this one found, and may have erased since.
    """
    records, damaged = all_records(store)
    affected, imported = _affected(store, records, people, damaged)
    for one in affected.values():
        _work_out(store, records, affected, one, people)
    sure = _back(records, {*affected, *map(_key, earlier)})
    gone = {i for one in affected.values() for i in one.gone}
    names = {name for name, _ in sure}
    erased = {k for k, v in records.items() if ERASED in v.manifest.governance}
    made = [k for k in descendants(records, sure) if k.key not in erased | set(affected)]
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
    maybe = [k for k in descendants(records, before | sure) if k.key not in certain | set(affected) | erased]
    return Traces(
        affected=list(affected.values()),
        derived=derived,
        made=[k for k in made if k.key not in shown],
        perhaps=maybe,
        origins=[records[k] for k in sorted(sure) if k in records],
        named=naming_versions(records, {*affected, *shown, *((v.name, v.number) for v in imported)}, people),
        imported=imported,
        damaged=damaged,
    )


# Which versions


def _affected(
    store: Store, records: Mapping[Key, VersionRecord], people: Collection[str], damaged: list[str]
) -> tuple[dict[Key, Affected], list[Version]]:
    theirs: dict[Key, dict[str, int]] = {}
    imported: list[Version] = []
    for key, record in records.items():
        version = _version(record)
        if version is None or record.manifest.kind != "preferences":
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
    for key in _carriers_last(records):
        version, previous = _version(records[key]), _previous(records[key])
        if version is not None and (key in theirs or previous in ordered):
            ordered[key] = Affected(version, theirs.get(key, {}), previous, version.manifest.key)
    for one in ordered.values():
        carried = any(other.previous == one.key for other in ordered.values())
        if _later(records, one.version):
            one.work_key = None
            one.fate = "replaced" if carried or _named(store, one.version) else "followed"
    return ordered, [v for v in imported if _brought(v, _previous(records[v.name, v.number]), records, people)]


def _brought(
    version: Version, previous: Key | None, records: Mapping[Key, VersionRecord], people: Collection[str]
) -> bool:
    """Whether rows of theirs came into this very version, and not with the rows that it carries."""
    carried = _version(records[previous]) if previous is not None and previous in records else None
    ids = _ids(carried) if carried is not None else set[str]()
    for key in version.splits:
        if "annotator" in _columns(version, key):
            columns = [c for c in ("id", "annotator") if c in _columns(version, key)]
            rows = version.iter_rows(*_split(key), columns=columns)
            if any(row["annotator"] in people and row.get("id") not in ids for row in rows):
                return True
    return False


def _carriers_last(records: Mapping[Key, VersionRecord]) -> Iterator[Key]:
    """Every version once, after the one whose rows it carries; else in the order of numbers."""
    done: set[Key] = set()
    waiting = sorted(records)
    while waiting:
        later: list[Key] = []
        for key in waiting:
            previous = _previous(records[key])
            if previous in records and previous not in done:
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


def _later(records: Mapping[Key, VersionRecord], version: Version) -> bool:
    """Whether a later version has its key: that one stands for the work."""
    key = version.manifest.key
    return key is not None and any(
        k.path is not None and k.manifest.key == key and k.key[0] == version.name and k.key[1] > version.number
        for k in records.values()
    )


def _named(store: Store, version: Version) -> bool:
    return version.number in [store.head(version.name), *store.tags(version.name).values()]


def _back(records: Mapping[Key, VersionRecord], keys: set[Key]) -> set[Key]:
    """``keys`` and the versions that these replaced: they held the same rows, and models were trained on them."""
    reached: set[Key] = set()
    while keys:
        reached |= keys
        replaced = (records[k].manifest.governance.get(REPLACES) for k in keys if k in records)
        keys = {_key(ref) for ref in replaced if ref} - reached
    return reached


# What they would be


def _work_out(
    store: Store,
    records: Mapping[Key, VersionRecord],
    affected: Mapping[Key, Affected],
    one: Affected,
    people: Collection[str],
) -> None:
    replacement = replacement_of(records, one.key)
    one.replacement = _version(replacement) if replacement is not None else None
    before = _ids(one.version)
    carried = _carried(records, affected, one)
    if one.replacement is not None:
        one.after, one.fate = _ids(one.replacement), "replaced"
    elif of_people(one.version):
        one.labelled = without(one.version, people)
        parts = [one.labelled.preferences, one.labelled.unpaired, one.labelled.edits]
        own = {row["id"] for part in parts for rows in part.values() for row in rows}
        one.after = carried | own
        if not one.after and not any(one.labelled.votes.values()):
            one.fate = "emptied"
    else:
        assert one.previous is not None
        before_it = _version(records[one.previous])
        one.after = carried | (before - (_ids(before_it) if before_it else set[str]()))
        if not one.after:
            one.fate = "emptied"
    one.gone = before - one.after


def _carried(records: Mapping[Key, VersionRecord], affected: Mapping[Key, Affected], one: Affected) -> set[str]:
    if one.previous is None:
        return set()
    if one.previous in affected:
        return affected[one.previous].after
    previous = _version(records[one.previous]) if one.previous in records else None
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


def _version(record: VersionRecord) -> Version | None:
    return None if record.path is None else Version(record.path, record.manifest)


def _previous(record: VersionRecord) -> Key | None:
    """The version whose rows it carries; what ``collect`` makes beside preferences carries none."""
    if record.manifest.kind != "preferences":
        return None
    return next(((p.name, p.version) for p in record.manifest.parents if p.role == "previous"), None)


def _key(ref: str) -> Key:
    parsed = refs.parse_ref(ref)
    return parsed.name, parsed.number or 0
