"""report: one page that says whether it worked, its pictures, and the row of the results table.

``--runs A B`` compares runs on a page; ``--table`` prints the results table. What a page looks like is
:mod:`pipeline.reporting`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.cli import guard
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.terminal_text import put
from pipeline.store.store import Store, Version
from pipeline.workflow.graph import reward_sources
from pipeline.workflow.stage import Run, say, stage_main

if TYPE_CHECKING:
    from pipeline.reporting.samples import Sample


@dataclass
class ReportSection:
    """Keys of the ``report`` section."""

    samples: int = field(default=4, metadata={"help": "Completions shown of each kind: gains, losses, random."})


def run(run: Run) -> None:
    """Write a ``report`` version: report.html and its pictures."""
    from pipeline.evaluation.policy.headline import verdict
    from pipeline.health.facts import doctor_of
    from pipeline.reporting import page, pictures, runs
    from pipeline.reporting.samples import choose_samples
    from pipeline.reporting.trees import branches

    options = run.config.options("report", ReportSection)
    evaluation, policy = run.version("evaluation"), run.version("policy")
    reward = run.version("reward") if "reward" in run.inputs else None
    doctor = doctor_of(run.store, policy)
    drawn = pictures.draw(evaluation, policy, reward)
    samples = choose_samples([sample(r) for r in evaluation.rows("test")], options.samples, run.config.seed)
    made_with = runs.settings(policy, run.store.lineage(policy).ancestors(), evaluation)
    with run.draft("report") as draft:
        html = page.render_page(
            page.Report(
                title=run.config.name,
                stats=evaluation.manifest.stats,
                reward=reward and reward.manifest.stats["evaluation"],
                pictures=pictures.saved(drawn, draft.path),
                samples=samples,
                lineage=branches("", run.store.lineage(evaluation)),
                differences=runs.parent_differences(run.store, policy),
                config={"name": run.config.name} | made_with,
                checkup=page.Checkup(doctor.findings, doctor.history.update, doctor.blind, doctor.facts.stopped),
                warnings=warnings(reward, {f.rule for f in doctor.findings}) if reward else [],
                facts=facts(run),
            )
        )
        (draft.path / "report.html").write_text(html, encoding="utf-8")
        draft.stats.update(minutes=minutes(run))
    path = draft.version.path / "report.html"
    for sentence in verdict(evaluation.manifest.stats)[1]:
        say("report", sentence)
    say("report", f"open {path}")


def sample(row: dict[str, Any]) -> Sample:
    """A prompt with both completions, for the page."""
    from pipeline.reporting.samples import Sample

    return Sample(
        row["prompt"],
        row["base_completion"],
        row["policy_completion"],
        row["base_score"],
        row["policy_score"],
        row["base_gold_score"],
        row["policy_gold_score"],
    )


def warnings(reward: Version, found_by_doctor: Collection[str] = ()) -> list[str]:
    """What a reader should know before believing the numbers, besides the doctor's findings."""
    stats = reward.manifest.stats
    found: list[str] = []
    told = {"reward-at-chance", "reward-below-baseline"} & set(found_by_doctor)
    if not stats["evaluation"]["clears_baselines"] and not told:
        found.append(stats["evaluation"]["verdict"])
    dropped = sum(stats["dropped_for_length"].values())
    if dropped:
        what = "Rows" if "auc" in stats["evaluation"] else "Pairs"
        found.append(f"{what} longer than reward.max_length, which were left out: {dropped}.")
    return found


def facts(run: Run) -> list[tuple[str, str]]:
    """Short lines under the title."""
    found = [("policy", run.version("policy").ref), ("base model", run.inputs["base"].ref)]
    if "preferences" in run.inputs:
        preferences = run.version("preferences")
        annotator = preferences.manifest.stats.get("annotator")
        found.append(("preferences", ", ".join(filter(None, (preferences.ref, annotator)))))
    else:
        found.append(("reward", ", ".join(s.value for s in reward_sources(run.config))))
    return [*found, ("seed", str(run.config.seed)), ("minutes", f"{minutes(run):.1f}")]


def minutes(run: Run) -> float:
    """Wall time of the stages behind this report, from their first line to their last version."""
    stages = ("base", "preferences", "reward", "policy", "evaluation")
    versions = [v for r, v in run.inputs.items() if r in stages and isinstance(v, Version)]
    return round(sum(v.manifest.stats.get("stage_seconds", 0.0) for v in versions) / 60, 2)


def table(data_dir: str, readme: Path | None) -> None:
    """Print the results table of every report in ``data_dir``, or write it into ``readme``.

    The figures of a table that is written are kept beside it, in docs/results.json.

    Raises:
        DataError: the readme has no markers for it.
    """
    from pipeline.reporting.results_table import Run as Row
    from pipeline.reporting.results_table import from_json, less_best_of_n, results_table, to_json, update_readme

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
    from pipeline.evaluation.policy.across_runs import on_shared_prompts
    from pipeline.health.facts import doctor_of
    from pipeline.reporting.compare import Compared, headline, render, same_proxy
    from pipeline.reporting.runs import find_run

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
    args = sys.argv[1:] if argv is None else argv
    if not {"--table", "--runs"} & set(args):
        return stage_main("report", run, args)
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description="Results of several runs.")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--table", action="store_true", help="print the results table")
    wanted.add_argument(
        "--runs", nargs="+", metavar="RUN", help="compare experiments, or versions of their policies"
    )
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--readme", type=Path, help="of --table: write it between the markers of this file")
    parser.add_argument("--out", type=Path, default=Path("build/comparison.html"), help="of --runs (%(default)s)")
    parsed = parser.parse_args(args)
    if parsed.table:
        table(parsed.data_dir, parsed.readme)
    else:
        compare(parsed.data_dir, parsed.runs, parsed.out)
    return 0


if __name__ == "__main__":
    guard(main)
