"""Compare two versions: rows by id, votes, config, stats, parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pipeline.base.records import digest
from pipeline.store.content_id import row_keys
from pipeline.store.manifest import FileEntry
from pipeline.store.parquet import Row, read_batches
from pipeline.store.version import Version

# (key, before, after), where None also stands for "was not there".
Change = tuple[str, Any, Any]


@dataclass(frozen=True)
class SplitDiff:
    """Rows of one split by id: how many only the new version has, and how many only the old one had."""

    added: int
    removed: int
    before: int
    after: int


@dataclass(frozen=True)
class Diff:
    """From ``a`` to ``b``. ``votes_changed`` counts votes in both that differ; ``votes`` shows a few."""

    a: str
    b: str
    same_content: bool
    rows: dict[str, SplitDiff]
    votes_changed: int
    votes: list[Change]
    config: list[Change]
    stats: list[Change]
    parents_added: list[str]
    parents_removed: list[str]


def diff(a: Version, b: Version) -> Diff:
    """Compare two versions, reading only the shards that they do not share.

    Raises:
        StoreError: a shard is missing or corrupt.
    """
    keys = list(dict.fromkeys([*a.splits, *b.splits]))
    votes = [change for key in keys if key.startswith("votes/") for change in _vote_changes(a, b, key)]
    old, new = ({p.ref for p in v.manifest.parents} for v in (a, b))
    return Diff(
        a=a.ref,
        b=b.ref,
        same_content=a.id == b.id,
        rows={key: _split_diff(a, b, key) for key in keys},
        votes_changed=len(votes),
        votes=votes[:5],
        config=changes(a.manifest.config, b.manifest.config),
        stats=changes(a.manifest.stats, b.manifest.stats),
        parents_added=sorted(new - old),
        parents_removed=sorted(old - new),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The leaves that differ, with dotted keys."""
    old, new = dict(_flatten(before)), dict(_flatten(after))
    keys = list(dict.fromkeys([*old, *new]))
    return [(k, old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k)]


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flatten(cast("dict[str, Any]", inner), f"{prefix}{key}.")
        else:
            yield prefix + str(key), inner


def _split_diff(a: Version, b: Version, key: str) -> SplitDiff:
    old, new = _own_batches(a, b, key), _own_batches(b, a, key)
    before = Counter(k for batch in old for k in row_keys(batch, a.where))
    after = Counter(k for batch in new for k in row_keys(batch, b.where))
    return SplitDiff(
        added=(after - before).total(),
        removed=(before - after).total(),
        before=a.splits.get(key, 0),
        after=b.splits.get(key, 0),
    )


def _own_batches(version: Version, other: Version, key: str) -> Iterator[Any]:
    """Batches of the shards that ``other`` lacks: equal shards hold equal rows and cancel out."""
    own, others = _files(version, key), _files(other, key)
    shared = Counter(f.sha256 for f in own) & Counter(f.sha256 for f in others)
    unshared: list[FileEntry] = []
    for entry in own:
        if shared[entry.sha256] > 0:
            shared[entry.sha256] -= 1
        else:
            unshared.append(entry)
    return read_batches([version.path / f.path for f in unshared], version.where)


def _files(version: Version, key: str) -> list[FileEntry]:
    split = version.manifest.splits.get(key)
    return split.files if split else []


def _vote_changes(a: Version, b: Version, key: str) -> list[Change]:
    old, new = _votes(a, b, key), _votes(b, a, key)
    return [
        (vote, old[vote].get("choice"), row.get("choice"))
        for vote, row in new.items()
        if vote in old and digest(old[vote]) != digest(row)
    ]


def _votes(version: Version, other: Version, key: str) -> dict[str, Row]:
    rows = (row for batch in _own_batches(version, other, key) for row in batch.to_pylist())
    # Several annotators may vote on one id.
    return {f"{row['id']} {row.get('annotator') or ''}".strip(): row for row in rows if "id" in row}
