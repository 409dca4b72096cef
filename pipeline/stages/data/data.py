"""``python -m pipeline data``: look at versions, tag, verify, export and collect them. Stages make them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Collection, Iterable
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.errors import StoreError
from pipeline.base.terminal_text import in_size, put, put_json, put_table
from pipeline.stages.data import export, gc, scrub
from pipeline.store import refs
from pipeline.store.diff import Change, Diff
from pipeline.store.manifest import Manifest
from pipeline.store.store import Store
from pipeline.store.version import Version
from pipeline.workflow import relocate


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns 1 if ``verify`` found problems, else 0.

    Raises:
        PipelineError: see :func:`pipeline.base.cli.run_cli`.
    """
    args = _parser().parse_args(argv)
    return args.run(Store(args.root), args)


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--root", default="data", help="the data directory (default: data)")
    shared.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline data"),
        description="Versions of datasets and models. REF is name, name@v3, name@tag, name@latest or a path.",
        epilog=f"To erase a person: {as_called('pipeline data forget')} --help. To see what a file would be read "
        f"as: {as_called('pipeline data look')} --help",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: object, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, parents=[shared])
        command.set_defaults(run=run)
        return command

    add("list", _list, "names, their latest version and tags")
    add("show", _show, "one version: what it holds and what it came from").add_argument("ref", metavar="REF")
    two = add("diff", _diff, "what changed from A to B: rows, votes, config, stats")
    two.add_argument("a", metavar="A")
    two.add_argument("b", metavar="B")
    tag = add("tag", _tag, "name a version for good; a tag never moves")
    tag.add_argument("ref", metavar="REF")
    tag.add_argument("tag", metavar="TAG")
    verify = add("verify", _verify, "compare every file with its sha256 (default: every version)")
    verify.add_argument("refs", metavar="REF", nargs="*")
    export.add_arguments(add("export", export.run, "write preferences as a file in another tool's format"))
    scrub.add_arguments(add("scrub", scrub.run, "make a version with placeholders for personal data"))
    relocate.add_arguments(
        add("relocate", relocate.run, "write into adapters where their base is, after the data directory moved")
    )
    gc.add_arguments(add("gc", gc.run, "collect versions that were made again since, and leftovers"))
    return parser


def _list(store: Store, args: argparse.Namespace) -> int:
    names = [(name, store.versions(name), store.tags(name), store.head(name)) for name in store.names()]
    if args.json:
        put_json(
            [
                {"name": name, "latest": head, "tags": tags, "versions": [_summary(v.manifest) for v in versions]}
                for name, versions, tags, head in names
            ]
        )
        return 0
    if not names:
        put(f"{store.root}: no versions yet.")
        return 0
    rows: list[tuple[str, ...]] = [("NAME", "LATEST", "VERSIONS", "KIND", "ROWS", "SIZE", "CREATED", "TAGS")]
    for name, versions, tags, head in names:
        latest = next((v.manifest for v in versions if v.number == head), None)
        made = _columns(latest) if latest else ("damaged", "", "", "")
        tagged = " ".join(f"{tag}={refs.spell(n)}" for tag, n in tags.items())
        rows.append((name, refs.spell(head) if head else "", str(len(versions)), *made, tagged))
    put_table(rows, right={2, 4, 5})
    return 0


def _columns(m: Manifest) -> tuple[str, str, str, str]:
    rows = sum(s.rows for s in m.splits.values())
    return m.kind, f"{rows:,}" if m.splits else "-", in_size(m.bytes), m.created_at[:16].replace("T", " ")


def _show(store: Store, args: argparse.Namespace) -> int:
    version = store.resolve(args.ref)
    m = version.manifest
    node = store.lineage(version)
    tags = [t for t, n in store.tags(version.name).items() if n == version.number]
    if args.json:
        lineage = [{"ref": n.ref, "state": n.state} for n in node.ancestors()]
        put_json({**dataclasses.asdict(m), "tags": tags, "path": str(version.path), "ancestors": lineage})
        return 0
    commit = f", commit {m.code.commit[:10]}{' with edits' if m.code.dirty else ''}" if m.code.commit else ""
    facts = [
        ("version", version.ref + (f"  (tags: {', '.join(tags)})" if tags else "")),
        ("kind", f"{m.kind}, by stage {m.stage}"),
        ("created", f"{m.created_at}, took {m.wall_seconds:.1f} s"),
        ("id", m.id[:16]),
        ("key", m.key[:16] if m.key else "none"),
        ("seed", str(m.seed)),
        ("code", m.code.version + commit),
        ("device", m.environment.get("device", "?")),
        ("size", f"{in_size(m.bytes)} in {len(m.files)} files"),
        ("path", str(version.path)),
    ]
    facts += [("model", _pairs(model)) for model in m.models]
    facts += [("dataset", _pairs(dataset)) for dataset in m.datasets]
    facts += [(k, str(v)) for k, v in m.governance.items()]
    put_table(facts)
    _section("splits", [(key, f"{s.rows:,} rows", in_size(s.bytes)) for key, s in m.splits.items()], right={1, 2})
    _section("stats", [(k, _value(v)) for k, v in m.stats.items()])
    put("\nlineage")
    for line in node.draw():
        put(f"  {line}")
    return 0


def _diff(store: Store, args: argparse.Namespace) -> int:
    diff = store.diff(store.resolve(args.a), store.resolve(args.b))
    if args.json:
        put_json(dataclasses.asdict(diff))
        return 0
    put(f"{diff.a} -> {diff.b}" + ("  (same content)" if diff.same_content else ""))
    rows = [
        (key, f"{s.before:,} -> {s.after:,}", f"+{s.added:,}", f"-{s.removed:,}") for key, s in diff.rows.items()
    ]
    _section("rows", rows, right={2, 3})
    _print_votes(diff)
    _section("config", [_changed(c) for c in diff.config])
    _section("stats", [_changed(c) for c in diff.stats])
    parents = [("+", ref) for ref in diff.parents_added] + [("-", ref) for ref in diff.parents_removed]
    _section("parents", parents)
    return 0


def _print_votes(diff: Diff) -> None:
    if not diff.votes_changed:
        return
    shown: list[tuple[str, ...]] = []
    for vote, before, after in diff.votes:
        row, _, annotator = vote.partition(" ")
        shown.append(_changed((f"{row[:12]} {annotator}".strip(), before, after)))
    _section(f"votes changed: {diff.votes_changed:,}, such as", shown)


def _changed(change: Change) -> tuple[str, str]:
    key, before, after = change
    return key, f"{_value(before)} -> {_value(after)}"


def _tag(store: Store, args: argparse.Namespace) -> int:
    version = store.tag(args.ref, args.tag)
    if args.json:
        put_json({"tag": args.tag, "version": version.ref})
    else:
        put(f"{version.name}@{args.tag} is {version.ref}")
    return 0


def _verify(store: Store, args: argparse.Namespace) -> int:
    checked, problems, notes = 0, list[str](), list[str]()
    for version in [store.resolve(r) for r in args.refs] if args.refs else _every(store, problems):
        checked += 1
        problems += version.verify()
        notes += filter(None, [relocate.misplaced(version)])
    if args.json:
        put_json({"checked": checked, "problems": problems, "notes": notes})
    else:
        for line in [*problems, *(f"note: {note}" for note in notes)]:
            put(line)
        put(f"{checked} versions checked, {len(problems)} problems", sys.stderr if problems else None)
    return 1 if problems else 0


def _every(store: Store, problems: list[str]) -> Iterable[Version]:
    for name in store.names():
        home = store.home(name)
        for number in refs.numbers(home):
            try:
                yield Version.open(refs.version_path(home, number))
            except StoreError as err:
                problems.append(str(err))


def _summary(m: Manifest) -> dict[str, object]:
    rows = {key: s.rows for key, s in m.splits.items()}
    return {"ref": m.ref, "id": m.id, "kind": m.kind, "created_at": m.created_at, "rows": rows, "bytes": m.bytes}


def _section(title: str, rows: list[tuple[str, ...]] | list[tuple[str, str]], right: Collection[int] = ()) -> None:
    if rows:
        put(f"\n{title}")
        put_table(rows, right, indent="  ")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _pairs(model: dict[str, Any]) -> str:
    return ", ".join(f"{k} {str(v)[:40]}" for k, v in model.items())
