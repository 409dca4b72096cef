"""Find the models made for a person as a reader, the versions that show them, and their heads in shared models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from pipeline.base.records import reader_of
from pipeline.erasure.amend import replace_file
from pipeline.erasure.erase_version import Key, VersionRecord, all_records, descendants
from pipeline.erasure.replacement import of_people
from pipeline.store.parquet import read_footer
from pipeline.store.store import Store
from pipeline.store.version import READER_HEADS, Version

SHOWING = ("evaluation", "screening", "fairness", "report")
"""Kinds of versions that hold a policy's texts or figures."""


def has_voted(store: Store, annotator: str) -> bool:
    """Whether a version holds single answers of this annotator, a person or a simulated reader."""
    versions = (Version(r.path, r.manifest) for r in all_records(store)[0].values() if r.path is not None)
    return any(_answers(v, annotator) for v in versions if v.manifest.kind == "preferences" and of_people(v))


def _answers(version: Version, annotator: str) -> bool:
    for key in version.splits:
        config, _, split = key.rpartition("/")
        shards = version.shards(split, config or "default")
        if shards and "annotator" in read_footer(shards[0], version.where).schema.names:
            rows = version.iter_rows(split, config or "default", columns=["annotator"])
            if any(row["annotator"] == annotator for row in rows):
                return True
    return False


def made_for(records: Mapping[Key, VersionRecord], people: Collection[str]) -> list[Version]:
    """The versions of these people's own runs, records of readers that they are in, and what shows either."""
    names = {reader_of(annotator) for annotator in people}
    with_them: set[Key] = set()
    for key, record in records.items():
        manifest = record.manifest
        run = str(manifest.config.get("name") or "")
        listed = manifest.stats.get("readers") if manifest.stage == "readers" else ()
        shown = {figures["reader"] for figures in listed or ()}
        if any(run.endswith(f"-{name}") for name in names) or shown & names:
            with_them.add(key)
    for record in descendants(records, with_them):
        if record.manifest.kind in SHOWING or record.manifest.stage == "merge":
            with_them.add(record.key)
    return [Version(r.path, r.manifest) for key in sorted(with_them) if (r := records[key]).path is not None]


def with_heads_of(records: Mapping[Key, VersionRecord], people: Collection[str]) -> list[Version]:
    """The shared reward models that have a head for one of these people."""
    versions = [
        Version(r.path, r.manifest)
        for _, r in sorted(records.items())
        if r.path is not None and r.manifest.stage == "reward" and (r.path / READER_HEADS).is_file()
    ]
    names = {reader_of(annotator) for annotator in people}
    return [version for version in versions if names & _heads(version).keys()]


def drop_heads(store: Store, shared: Iterable[Version], people: Collection[str]) -> Iterator[str]:
    """Take these people's heads out of shared reward models, whose own weights stay; report it in lines."""
    names = {reader_of(annotator) for annotator in people}
    for version in shared:
        left = {name: head for name, head in _heads(version).items() if name not in names}
        replace_file(store, version, READER_HEADS, import_module("safetensors.numpy").save(left))
        yield f"{version.ref}: their head erased"


def _heads(version: Version) -> dict[str, Any]:
    return import_module("safetensors.numpy").load((version.path / READER_HEADS).read_bytes())
