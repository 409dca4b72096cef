"""approve: sign versions off, refuse them, or take an approval back, in the audit log."""

from __future__ import annotations

import argparse

from pipeline.base.cli import as_called
from pipeline.base.errors import DataError
from pipeline.base.process import say
from pipeline.governance.approvals import Approval, approve, withdraw
from pipeline.store.store import Store, Version


def main(argv: list[str] | None = None) -> int:
    """Record the approvals, refusals, or that they are withdrawn; the same command again does what is left.

    Raises:
        PipelineError: there is no such version, it is damaged, or the audit log was changed.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    versions = [store.resolve(ref) for ref in args.versions]
    for version in versions:
        if args.withdraw:
            _withdraw(store, version, args)
            continue
        approval, new = approve(store, version, args.by, args.note, yes=not args.reject)
        for line in _lines(version, approval, new):
            say("approve", line)
    return 0


def _withdraw(store: Store, version: Version, args: argparse.Namespace) -> None:
    approval = withdraw(store, version, args.by, args.note)
    if approval is None:
        raise DataError(version.where, "has no approval to withdraw.")
    say("approve", f"{version.ref}: the approval by {approval.by} of {approval.time} is withdrawn")


def _lines(version: Version, approval: Approval, new: bool) -> list[str]:
    verdict = "approved" if approval.is_yes else "rejected"
    if not new:
        return [f"up to date: {approval.by} {verdict} {version.ref} at {approval.time}"]
    return [
        f"{version.ref}, {version.manifest.kind} by {version.manifest.stage}, id {version.id[:16]}: "
        f"{verdict} by {approval.by}",
        f"noted in the audit log with the hash {approval.hash}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline approve"),
        description="Sign versions off. An approval holds for the exact bytes, and stands in the audit log.",
    )
    parser.add_argument("versions", metavar="VERSION", nargs="+", help="such as demo-policy@v1")
    parser.add_argument("--by", required=True, metavar="NAME", help="who approves")
    parser.add_argument("--note", default="", metavar="TEXT", help="what was looked at, and why it is good enough")
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument("--reject", action="store_true", help="say no; a loop with oversight ends there")
    answer.add_argument("--withdraw", action="store_true", help="take an approval back")
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    return parser
