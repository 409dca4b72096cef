"""unpublish: take the copies of a version on the Hub back, and note it in the audit log."""

from __future__ import annotations

import argparse

from pipeline.base.cli import as_called
from pipeline.base.errors import DataError
from pipeline.base.process import say
from pipeline.governance.approvals import one_line
from pipeline.governance.published import publications, unpublish
from pipeline.store.store import Store


def main(argv: list[str] | None = None) -> int:
    """Take every copy back; the same command again does what is left.

    Raises:
        PipelineError: there is no such version or copy; the Hub refuses; the audit log was changed.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    version = store.resolve(args.version)
    by, note = one_line(args.by, "--by"), one_line(args.note, "--note", empty=True)
    copies = publications(store, [version.ref])
    if not copies:
        raise DataError(version.where, "has no copy on the Hub that was made here, or they were taken back.")
    for copy in copies:
        say("unpublish", f"{copy.repo}: {unpublish(store, copy, by, note, args.delete)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline unpublish"),
        description="Make the repositories of a version private and delete its tag. Their history keeps it, for "
        "those who may read it, and a private repository hides its other versions too.",
    )
    parser.add_argument("version", metavar="VERSION", help="such as demo-policy@v1")
    parser.add_argument("--by", required=True, metavar="NAME", help="who takes it back")
    parser.add_argument("--note", default="", metavar="TEXT", help="why")
    parser.add_argument("--delete", action="store_true", help="delete the repositories, with all their versions")
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    return parser
