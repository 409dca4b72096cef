"""doctor: report what is wrong with a PPO run, since when, and what to change. Its rules: pipeline/health."""

from __future__ import annotations

import argparse
import dataclasses
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.cli import as_called
from pipeline.base.errors import StoreError
from pipeline.base.terminal_text import escape_for_terminal, put, put_json
from pipeline.health import Doctor, Finding, examined
from pipeline.health.facts import examine_version, read_history, written_under_way
from pipeline.store import refs
from pipeline.store.store import Store

WIDTH = 100


def main(argv: list[str] | None = None) -> int:
    """Print the findings; 1 where one is serious.

    Raises:
        PipelineError: there is no such run, or it cannot be read.
    """
    args = _parser().parse_args(argv)
    name, doctor = examine(Store(args.root), args.run)
    if args.json:
        put_json(as_json(name, doctor))
    else:
        put("\n".join(as_lines(name, doctor)))
    return int(any(f.severity == "serious" for f in doctor.findings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline doctor"),
        description="Report what is wrong with a PPO run, since when, and what to change; exit 1 if serious.",
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
    """(name of the run, the doctor who has examined it).

    Raises:
        StoreError: there is no such run.
    """
    path = Path(run).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        mend = f"Name the experiment, as its key name has it: {as_called('pipeline doctor')} {path.stem}"
        raise StoreError(run, "is a config, and the doctor reads what it has made.", mend)
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
    runs = [n.removesuffix("-policy") for n in names if n.endswith("-policy")]
    raise StoreError(str(store.root), f'no run of PPO is called "{run}".', refs.there_is(runs, run))


def under_way(metrics: Path) -> Doctor:
    """Examine a metrics.jsonl, and the rollouts.jsonl beside it."""
    return examined(read_history(metrics), None, written_under_way(metrics.with_name("rollouts.jsonl")))


def as_json(name: str, doctor: Doctor) -> dict[str, object]:
    """The findings as plain JSON."""
    return {
        "run": name,
        "updates": doctor.figures.update,
        "findings": [dataclasses.asdict(f) for f in doctor.findings],
        "not_looked_at": doctor.blind,
        "samples": [{"score": score, "completion": text} for score, text in doctor.written.samples],
    }


def as_lines(name: str, doctor: Doctor) -> Iterator[str]:
    """The findings as lines of a terminal."""
    findings, updates = doctor.findings, doctor.figures.update
    count = f"{updates} updates" if updates else "no updates of PPO"
    yield f"{name}: {count}, {f'findings: {len(findings)}' if findings else 'nothing found'}."
    if doctor.facts.stopped is not None:
        yield from _wrapped(f"It ended early: {doctor.facts.stopped}.")
    for finding in findings:
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
