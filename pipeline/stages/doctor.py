"""doctor: what is wrong with a run of PPO, since when, what to change. Its rules are pipeline.health's."""

from __future__ import annotations

import argparse
import dataclasses
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.base.terminal_text import escape_for_terminal, put, put_json
from pipeline.health import Doctor, Finding, examined
from pipeline.health.facts import examine_version, read_history, written_under_way
from pipeline.store import refs
from pipeline.store.store import Store

WIDTH = 100


def main(argv: list[str] | None = None) -> int:
    """Tell what is found; 1 where some of it is serious.

    Raises:
        PipelineError: there is no such run, or it cannot be read.
    """
    args = _parser().parse_args(argv)
    name, doctor = examine(Store(args.root), args.run)
    found = doctor.findings
    if args.json:
        put_json(as_json(name, doctor))
    else:
        put("\n".join(told(name, doctor)))
    return int(any(f.severity == "serious" for f in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline doctor",
        description="What is wrong with a run of PPO, since when, what to change. Exit 1 if any is serious.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="an experiment (demo), a version of it (demo-policy@v2), a version's directory, or a metrics.jsonl",
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser


def examine(store: Store, run: str) -> tuple[str, Doctor]:
    """(what was looked at, the doctor who has seen it).

    Raises:
        StoreError: there is no such run.
    """
    path = Path(run).expanduser()
    if path.is_file():
        return str(path), under_way(path)
    names = store.names()
    ref = f"{run}-policy" if run not in names and f"{run}-policy" in names else run
    if ref in names or "@" in ref or os.sep in ref or ref.startswith((".", "~")):
        version = store.resolve(ref)
        return version.ref, examine_version(store, version)
    refs.check_name(run)
    metrics = sorted((store.root / ".runs").glob(f"{run}-ppo-*/metrics.jsonl"), key=lambda p: p.stat().st_mtime)
    if metrics:
        return f"{run}, under way", under_way(metrics[-1])
    known = ", ".join(n.removesuffix("-policy") for n in names if n.endswith("-policy")) or "nothing yet"
    raise StoreError(str(store.root), f'no run of PPO is called "{run}".', f"There is: {known}.")


def under_way(metrics: Path) -> Doctor:
    """The doctor who has seen a metrics.jsonl, and the rollouts.jsonl that a run keeps beside it."""
    return examined(read_history(metrics), None, written_under_way(metrics.with_name("rollouts.jsonl")))


def as_json(name: str, doctor: Doctor) -> dict[str, object]:
    """All that is known, as plain JSON."""
    return {
        "run": name,
        "updates": doctor.figures.update,
        "findings": [dataclasses.asdict(f) for f in doctor.findings],
        "not_looked_at": doctor.blind,
        "samples": [{"score": score, "completion": text} for score, text in doctor.written.samples],
    }


def told(name: str, doctor: Doctor) -> Iterator[str]:
    """The same in lines."""
    found, updates = doctor.findings, doctor.figures.update
    seen = f"{updates} updates" if updates else "no updates of PPO"
    yield f"{name}: {seen}, {f'findings: {len(found)}' if found else 'nothing found'}."
    if doctor.facts.stopped is not None:
        yield from _wrapped(f"It ended early: {doctor.facts.stopped}.")
    for finding in found:
        yield ""
        yield from shown(finding)
    if samples := doctor.written.samples:
        yield ""
        yield "Read for yourself: of the last update, the completions with the highest, middle and lowest score."
        for score, text in samples:
            yield from _wrapped(escape_for_terminal(text), f"  {score:8.2f}  ", " " * 12)
    if doctor.blind:
        yield ""
        yield from _wrapped(f"Not looked for, as its figures are not there: {', '.join(doctor.blind)}.")


def shown(finding: Finding) -> Iterator[str]:
    """One finding in lines."""
    since = "" if finding.since is None else f", since update {finding.since}"
    until = "" if finding.until is None else f", until update {finding.until}"
    yield f"{finding.severity.upper()}  {finding.rule}{since}{until}"
    parts = {"what": finding.what, "why": finding.why, "change": finding.change, "more": finding.link}
    for label, text in parts.items():
        yield from _wrapped(text, f"  {label:8}", " " * 10)


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
