"""Write the ``sweep`` version: a row per run, figures aggregated over seeds, and the pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.evaluation.policy.over_seeds import Measured, aggregate
from pipeline.reporting import sweep_table
from pipeline.reporting.runs import results_of, reward_of
from pipeline.results.policy import Evaluation
from pipeline.results.stats import to_json
from pipeline.store.store import Store
from pipeline.workflow.sweeps.plan import SweepRun, sweep_key
from pipeline.workflow.work_key import output_format

LEVEL = 0.95
ROWS = {
    **dict.fromkeys(("id", "run", "group", "settings", "state", "policy", "evaluation"), "string"),
    "seed": "int64",
    **dict.fromkeys((figure.key for figure in sweep_table.FIGURES), "double"),
}


def figures(run: SweepRun) -> dict[str, float | None]:
    """The figures of a finished run; none before it is done."""
    if run.next is not None:
        return {}
    last = {stage: list(versions.values())[-1] for stage, versions in run.versions.items()}
    minutes = sum(version.manifest.stats.get("stage_seconds", 0.0) for version in last.values()) / 60
    return sweep_table.figures(results(run), reward_of(last.get("reward")), round(minutes, 2))


def results(run: SweepRun) -> Evaluation:
    """The evaluation of a finished run."""
    return results_of(run.versions["evaluate"]["evaluation"])


def rows_of(runs: Sequence[SweepRun]) -> list[dict[str, Any]]:
    """One row per run; the figures of an unfinished one are None."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        refs = {"policy": None, "evaluation": None}
        if run.next is None:
            policy, evaluation = run.versions["ppo"]["policy"], run.versions["evaluate"]["evaluation"]
            refs = {"policy": policy.ref, "evaluation": evaluation.ref}
        rows.append(
            {
                "id": digest([run.name, refs["evaluation"]]),
                "run": run.name,
                "group": run.group,
                "seed": run.seed,
                "settings": json.dumps(run.settings),
                "state": "done" if run.next is None else "missing",
                **refs,
                **dict.fromkeys(figure.key for figure in sweep_table.FIGURES),
                **figures(run),
            }
        )
    return rows


def publish(runs: Sequence[SweepRun], overrides: Sequence[str]) -> str:
    """Write the ``sweep`` version of the finished runs, unless it exists; returns its text."""
    done = [run for run in runs if run.next is None]
    ranges = {figure.key: figure.range for figure in sweep_table.FIGURES if figure.range is not None}
    groups = aggregate([Measured(run.group, run.seed, figures(run)) for run in done], LEVEL, ranges)
    name, rows = runs[0].job.config.name, rows_of(runs)
    text = sweep_table.render(f"{name}, sweep", groups, rows)
    if not done:
        return text
    store = Store(runs[0].job.config.data_dir)
    evaluations = [run.versions["evaluate"]["evaluation"] for run in done]
    key = digest([sweep_key(runs), [[v.ref, v.id] for v in evaluations], output_format("sweep")])
    if (version := store.find(f"{name}-sweep", key)) is not None:
        say("sweep", f"up to date: {version.ref}")
        return text
    settings = {
        "name": name,
        "seeds": list(dict.fromkeys(run.seed for run in runs)),
        "settings": [json.loads(s) for s in dict.fromkeys(json.dumps(run.settings) for run in runs)],
        "overrides": list(overrides),
    }
    parents = [(v, "evaluation") for v in evaluations]
    with store.draft(
        f"{name}-sweep", kind="report", stage="sweep", key=key, parents=parents, config=settings, seed=None
    ) as draft:
        draft.write_rows("runs", rows, schema=ROWS)
        draft.stats.update(level=LEVEL, runs=len(runs), done=len(done), groups=to_json(groups))
        pictures = draw(done, draft.path)
        card = sweep_table.card(f"{name}-sweep", text, "runs", pictures)
        (draft.path / "README.md").write_text(card, encoding="utf-8")
    say("sweep", f"wrote {draft.version.ref}")
    for picture in pictures:
        say("sweep", f"open {draft.version.path / picture}")
    return text


def draw(done: Sequence[SweepRun], directory: Path) -> dict[str, str]:
    """Draw the runs' gain against KL and against variety, as SVG and PNG; returns the title of each PNG."""
    from pipeline.reporting.figures.common import save
    from pipeline.reporting.figures.sweep import Evaluated, sweep_diversity, sweep_frontier

    runs = [Evaluated(run.group, results(run)) for run in done]
    drawn = {
        "frontier": (sweep_frontier(runs), "Gain over the base against the square root of KL"),
        "diversity": (sweep_diversity(runs), "Gain over the base against the closing sentences that are left"),
    }
    return {save(f, directory, name)[1].name: title for name, (f, title) in drawn.items() if f is not None}
