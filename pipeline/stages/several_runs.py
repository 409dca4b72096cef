"""Compare runs on one page (``report --runs A B``), or print the results table (``report --table``)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.files import disk_errors
from pipeline.base.markdown import replace_between
from pipeline.base.terminal_text import put
from pipeline.evaluation.policy.across_runs import on_shared_prompts
from pipeline.health.facts import examine_version
from pipeline.reporting.compare import Compared, headline, render, same_proxy
from pipeline.reporting.results_table import ResultsRow, from_json, results_table, to_json
from pipeline.reporting.runs import find_run, results_of, reward_of
from pipeline.store.store import Store, Version
from pipeline.workflow.stage import say


def table(data_dir: str, readme: Path | None) -> None:
    """Print the results table of every report in ``data_dir``, or write it into ``readme``.

    With ``readme``, the figures are also written into docs/results.json beside it.

    Raises:
        DataError: the readme has no markers for it.
    """
    store = Store(data_dir)
    latest: dict[tuple[str, int], Version] = {}
    for name in store.names():
        if name.endswith("-report"):
            latest |= {(name.removesuffix("-report"), v.manifest.seed or 0): v for v in store.versions(name)}
    rows: list[ResultsRow] = []
    for (name, seed), report in sorted(latest.items()):
        parents = {p.role: store.resolve(p.ref) for p in report.manifest.parents}
        reward = reward_of(parents.get("reward"))
        accuracy = reward.of_pairs.accuracy if reward and reward.of_pairs else None
        source = {r: f"{v.ref} {v.id}" for r, v in parents.items() if r in ("policy", "evaluation", "reward")}
        minutes = report.manifest.stats.get("minutes")
        results = results_of(parents["evaluation"])
        rows.append(ResultsRow.of(f"{name}, seed {seed}", results, accuracy, minutes, source))
    if readme is None:
        put(results_table(rows))
        return
    if not readme.is_file():
        raise DataError(str(readme), "no such file.")
    figures = to_json(rows)
    # The table is made from the rounded figures of docs/results.json.
    updated = replace_between(
        readme.read_text(encoding="utf-8"), "results", results_table(from_json(figures)), "README"
    )
    results = readme.parent / "docs" / "results.json"
    with disk_errors(str(readme)):
        results.parent.mkdir(exist_ok=True)
        results.write_text(figures, encoding="utf-8")
        readme.write_text(updated, encoding="utf-8")
    put(f"{readme}, {results}: {len(rows)} rows")


def compare(data_dir: str, names: list[str], out: Path) -> None:
    """Write a page that compares runs, and its pictures beside it.

    Raises:
        ConfigError: fewer than two runs, or one twice.
        StoreError: there is no such run, its policy has not been evaluated, or the page cannot be written.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError("command line", "--runs compares two runs or more, each named once.", 'RUNS="a b"')
    if out.is_dir():
        raise ConfigError(f"--out {out}", "is a directory.", "Name a file, such as build/comparison.html.")
    store = Store(data_dir)
    runs = [(name, find_run(store, name)) for name in names]
    first, *rest = [Compared(name, run, examine_version(store, run.policy).findings) for name, run in runs]
    rows, compared = first.run.evaluation.rows("test"), [first]
    for run in rest:
        paired = on_shared_prompts(rows, run.run.evaluation.rows("test"))
        if not same_proxy([first, run]):
            paired = replace(paired, measures={k: v for k, v in paired.measures.items() if k != "score"})
        compared.append(replace(run, paired=paired))
    with disk_errors(f"--out {out}"):
        html = render(compared, out.parent / f"{out.stem}-pictures")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    say("report", headline(compared))
    say("report", f"open {out}")


def main(argv: list[str] | None = None) -> int:
    """Print the results table or write the page that compares runs."""
    parser = argparse.ArgumentParser(prog=as_called("pipeline.report"), description="Results of several runs.")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--table", action="store_true", help="print the results table")
    wanted.add_argument(
        "--runs", nargs="+", metavar="RUN", help="compare experiments, or versions of their policies"
    )
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--readme", type=Path, help="of --table: write it between the markers of this file")
    parser.add_argument("--out", type=Path, default=Path("build/comparison.html"), help="of --runs (%(default)s)")
    parsed = parser.parse_args(argv)
    if parsed.table:
        table(parsed.data_dir, parsed.readme)
    else:
        compare(parsed.data_dir, parsed.runs, parsed.out)
    return 0
