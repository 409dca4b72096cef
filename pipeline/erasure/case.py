"""The erasure of one person: its state in ``data/.forgetting/``, and its description for the operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.base.records import digest
from pipeline.erasure.erase_version import VersionRecord
from pipeline.erasure.find import Affected, Traces
from pipeline.governance.published import Publication

Withdraw = Literal["private", "delete"]
"""What is done with copies on the Hub: all made private; or those that hold rows deleted."""

_MODELS = ("adapter", "model")
_WITHDRAWN: dict[Withdraw, str] = {
    "private": "copies on the Hub: made private, their tags deleted; the history keeps them",
    "delete": "copies on the Hub: repositories with rows are deleted, those of models made private",
}


@dataclass
class Case:
    """An erasure in progress, kept in ``data/.forgetting/`` until it is complete.

    Attributes:
        asked: the person's name or id as the operator gave it.
        annotators: all ids of the person.
        projects: ids of the person by the directory of a log; they differ between logs.
        versions: versions with their rows, found by this attempt or an earlier one.
        heads: the head of each name before the first version was replaced.
        tags: tags removed with versions, as ``name@tag``.
        copies: references of the versions whose copies on the Hub are to be withdrawn.
        event: the number of its event in the audit log; 0 before it is noted.
    """

    asked: str
    annotators: list[str] = field(default_factory=list[str])
    projects: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    versions: list[str] = field(default_factory=list[str])
    heads: dict[str, int] = field(default_factory=dict[str, int])
    tags: list[str] = field(default_factory=list[str])
    copies: list[str] = field(default_factory=list[str])
    event: int = 0

    def path(self, root: Path) -> Path:
        return root / ".forgetting" / f"{digest(sorted(self.annotators))[:16]}.json"


def describe(case: Case, traces: Traces, ours: Sequence[Publication], withdraw: Withdraw | None) -> Iterator[str]:
    """Describe the erasure, in lines.

    Args:
        ours: the copies on the Hub that were made here.
        withdraw: what is done with those.
    """
    for project, ids in case.projects.items():
        yield f"{', '.join(ids)} in {project}: every event and the name are erased"
    affected = [f"{entry.version.ref}: {_fate(entry)}" for entry in traces.affected]
    derived = [f"{v.ref}: {v.manifest.kind}, {rows:,} such rows" for v, rows in traces.derived]
    named = [f"{v.ref}: {v.manifest.kind}, {', '.join(texts)}" for v, texts in traces.named]
    models = _models(traces.made)
    yield from _listed("versions with this person's rows", affected)
    yield from _listed("derived from them and showing removed rows: erased", derived)
    yield from _listed("made for them as a reader: erased", [f"{v.ref}: {v.manifest.kind}" for v in traces.own])
    yield from _listed("shared models with a head for them, which goes", [version.ref for version in traces.heads])
    yield from _listed("naming the person in texts: these lines are removed, and the rest stays", named)
    yield from _listed("models trained on them, which stay", map(_origin, models))
    yield from _listed(
        "also derived from them, without such rows", [_origin(r) for r in traces.made if r not in models]
    )
    perhaps = map(_origin, _models(traces.perhaps))
    yield from _listed("models derived from versions erased earlier, perhaps from this person's rows too", perhaps)
    here = {(copy.ref, copy.repo, copy.tag) for copy in ours}
    others = dict.fromkeys(copy for copy in hub_copies(published_records(traces)) if copy not in here)
    hub = [f"{copy.ref}: {copy}" for copy in ours]
    stay = [f"{ref}: {repo} at {revision}" for ref, repo, revision in others]
    if withdraw is not None:
        yield from _listed(_WITHDRAWN[withdraw], hub)
    yield from _listed(
        "copies on the Hub, which stay until you delete them there", [*([] if withdraw else hub), *stay]
    )
    for version in traces.imported:
        yield f"\n{version.ref} has imported rows of this person: it stays as it is"
    for line in traces.damaged:
        yield f"\nwarning: cannot be read, and stays: {line}"


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    for n, line in enumerate(lines):
        yield from ([f"\n{title}"] if n == 0 else [])
        yield f"  {line}"


def _fate(entry: Affected) -> str:
    rows = ", ".join(f"{n:,} in {key}" for key, n in entry.rows.items()) or "only carried ones"
    fates = {
        "replaced": f"replaced by a new version with {len(entry.gone):,} training rows less",
        "followed": "erased; a later version of the same work exists",
        "emptied": "erased; no row would be left",
    }
    return f"{rows}; {fates[entry.fate]}"


def _origin(record: VersionRecord) -> str:
    parents = ", ".join(p.ref for p in record.manifest.parents if p.role != "base")
    return f"{record.ref}: {record.manifest.kind}, from {parents}{'' if record.path else ' (collected)'}"


def published_records(traces: Traces) -> list[VersionRecord]:
    """The versions of which a copy on the Hub holds such rows, or what was made from them."""
    derived, named = (
        [VersionRecord(v.manifest, v.path) for v, _ in part] for part in (traces.derived, traces.named)
    )
    imported = [VersionRecord(v.manifest, v.path) for v in (*traces.imported, *traces.own)]
    return [*traces.origins, *traces.made, *traces.perhaps, *derived, *named, *imported]


def holds_rows(traces: Traces, ref: str) -> bool:
    """Whether a version holds rows of the person, rather than what was learnt from them."""
    return ref not in {record.ref for record in _models([*traces.made, *traces.perhaps])}


def _models(made: Iterable[VersionRecord]) -> list[VersionRecord]:
    return [record for record in made if record.manifest.kind in _MODELS]


def hub_copies(versions: Iterable[VersionRecord]) -> list[tuple[str, str, str]]:
    """(version, repository, revision) of every push recorded in a manifest, as ``hub: [{repo, revision}]``."""
    copies: list[tuple[str, str, str]] = []
    for record in versions:
        manifest = record.manifest
        pushes: list[dict[str, Any]] = manifest.governance.get("hub") or manifest.stats.get("hub") or []
        copies += [(record.ref, p.get("repo", "?"), p.get("revision", "?")) for p in pushes]
    return copies


def advice(case: Case, traces: Traces) -> Iterator[str]:
    """Say, in lines, what the operator still has to do."""
    for tag in case.tags:
        yield f"tag removed: {tag}; a tag never moves, and its version is erased"
    models = _models(traces.made)
    if models:
        names = ", ".join(sorted({str(m.manifest.config.get("name", m.manifest.name)) for m in models}))
        yield f"\nThese models keep what they learned: {', '.join(m.ref for m in models)}."
        yield f"To retrain on the remaining data: make report, with the config of {names}; then make data ARGS=gc."
    yield "\nNot covered: files outside the data directory, such as exports, backups and other people's copies."
    yield "Remove the name from label.annotators too, or the next page creates a link for it again."
