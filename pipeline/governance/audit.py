"""audit: print the audit log, and check that nobody changed it or what was approved."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from pipeline.base.cli import as_called
from pipeline.base.terminal_text import put, put_json
from pipeline.governance.approvals import changed_since
from pipeline.governance.audit_log import AuditLog, Event
from pipeline.store.store import Store


def main(argv: list[str] | None = None) -> int:
    """Print the events, or what was changed; 1 where something was.

    Raises:
        StoreError: the events are to be shown, and the log was changed.
    """
    args = _parser().parse_args(argv)
    log = AuditLog(args.root)
    if args.command == "show":
        events = log.events()
        if args.json:
            put_json([asdict(event) for event in events])
        else:
            put("\n".join(_line(event) for event in events) or f"{log.path} has no events.")
        return 0
    problems = [f"{log.path}: {problem}" for problem in log.problems(args.hash)]
    problems = problems or changed_since(Store(args.root))
    for problem in problems:
        put(problem, sys.stderr)
    if not problems:
        events = log.events()
        last = f"; the last hash is {events[-1].hash}" if events else ""
        put(f"{log.path}: {len(events)} events, none changed; what was approved is as it was{last}")
    return int(bool(problems))


def _line(event: Event) -> str:
    facts = dict(event.facts)
    subject, note = facts.pop("ref", ""), facts.pop("note", "")
    rest = (
        ""
        if event.event in ("approved", "rejected", "withdrawn")
        else " ".join(f"{k} {v}" for k, v in facts.items())
    )
    said = f": {note}" if note else ""
    by = f" by {event.by}" if event.by else ""
    about = " ".join(str(part) for part in (event.event, subject, rest) if part)
    return f"{event.number:>4}  {event.time}  {about}{by}{said}  {event.hash[:16]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline audit"), description="The audit log: approvals and erasures, chained by hash."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="print the events")
    show.add_argument("--json", action="store_true", help="print JSON, for machines")
    verify = commands.add_parser("verify", help="check the chain, and the bytes of what was approved")
    verify.add_argument("--hash", help="a hash that was printed earlier, which the log must still hold")
    for command in (show, verify):
        command.add_argument("--root", default="data", help="the data directory (default: data)")
    return parser
