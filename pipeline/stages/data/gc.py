"""``python -m pipeline data gc``: say what would be collected, ask, collect it."""

from __future__ import annotations

import argparse
import sys

from pipeline.base.errors import ConfigError
from pipeline.base.terminal_text import in_size, put, put_json, put_table
from pipeline.store.checkpoints import in_words
from pipeline.store.gc import Collected, carry_out, own_bytes, plan_collection
from pipeline.store.interrupted import Left
from pipeline.store.store import Store


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Everything but what all data commands share."""
    command.add_argument("--dry-run", action="store_true", help="only list it")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--keep", metavar="REF", action="append", default=[], help="keep this one (repeatable)")
    command.add_argument(
        "--drop",
        metavar="REF",
        action="append",
        default=[],
        help="this one, and what was made from it, may go (repeatable)",
    )
    command.add_argument(
        "--unfinished", action="store_true", help="take work that no evaluation or report came of, too"
    )
    command.add_argument("--runs", action="store_true", help="take the checkpoints of interrupted work, too")


def run(store: Store, args: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        ConfigError: there is something to collect, and nobody who could be asked.
        StoreError: see :func:`pipeline.store.gc.plan_collection`.
    """
    names, rules = store.names(), store.rules(args.keep, args.drop, args.unfinished, args.runs)
    planned = plan_collection(store.root, names, rules)
    if not args.json:
        _tell(planned, args)
    anything = bool(planned.versions or planned.staging or planned.runs)
    asked = anything and not args.dry_run and (args.yes or (not args.json and _confirmed()))
    done = carry_out(store.root, names, rules, planned) if asked else planned
    if args.json:
        _print_json(done, collected=asked)
    elif asked:
        put(f"{_count(done)}: freed {in_size(done.bytes)}")
    if anything and not asked and not args.dry_run:
        _refuse(args)
    return 0


def _tell(planned: Collected, args: argparse.Namespace) -> None:
    rows = [
        (
            v.ref,
            f"{v.manifest.kind}, seed {v.manifest.seed}",
            in_size(own_bytes(v.path)),
            f"newer: {planned.newer[v.ref]}" if v.ref in planned.newer else "",
        )
        for v in planned.versions
    ]
    rows += [(str(path), "abandoned draft", in_size(own_bytes(path)), "") for path in planned.staging]
    rows += [_row(run) for run in planned.runs]
    if rows:
        put_table(rows, right={2})
    for line in planned.damaged:
        put(f"left alone: {line}")
    if planned.waiting:
        hint = "" if args.runs else " (--runs: take what stopped)"
        put(f"\nkept, with what it reads: work that is not done{hint}")
        put_table([_row(run) for run in planned.waiting], right={2}, indent="  ")
    if planned.unfinished:
        size = in_size(sum(own_bytes(v.path) for v in planned.unfinished))
        count = len(planned.unfinished)
        put(f"\nkept: {count} versions ({size}) that no evaluation or report came of (--unfinished: take them)")
    put(f"{_count(planned)}: would free {in_size(planned.bytes)}")


def _row(run: Left) -> tuple[str, str, str, str]:
    what = "work that cannot be told"
    if run.work is not None:
        what = f"{run.work.stage} of {run.work.name}, seed {run.work.seed}"
    step = "no checkpoint" if run.step is None else f"step {run.step}"
    state = "at work now" if run.held else f"{in_words(run.seconds)} old"
    return str(run.path), what, in_size(run.bytes), f"{step}, {state}"


def _count(garbage: Collected) -> str:
    runs = f", {len(garbage.runs)} interrupted runs" if garbage.runs else ""
    return f"{len(garbage.versions)} versions, {len(garbage.staging)} abandoned drafts{runs}"


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("Collect this? [y/N] ").strip().lower() in ("y", "yes")


def _refuse(args: argparse.Namespace) -> None:
    if not args.json and sys.stdin.isatty():
        put("Nothing was collected.")
        return
    raise ConfigError("gc", "nothing was collected, as nobody is there to be asked.", "Add --yes.")


def _print_json(garbage: Collected, collected: bool) -> None:
    value = {
        "dry_run": not collected,
        "versions": [v.ref for v in garbage.versions],
        "staging": [str(p) for p in garbage.staging],
        "runs": [str(run.path) for run in garbage.runs],
        "waiting": [str(run.path) for run in garbage.waiting],
        "unfinished": [v.ref for v in garbage.unfinished],
        "damaged": garbage.damaged,
        "bytes": garbage.bytes,
    }
    put_json(value)
