"""forget: erase a person from the logs of labelling and from every version, and list what cannot be erased.

Versions are immutable: those that hold the person's answers are replaced by new ones without them, and versions
derived from the answers that show them are erased. Models that were trained on them stay, and are listed; figures
about the person are redacted from their texts.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError, DataError, PipelineError, StoreError
from pipeline.base.files import disk_errors, fsync, is_held, read_json, replace_json
from pipeline.base.records import PERSON_ID, digest
from pipeline.base.terminal_text import put
from pipeline.erasure.amend import redact
from pipeline.erasure.erase import VersionRecord, drop_staging, erase, erased, homes, place_heads, redact_tombstone
from pipeline.erasure.find import Affected, Traces, find_traces
from pipeline.erasure.mentions import name_somebody
from pipeline.erasure.successors import replace
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.schema import FILE
from pipeline.store import refs
from pipeline.store.store import Store, Version

_MODELS = ("adapter", "model")


@dataclass
class Case:
    """An erasure under way, as ``data/.forgetting/`` keeps it until all of it is done.

    Attributes:
        asked: how the operator named the person.
        projects: ids of the person by the directory of the log that knows them; a random one in each.
        annotators: all of these ids.
        versions: those found to hold rows of theirs, by this attempt or one before.
        heads: the number of the head of each name before the first version was replaced.
        tags: removed with versions, as ``name@tag``.
    """

    asked: str
    annotators: list[str] = field(default_factory=list[str])
    projects: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    versions: list[str] = field(default_factory=list[str])
    heads: dict[str, int] = field(default_factory=dict[str, int])
    tags: list[str] = field(default_factory=list[str])

    def path(self, root: Path) -> Path:
        return root / ".forgetting" / f"{digest(sorted(self.annotators))[:16]}.json"


def main(argv: list[str] | None = None) -> int:
    """Show what would go, ask, and do it; 1 where the operator says no, or where something is left.

    Raises:
        PipelineError: nobody has this name, a stage is using what would go, nobody is there to be asked, the disk.
            After an error of the disk the same command goes on where it was.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    case = find_case(store, args.annotator)
    traces = find_traces(store, case.annotators, case.versions)
    if not (case.projects or case.versions or traces.affected or traces.named or _remains(store, case)):
        return _nothing(args, store, case, traces)
    _refuse_if_busy(store, case, traces)
    for line in describe(case, traces):
        put(line)
    if args.dry_run:
        return 0
    if not args.yes and not _confirmed():
        put("Nothing was erased.")
        return 1
    try:
        lines = list(forget(store, case))
    except (KeyboardInterrupt, PipelineError):
        put("warning: not all is done yet; the same command finishes it", sys.stderr)
        raise
    put("\n".join(lines))
    # A successor has what was imported into the version before it.
    return _left(store, case, find_traces(store, case.annotators) if traces.imported else traces)


def _left(store: Store, case: Case, traces: Traces) -> int:
    """Tell which files still name them, imported rows apart; 1 where there are some."""
    apart = [version.path for version in traces.imported]
    left = name_somebody(store.root, case.annotators) if case.annotators else []
    left = [path for path in left if not any(path.is_relative_to(p) for p in apart)]
    for path in left:
        put(f"warning: {path} still names {case.annotators[0]}, or cannot be read", sys.stderr)
    if left:
        put(f"Run again: python -m pipeline data forget {case.annotators[0]}", sys.stderr)
    return 1 if left else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline data forget", description=__doc__)
    parser.add_argument(
        "annotator", metavar="ANNOTATOR", help="the id (p_...), or the name as the operator knows it"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _nothing(args: argparse.Namespace, store: Store, case: Case, traces: Traces) -> int:
    if traces.imported:
        listed = ", ".join(v.ref for v in traces.imported)
        mend = "Remove them there, then make the version anew; make data ARGS=gc collects the old one."
        raise DataError(args.annotator, f"the rows of {listed} that are theirs were imported.", mend)
    if PERSON_ID.fullmatch(args.annotator):
        if _left(store, case, traces):
            return 1
        put(f"Nothing of {args.annotator} is in {args.root}.")
        return 0
    mend = "The operator's page lists the names; an id (p_...) will do too."
    raise ConfigError(repr(args.annotator), f"is nobody that the logs in {args.root} know.", mend)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("forget", "this cannot be undone, and nobody is there to be asked.", "Add --yes.")
    return input("\nErase all this for good? [y/N] ").strip().lower() in ("y", "yes")


# Who


def find_case(store: Store, annotator: str) -> Case:
    """Load or create the erasure case of a person, including an interrupted one."""
    annotator = " ".join(annotator.split())
    case = Case(annotator)
    ids = {annotator} if PERSON_ID.fullmatch(annotator) else set[str]()
    for path in sorted((store.root / ".forgetting").glob("[!.]*.json")):
        before = Case(**read_json(path))
        if annotator == before.asked or annotator in before.annotators:
            case, ids = before, ids | set(before.annotators)
        else:
            who = ", ".join(before.annotators)
            put(f"warning: forgetting {who} was interrupted; run it again", sys.stderr)
    for directory in sorted(store.root.glob(f"*/{FILE}")):
        with contextlib.closing(Log(directory.parent)) as log:
            theirs = {p.id for p in log.people.all() if annotator == p.name or p.id in ids}
        if theirs:
            earlier = case.projects.get(directory.parent.name, [])
            case.projects[directory.parent.name] = sorted({*earlier, *theirs})
            ids |= theirs
    case.annotators = sorted(ids)
    return case


def _refuse_if_busy(store: Store, case: Case, traces: Traces) -> None:
    """Raises StoreError where a stage is at work that would write down again what is erased."""
    versions = {v.ref for v, _ in (*traces.derived, *traces.named)} | {a.version.ref for a in traces.affected}
    for path in sorted((store.root / ".runs").glob("*/run.json")):
        try:
            work = read_json(path) if is_held(path.parent) else {}
        except (OSError, StoreError):  # finished while we looked
            continue
        reads = {ref for ref, *_ in work.get("inputs", {}).values()}
        asks = work.get("stage") == "collect" and f"{work.get('name')}-labels" in case.projects
        if asks or reads & versions:
            what = f"{work.get('stage')} is at work on what would be erased."
            raise StoreError(str(path.parent), what, "Stop it, or wait for its end, and run this again.")


# What is told


def describe(case: Case, traces: Traces) -> Iterator[str]:
    """Describe what would be erased, in lines."""
    for project, ids in case.projects.items():
        yield f"{', '.join(ids)} in {project}: every event and the name are erased"
    if traces.affected:
        yield "\nversions with their rows"
        for one in traces.affected:
            yield f"  {one.version.ref}: {_fate(one)}"
    if traces.derived:
        yield "\nmade from them, and showing rows that go: erased"
        for version, rows in traces.derived:
            yield f"  {version.ref}: {version.manifest.kind}, {rows:,} such rows"
    if traces.named:
        yield "\nnaming them in their texts: these lines are taken out, and the rest stays"
        for version, texts in traces.named:
            yield f"  {version.ref}: {version.manifest.kind}, {', '.join(texts)}"
    yield from _made("models trained on them, which stay", _models(traces.made))
    yield from _made(
        "also made from them, without such rows", [k for k in traces.made if k not in _models(traces.made)]
    )
    yield from _made(
        "models made from versions erased earlier, perhaps from their rows too", _models(traces.perhaps)
    )
    copies = hub_copies(
        [*traces.origins, *traces.made, *(VersionRecord(v.manifest, v.path) for v, _ in traces.derived)]
    )
    if copies:
        yield "\ncopies on the Hub, which stay until you delete them there"
        yield from (f"  {ref}: {repo} at {revision}" for ref, repo, revision in copies)
    for version in traces.imported:
        yield f"\n{version.ref} has rows of theirs that were imported: it stays as it is"
    for line in traces.damaged:
        yield f"\nwarning: cannot be looked into, and stays: {line}"


def _fate(one: Affected) -> str:
    theirs = ", ".join(f"{n:,} in {key}" for key, n in one.theirs.items()) or "only carried ones"
    becomes = {
        "replaced": f"a new one takes its place, with {len(one.gone):,} training rows less",
        "followed": "erased; a later version of the same work has followed it",
        "emptied": "erased; nothing would be left in it",
    }
    return f"{theirs}; {becomes[one.fate]}"


def _made(title: str, made: list[VersionRecord]) -> Iterator[str]:
    if made:
        yield f"\n{title}"
    for one in made:
        parents = ", ".join(p.ref for p in one.manifest.parents if p.role != "base")
        yield f"  {one.ref}: {one.manifest.kind}, from {parents}{'' if one.path else ' (collected)'}"


def _models(made: Iterable[VersionRecord]) -> list[VersionRecord]:
    return [k for k in made if k.manifest.kind in _MODELS]


def hub_copies(versions: Iterable[VersionRecord]) -> list[tuple[str, str, str]]:
    """(version, repository, revision) of every push that a manifest records, as ``hub: [{repo, revision}]``."""
    copies: list[tuple[str, str, str]] = []
    for record in versions:
        manifest = record.manifest
        pushes: list[dict[str, Any]] = manifest.governance.get("hub") or manifest.stats.get("hub") or []
        copies += [(record.ref, p.get("repo", "?"), p.get("revision", "?")) for p in pushes]
    return copies


# What is done


def forget(store: Store, case: Case) -> Iterator[str]:
    """Erase, and describe what was done, in lines.

    A death at any moment leaves something that the same command finishes: what is under way is written down first
    and struck off last, and new versions are there before old ones go.
    """
    record = case.path(store.root)
    _write(record, case)
    events = 0
    for project, ids in case.projects.items():
        if not (store.root / project / FILE).is_file():
            continue
        with contextlib.closing(Log(store.root / project)) as log:
            events += sum(log.forget(one) for one in ids)
    yield f"\nerased {events:,} events in {', '.join(case.projects) or 'no log'}, and the name"
    # Again: somebody may have published in between, from now on nobody can.
    traces = find_traces(store, case.annotators, case.versions)
    doomed = [a.version for a in traces.affected] + [v for v, _ in traces.derived]
    case.versions = sorted({*case.versions, *(a.version.ref for a in traces.affected)})
    case.heads = {v.name: store.head(v.name) or 0 for v in doomed} | case.heads
    case.tags = sorted({*case.tags, *(f"{v.name}@{t}" for v in doomed for t in _tags(store, v))})
    _write(record, case)
    replacements = replace(store, traces)
    for version, _ in traces.derived:
        erase(store, version)
        yield f"{version.ref} -> erased"
    for one in reversed(traces.affected):
        replacement = replacements.get(one.key)
        erase(store, one.version, replacement)
        yield f"{one.version.ref} -> {replacement.ref if replacement else 'erased'}"
    for version, texts in traces.named:
        redact(store, version, case.annotators, texts)
        yield f"{version.ref}: taken out of {', '.join(texts)}"
    yield from _tidy(store, case, {version.name for version, _ in traces.named})
    place_heads(store, case.heads)
    yield from _advice(case, traces)
    with disk_errors(str(record)):
        record.unlink()
        fsync(record.parent)
        with contextlib.suppress(OSError):  # another case is waiting there
            record.parent.rmdir()


def _remains(store: Store, case: Case) -> list[Path]:
    """Files of versions that are gone, or were never published, which name the person."""
    parts = [home / part for home in homes(store) for part in ("tombstones", ".staging")]
    return [path for part in parts for path in name_somebody(part, case.annotators)] if case.annotators else []


def _tidy(store: Store, case: Case, named: Collection[str]) -> Iterator[str]:
    """What dead writers left under the names concerned, and tombstones of before that name the person."""
    for home in homes(store):
        if home.name in case.heads or home.name in named or name_somebody(home / ".staging", case.annotators):
            for path in drop_staging(home):
                yield f"warning: {path} is being written now; run this again when that is done"
        for number in refs.tombstones(home):
            text = refs.tombstone_path(home, number).read_text("utf-8", "replace")
            if any(one in text for one in case.annotators):
                redact_tombstone(store, home.name, number)
    gone = erased(store)
    for path in sorted((store.root / ".runs").glob("*/run.json")):
        with contextlib.suppress(OSError, StoreError):  # finished while we looked
            work = read_json(path)
            if {ref for ref, *_ in work.get("inputs", {}).values()} & gone and not is_held(path.parent):
                shutil.rmtree(path.parent)
                yield f"interrupted work is erased, as what it read is gone: {path.parent}"


def _advice(case: Case, traces: Traces) -> Iterator[str]:
    for tag in case.tags:
        yield f"tag removed: {tag}; a tag never moves, and what it named is gone"
    models = _models(traces.made)
    if models:
        names = ", ".join(sorted({str(m.manifest.config.get("name", m.manifest.name)) for m in models}))
        yield f"\nThese keep what they learned: {', '.join(m.ref for m in models)}."
        yield f"To train anew on what is left: make report, with the config of {names}; then make data ARGS=gc."
    yield "\nFiles outside the data directory are not known here: exports, backups, copies pushed elsewhere."
    yield "Take the name out of label.annotators too, or the next page has a link for it again."


def _tags(store: Store, version: Version) -> list[str]:
    return [tag for tag, number in store.tags(version.name).items() if number == version.number]


def _write(record: Path, case: Case) -> None:
    with disk_errors(str(record)):
        record.parent.mkdir(0o700, exist_ok=True)  # it may hold a name
        replace_json(record, asdict(case))
