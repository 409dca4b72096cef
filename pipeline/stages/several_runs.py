"""Several runs: compared on one page (``report --runs A B``), or as the results table (``report --table``)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.terminal_text import put
from pipeline.evaluation.policy.across_runs import on_shared_prompts
from pipeline.health.facts import doctor_of
from pipeline.reporting.compare import Compared, headline, render, same_proxy
from pipeline.reporting.results_table import Run as Row
from pipeline.reporting.results_table import from_json, less_best_of_n, results_table, to_json, update_readme
from pipeline.reporting.runs import find_run
from pipeline.store.store import Store, Version
from pipeline.workflow.stage import say


def table(data_dir: str, readme: Path | None) -> None:
    """Print the results table of every report in ``data_dir``, or write it into ``readme``.

    The figures of a table that is written are kept beside it, in docs/results.json.

    Raises:
        DataError: the readme has no markers for it.
    """
    store = Store(data_dir)
    latest: dict[tuple[str, int], Version] = {}
    for name in store.names():
        if name.endswith("-report"):
            latest |= {(name.removesuffix("-report"), v.manifest.seed or 0): v for v in store.versions(name)}
    rows: list[Any] = []
    for (name, seed), report in sorted(latest.items()):
        parents = {p.role: store.resolve(p.ref) for p in report.manifest.parents}
        stats = parents["evaluation"].manifest.stats
        reward = parents.get("reward")
        measured = reward.manifest.stats["evaluation"] if reward else {}
        # Of pairs: one trained on single completions has it where there are pairs too.
        accuracy = measured.get("pairs", measured).get("accuracy")
        source = {r: f"{v.ref} {v.id}" for r, v in parents.items() if r in ("policy", "evaluation", "reward")}
        took = report.manifest.stats.get("minutes")
        rows.append(Row(f"{name}, seed {seed}", stats, accuracy, *less_best_of_n(stats), took, source))
    if readme is None:
        put(results_table(rows))
        return
    if not readme.is_file():
        raise DataError(str(readme), "no such file.")
    figures = to_json(rows)
    # From the figures that are kept, so that their rounding is the table's.
    updated = update_readme(readme.read_text(encoding="utf-8"), results_table(from_json(figures)))
    results = readme.parent / "docs" / "results.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(figures, encoding="utf-8")
    readme.write_text(updated, encoding="utf-8")
    put(f"{readme}, {results}: {len(rows)} rows")


def compare(data_dir: str, names: list[str], out: Path) -> None:
    """Write a page that sets runs side by side, and its pictures beside it.

    Raises:
        ConfigError: fewer than two runs, or one twice.
        StoreError: there is no such run, or its policy has not been evaluated.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError("command line", "--runs compares two runs or more, each named once.", 'RUNS="a b"')
    store = Store(data_dir)
    found = [
        Compared(name, run, doctor_of(store, run.policy).findings)
        for name, run in ((name, find_run(store, name)) for name in names)
    ]
    first = found[0].run.evaluation.rows("test")
    compared = found[:1]
    for one in found[1:]:
        paired = on_shared_prompts(first, one.run.evaluation.rows("test"))
        if not same_proxy([found[0], one]):
            paired["score"] = None
        compared.append(replace(one, paired=paired))
    html = render(compared, out.parent / f"{out.stem}-pictures")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    say("report", headline(compared))
    say("report", f"open {out}")


def main(argv: list[str] | None = None) -> int:
    """Print the results table or write the page that compares runs."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description="Results of several runs.")
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
