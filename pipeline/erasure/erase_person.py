"""forget: erase a person from the labelling logs and from every version, and list what cannot be erased.

Versions are immutable: versions with the person's answers are replaced by new ones without them, and derived
versions that show such rows are erased. Models trained on them stay and are listed; figures about the person are
redacted from their texts.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, DataError, PipelineError, StoreError
from pipeline.base.files import disk_errors, fsync, is_held, read_json, replace_json
from pipeline.base.records import PERSON_ID
from pipeline.base.terminal_text import put
from pipeline.erasure.amend import redact
from pipeline.erasure.case import Case, Withdraw, advice, describe, holds_rows, published_records
from pipeline.erasure.erase_version import (
    drop_staging,
    erase,
    erased,
    homes,
    place_heads,
    redact_tombstone,
)
from pipeline.erasure.find import Traces, find_traces
from pipeline.erasure.mentions import name_somebody
from pipeline.erasure.readers import drop_heads, has_voted
from pipeline.erasure.successors import replace
from pipeline.governance.audit_log import AuditLog
from pipeline.governance.published import Publication, publications, unpublish
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.opening import is_project
from pipeline.store import refs
from pipeline.store.store import Store, Version


def main(argv: list[str] | None = None) -> int:
    """Describe the erasure, ask, and do it; 1 where the operator declines or traces are left.

    Raises:
        PipelineError: an unknown name, a running stage that uses the data, no terminal to ask on, a disk error.
            After a disk error the same command continues.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    case = find_case(store, args.annotator)
    traces = find_traces(store, case.annotators, case.versions)
    if not (case.projects or case.versions or traces.affected or traces.named or _remains(store, case)):
        return _nothing(args, store, case, traces)
    _refuse_if_busy(store, case, traces)
    withdraw: Withdraw | None = "delete" if args.delete else "private" if args.withdraw else None
    for line in describe(case, traces, _copies(store, case, traces), withdraw):
        put(line)
    if args.dry_run:
        return 0
    if not args.yes and not _confirmed():
        put("Nothing was erased.")
        return 1
    try:
        lines = list(forget(store, case, withdraw))
    except (KeyboardInterrupt, PipelineError):
        put("warning: the erasure is incomplete; the same command finishes it", sys.stderr)
        raise
    put("\n".join(lines))
    # A replacement keeps the rows that were imported into the version before it.
    return _left(store, case, find_traces(store, case.annotators) if traces.imported else traces)


def _left(store: Store, case: Case, traces: Traces) -> int:
    """Report the files that still name the person, except imported rows; 1 if there are any."""
    apart = [version.path for version in traces.imported]
    left = name_somebody(store.root, case.annotators) if case.annotators else []
    left = [path for path in left if not any(path.is_relative_to(p) for p in apart)]
    for path in left:
        put(f"warning: {path} still names {case.annotators[0]}, or cannot be read", sys.stderr)
    if left:
        put(f"Run again: python -m pipeline data forget {case.annotators[0]}", sys.stderr)
    return 1 if left else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=as_called("pipeline data forget"), description=__doc__)
    parser.add_argument(
        "annotator", metavar="ANNOTATOR", help="the id (p_...), or the name on the operator's page"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be erased")
    copies = "also take back what was published of it, as unpublish does: private, and without its tag"
    parser.add_argument("--withdraw", action="store_true", help=copies)
    parser.add_argument("--delete", action="store_true", help="the same, and delete the repositories with rows")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _nothing(args: argparse.Namespace, store: Store, case: Case, traces: Traces) -> int:
    if traces.imported:
        listed = ", ".join(v.ref for v in traces.imported)
        remedy = "Remove them at the source, then import again; make data ARGS=gc collects the old version."
        raise DataError(args.annotator, f"this person's rows in {listed} were imported.", remedy)
    if PERSON_ID.fullmatch(args.annotator):
        if _left(store, case, traces):
            return 1
        put(f"{args.root} contains nothing of {args.annotator}.")
        return 0
    remedy = "The operator's page lists the names; you can also give an id (p_...)."
    raise ConfigError(repr(args.annotator), f"is not known to the logs in {args.root}.", remedy)


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("forget", "this cannot be undone, and there is no terminal to ask on.", "Add --yes.")
    return input("\nErase all this for good? [y/N] ").strip().lower() in ("y", "yes")


# The person


def find_case(store: Store, annotator: str) -> Case:
    """Load or create the erasure case of a person, including an interrupted one."""
    annotator = " ".join(annotator.split())
    case = Case(annotator)
    ids = {annotator} if PERSON_ID.fullmatch(annotator) or has_voted(store, annotator) else set[str]()
    for path in sorted((store.root / ".forgetting").glob("[!.]*.json")):
        before = Case(**read_json(path))
        if annotator == before.asked or annotator in before.annotators:
            case, ids = before, ids | set(before.annotators)
        else:
            who = ", ".join(before.annotators)
            put(f"warning: forgetting {who} was interrupted; run it again", sys.stderr)
    for directory in sorted(p for p in store.root.glob("*") if is_project(p)):
        with contextlib.closing(Log(directory)) as log:
            matching = {p.id for p in log.people.all() if annotator == p.name or p.id in ids}
        if matching:
            earlier = case.projects.get(directory.name, [])
            case.projects[directory.name] = sorted({*earlier, *matching})
            ids |= matching
    case.annotators = sorted(ids)
    return case


def _refuse_if_busy(store: Store, case: Case, traces: Traces) -> None:
    """Raise StoreError where a running stage reads what would be erased."""
    versions = {v.ref for v, _ in (*traces.derived, *traces.named)} | {a.version.ref for a in traces.affected}
    versions |= {version.ref for version in traces.own}
    for path in sorted((store.root / ".runs").glob("*/run.json")):
        try:
            work = read_json(path) if is_held(path.parent) else {}
        except (OSError, StoreError):  # finished while we looked
            continue
        reads = {ref for ref, *_ in work.get("inputs", {}).values()}
        asks = work.get("stage") == "collect" and f"{work.get('name')}-labels" in case.projects
        if asks or reads & versions:
            what = f"{work.get('stage')} is running on data that would be erased."
            raise StoreError(str(path.parent), what, "Stop it, or wait for it, and run this again.")


# The erasure


def forget(store: Store, case: Case, withdraw: Withdraw | None = None) -> Iterator[str]:
    """Erase, and report it in lines.

    The same command finishes an interrupted erasure: the case file is written first and removed last, and
    replacements are published before old versions are erased.
    """
    record = case.path(store.root)
    _write(record, case)
    events = 0
    for project, ids in case.projects.items():
        if not is_project(store.root / project):
            continue
        with contextlib.closing(Log(store.root / project)) as log:
            events += sum(map(log.forget, ids))
    yield f"\nerased {events:,} events in {', '.join(case.projects) or 'no log'}, and the name"
    # Again: a version may have been published in between; from now on it cannot.
    traces = find_traces(store, case.annotators, case.versions)
    gone = [*(version for version, _ in traces.derived), *traces.own]
    doomed = [a.version for a in traces.affected] + gone
    copies = _copies(store, case, traces)
    case.copies = sorted({*case.copies, *(copy.ref for copy in copies)})
    case.versions = sorted({*case.versions, *(a.version.ref for a in traces.affected)})
    case.heads = {v.name: store.head(v.name) or 0 for v in doomed} | case.heads
    case.tags = sorted({*case.tags, *(f"{v.name}@{t}" for v in doomed for t in _tags(store, v))})
    _write(record, case)
    replacements = replace(store, traces)
    for version in gone:
        erase(store, version)
        yield f"{version.ref} -> erased"
    for entry in reversed(traces.affected):
        replacement = replacements.get(entry.key)
        erase(store, entry.version, replacement)
        yield f"{entry.version.ref} -> {replacement.ref if replacement else 'erased'}"
    for version, texts in traces.named:
        redact(store, version, case.annotators, texts)
        yield f"{version.ref}: redacted {', '.join(texts)}"
    yield from drop_heads(store, traces.heads, case.annotators)
    yield from _tidy(store, case, {version.name for version, _ in traces.named})
    place_heads(store, case.heads)
    for copy in copies if withdraw is not None else ():
        delete = withdraw == "delete" and holds_rows(traces, copy.ref)
        yield f"{copy.ref} on the Hub, {copy.repo}: {unpublish(store, copy, '', 'data forget', delete)}"
    yield from advice(case, traces)
    yield from _note(store, case, record)
    with disk_errors(str(record)):
        record.unlink()
        fsync(record.parent)
        with contextlib.suppress(OSError):  # another case is there
            record.parent.rmdir()


def _copies(store: Store, case: Case, traces: Traces) -> list[Publication]:
    """The copies on the Hub that were made here of what holds such rows, or was made from them."""
    return publications(store, {*case.copies, *(record.ref for record in published_records(traces))})


def _note(store: Store, case: Case, record: Path) -> Iterator[str]:
    """Note the erasure in the audit log, once, without saying whose it was; a changed log does not prevent it."""
    log, facts = AuditLog(store.root), {"versions": ", ".join(case.versions), "logs": len(case.projects)}
    try:
        events = log.events()
        if 0 < case.event <= len(events) and events[case.event - 1].facts == facts:
            return
        case.event = len(events) + 1
        _write(record, case)
        log.append("erased", "", {**facts})
    except StoreError as err:
        yield f"warning: not noted in the audit log: {err}"


def _remains(store: Store, case: Case) -> list[Path]:
    """Tombstones and staged files that name the person."""
    parts = [home / part for home in homes(store) for part in ("tombstones", ".staging")]
    return [path for part in parts for path in name_somebody(part, case.annotators)] if case.annotators else []


def _tidy(store: Store, case: Case, named: Collection[str]) -> Iterator[str]:
    """Remove staged files of these names, redact tombstones, drop interrupted runs on erased versions."""
    for home in homes(store):
        if home.name in case.heads or home.name in named or name_somebody(home / ".staging", case.annotators):
            for path in drop_staging(home):
                yield f"warning: {path} is being written now; run this again afterwards"
        for number in refs.tombstones(home):
            text = refs.tombstone_path(home, number).read_text("utf-8", "replace")
            if any(annotator in text for annotator in case.annotators):
                redact_tombstone(store, home.name, number)
    gone = erased(store)
    for path in sorted((store.root / ".runs").glob("*/run.json")):
        with contextlib.suppress(OSError, StoreError):  # finished while we looked
            work = read_json(path)
            if {ref for ref, *_ in work.get("inputs", {}).values()} & gone and not is_held(path.parent):
                shutil.rmtree(path.parent)
                yield f"interrupted run erased, as its inputs are gone: {path.parent}"


def _tags(store: Store, version: Version) -> list[str]:
    return [tag for tag, number in store.tags(version.name).items() if number == version.number]


def _write(record: Path, case: Case) -> None:
    with disk_errors(str(record)):
        record.parent.mkdir(0o700, exist_ok=True)  # it may hold a name
        replace_json(record, asdict(case))
