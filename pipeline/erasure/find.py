"""Find the versions that contain given people's answers, and compute each version without them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.base.errors import PipelineError
from pipeline.erasure.erase_version import (
    ERASED,
    REPLACES,
    Key,
    VersionRecord,
    all_records,
    descendants,
    replacement_of,
)
from pipeline.erasure.mentions import naming_versions
from pipeline.erasure.readers import made_for, with_heads_of
from pipeline.erasure.replacement import of_people, without
from pipeline.labelling.votes_to_rows import Labelled
from pipeline.store import refs
from pipeline.store.parquet import read_footer
from pipeline.store.store import Store, Version

Fate = Literal["replaced", "followed", "emptied"]

_SAMPLED = ("prompts", "comparisons", "rollouts")


@dataclass
class Affected:
    """A version that holds rows of these people, or carries such rows of another version.

    Attributes:
        rows: number of their rows, by split.
        previous: the version whose rows it carries.
        work_key: the replacement's work key; None where a later version has this one's.
        fate: ``replaced`` by a version without their rows; or erased: ``followed`` by a later version of the same
            work, while no head or tag names it, or ``emptied``, as no row would be left.
        replacement: its replacement by an earlier attempt.
        labelled: the rows of all other people's answers; None where it holds only carried rows.
        after, gone: ids of the rows that stay, and of those that go.
    """

    version: Version
    rows: dict[str, int]
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
    """The traces of given people in the versions of a store.

    Attributes:
        affected: versions to replace or erase; a version comes after the one whose rows it carries.
        derived: versions made from those that contain removed rows, with their number; no models.
        made: all other descendants, models included, nearest first.
        perhaps: descendants of versions erased earlier, whose rows may have been these people's.
        origins: the versions that held the rows, including ones replaced earlier.
        named: other versions whose texts name them, such as a model's figures by person, and those texts.
        imported: versions with imported rows of these people, which stay.
        damaged: an error line for each unreadable version.
        own: models made for them as readers, and what shows these models' texts and figures.
        heads: shared reward models that have a head for them.
    """

    affected: list[Affected]
    derived: list[tuple[Version, int]]
    made: list[VersionRecord]
    perhaps: list[VersionRecord]
    origins: list[VersionRecord]
    named: list[tuple[Version, list[str]]]
    imported: list[Version]
    damaged: list[str]
    own: list[Version] = field(default_factory=list[Version])
    heads: list[Version] = field(default_factory=list[Version])


def find_traces(store: Store, people: Collection[str], earlier: Collection[str] = ()) -> Traces:
    """Find every trace of these annotators in the versions of ``store``.

    Args:
        people: annotators' ids.
        earlier: references of versions that an interrupted attempt found, and may have erased.
    """
    records, damaged = all_records(store)
    affected, imported = _affected(store, records, people, damaged)
    for entry in affected.values():
        _compute_without(records, affected, entry, people)
    own = made_for(records, people)
    origins = _with_replaced(records, {*affected, *map(_key, earlier)})
    gone = {i for entry in affected.values() for i in entry.gone}
    names = {name for name, _ in origins}
    erased = {k for k, v in records.items() if ERASED in v.manifest.governance}
    apart_from_own = {(v.name, v.number) for v in own}
    made = [r for r in descendants(records, origins) if r.key not in erased | set(affected) | apart_from_own]
    derived: list[tuple[Version, int]] = []
    for version in filter(None, map(_version, made)):
        try:
            # A comparison may have the id of the pair made from it, but contains no answer.
            shown_ids = set[str]() if version.manifest.kind in _SAMPLED else gone
            if rows := _rows_among(version, shown_ids, people):
                derived.append((version, rows))
        except PipelineError as err:
            damaged.append(str(err))
    shown = {(v.name, v.number) for v, _ in derived}
    apart = {r.key for r in made} | set(affected) | erased | apart_from_own
    erased_before = {key for key in erased if key[0] in names}
    return Traces(
        affected=list(affected.values()),
        derived=derived,
        made=[r for r in made if r.key not in shown],
        perhaps=[r for r in descendants(records, erased_before | origins) if r.key not in apart],
        origins=[records[key] for key in sorted(origins) if key in records],
        named=naming_versions(
            records, {*affected, *shown, *apart_from_own, *((v.name, v.number) for v in imported)}, people
        ),
        imported=imported,
        damaged=damaged,
        own=own,
        heads=with_heads_of(records, people),
    )


# Versions with such rows


def _affected(
    store: Store, records: Mapping[Key, VersionRecord], people: Collection[str], damaged: list[str]
) -> tuple[dict[Key, Affected], list[Version]]:
    rows_by_version: dict[Key, dict[str, int]] = {}
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
            rows_by_version[key] = rows
    ordered: dict[Key, Affected] = {}
    for key in _carriers_last(records):
        version, previous = _version(records[key]), _previous(records[key])
        if version is not None and (key in rows_by_version or previous in ordered):
            ordered[key] = Affected(version, rows_by_version.get(key, {}), previous, version.manifest.key)
    carried = {entry.previous for entry in ordered.values()}
    for entry in ordered.values():
        if _has_later(records, entry.version):
            entry.work_key = None
            keep = entry.key in carried or _has_head_or_tag(store, entry.version)
            entry.fate = "replaced" if keep else "followed"
    return ordered, [v for v in imported if _imports_rows(v, records, people)]


def _imports_rows(version: Version, records: Mapping[Key, VersionRecord], people: Collection[str]) -> bool:
    """Whether these people's rows were imported into this version itself, rather than carried from another."""
    carried = _ids_at(records, _previous(records[version.name, version.number]))
    for key in version.splits:
        columns = [c for c in ("id", "annotator") if c in _columns(version, key)]
        if "annotator" in columns:
            rows = version.iter_rows(*_split(key), columns=columns)
            if any(row["annotator"] in people and row.get("id") not in carried for row in rows):
                return True
    return False


def _carriers_last(records: Mapping[Key, VersionRecord]) -> Iterator[Key]:
    """All versions in the order of numbers, but each after the one whose rows it carries."""
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
    """The number of their rows, by split."""
    counts: dict[str, int] = {}
    for key in version.splits:
        if "annotator" in _columns(version, key):
            rows = version.iter_rows(*_split(key), columns=["annotator"])
            counts[key] = sum(row["annotator"] in people for row in rows)
    return {key: n for key, n in counts.items() if n}


def _has_later(records: Mapping[Key, VersionRecord], version: Version) -> bool:
    """Whether a later version has the same work key."""
    key = version.manifest.key
    return key is not None and any(
        k.path is not None and k.manifest.key == key and k.key[0] == version.name and k.key[1] > version.number
        for k in records.values()
    )


def _has_head_or_tag(store: Store, version: Version) -> bool:
    return version.number in [store.head(version.name), *store.tags(version.name).values()]


def _with_replaced(records: Mapping[Key, VersionRecord], keys: set[Key]) -> set[Key]:
    """``keys`` and the versions that these replaced, which held the same rows."""
    reached: set[Key] = set()
    while keys:
        reached |= keys
        replaced = (records[k].manifest.governance.get(REPLACES) for k in keys if k in records)
        keys = {_key(ref) for ref in replaced if ref} - reached
    return reached


# Versions without these rows


def _compute_without(
    records: Mapping[Key, VersionRecord],
    affected: Mapping[Key, Affected],
    entry: Affected,
    people: Collection[str],
) -> None:
    """Set what stays and what goes of a version; the one whose rows it carries must be computed before."""
    replacement = replacement_of(records, entry.key)
    entry.replacement = _version(replacement) if replacement is not None else None
    before, previous = _ids(entry.version), affected.get(entry.previous) if entry.previous else None
    carried = previous.after if previous else _ids_at(records, entry.previous)
    if entry.replacement is not None:
        entry.after, entry.fate = _ids(entry.replacement), "replaced"
    elif of_people(entry.version):
        entry.labelled = without(entry.version, people)
        parts = [entry.labelled.preferences, entry.labelled.unpaired, entry.labelled.edits]
        entry.after = carried | {row["id"] for part in parts for rows in part.values() for row in rows}
        if not entry.after and not any(entry.labelled.votes.values()):
            entry.fate = "emptied"
    else:
        entry.after = carried | (before - _ids_at(records, entry.previous))
        if not entry.after:
            entry.fate = "emptied"
    entry.gone = before - entry.after


# Rows


def _rows_among(version: Version, gone: Collection[str], people: Collection[str]) -> int:
    """The number of rows with one of these ids or annotators; 0 for a model."""
    count = 0
    for key in version.splits:
        columns = [c for c in ("id", "annotator") if c in _columns(version, key)]
        if columns:
            rows = version.iter_rows(*_split(key), columns=columns)
            count += sum(row.get("id") in gone or row.get("annotator") in people for row in rows)
    return count


def _ids(version: Version) -> set[str]:
    """Ids of the training rows."""
    keys = [key for key in version.splits if _split(key)[1] in ("default", "unpaired", "edits")]
    return {row["id"] for key in keys for row in version.iter_rows(*_split(key), columns=["id"])}


def _ids_at(records: Mapping[Key, VersionRecord], key: Key | None) -> set[str]:
    """:func:`_ids`; empty where there is no such version."""
    version = _version(records[key]) if key is not None and key in records else None
    return _ids(version) if version is not None else set()


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
    """The version whose rows a version of preferences carries."""
    if record.manifest.kind != "preferences":
        return None
    return next(((p.name, p.version) for p in record.manifest.parents if p.role == "previous"), None)


def _key(ref: str) -> Key:
    parsed = refs.parse_ref(ref)
    return parsed.name, parsed.number or 0
