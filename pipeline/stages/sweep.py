"""sweep: run an experiment over seeds and settings, and aggregate the figures with intervals."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import queue
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, PipelineError
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.base.terminal_text import put
from pipeline.evaluation.policy.over_seeds import Measured, aggregate
from pipeline.reporting import sweep_table
from pipeline.reporting.runs import results_of, reward_of
from pipeline.results.policy import Evaluation
from pipeline.results.stats import to_json
from pipeline.store.store import Store
from pipeline.workflow.sweeps.jobs import Jobs, check_executor, parts_of
from pipeline.workflow.sweeps.launch import Launcher, StageFailed, Stopped, gpus, tail
from pipeline.workflow.sweeps.plan import Eta, SweepRun, in_words, parse_resource, plan, select_part, sweep_key
from pipeline.workflow.work_key import output_format

LEVEL = 0.95
ROWS = {
    **dict.fromkeys(("id", "run", "group", "settings", "state", "policy", "evaluation"), "string"),
    "seed": "int64",
    **dict.fromkeys((figure.key for figure in sweep_table.FIGURES), "double"),
}


class Progress:
    """Carries out runs and prints their progress.

    Args:
        of: how many runs the whole sweep has.
    """

    def __init__(self, runs: Sequence[SweepRun], of: int, launcher: Launcher, eta: Eta, jobs: int) -> None:
        self.runs, self.of, self.launcher, self.eta, self.jobs = list(runs), of, launcher, eta, jobs
        self.failed: list[SweepRun] = []
        self._left = list(runs)
        self._slots: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        names = gpus() if jobs > 1 else []
        for i in range(jobs):
            self._slots.put(names[i % len(names)] if names else None)

    def carry_out(self) -> None:
        """Do the remaining stages of every run; a run that fails is added to :attr:`failed`, and the others go on.

        Ctrl-C and SIGTERM end the running stages, which continue when the command is run again.
        """
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._one, run) for run in self.runs]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                self.launcher.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, run: SweepRun) -> None:
        slot = self._slots.get()
        where, began = f"{run.number}/{self.of} {run.name}", time.monotonic()
        stage, since = "", began

        def begins(next_stage: str) -> None:
            nonlocal stage, since
            if stage:
                self.eta.took(run, stage, time.monotonic() - since)
            stage, since = next_stage, time.monotonic()
            say("sweep", f"{where}: {stage}{self.eta.left(list(self._left))}")

        try:
            self.launcher.run(run.job, begins, slot)
            if stage:
                self.eta.took(run, stage, time.monotonic() - since)
            run.refresh()
            seconds = time.monotonic() - began
            say("sweep", f"{where}: {sweep_table.result(figures(run))}, done in {in_words(seconds)}")
        except StageFailed as err:
            self.failed.append(run)
            ends = [f"    {line}" for line in tail(run.job.log)]
            say("sweep", "\n".join([f"{where}: {err}; its log: {run.job.log}", *ends]))
        except PipelineError as err:
            self.failed.append(run)
            say("sweep", f"{where}: failed: {err}")
        except Stopped:
            pass
        finally:
            self._left.remove(run)
            self._slots.put(slot)


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


def main(argv: list[str] | None = None) -> int:
    """Do the unfinished runs of a sweep and aggregate the finished ones; 1 where a run failed.

    Raises:
        PipelineError: the command line or the config is wrong, or the store cannot be read.
    """
    args = parser().parse_intermixed_args(argv)
    for name in ("jobs", "parts"):
        if (number := getattr(args, name)) is not None and number < 1:
            raise ConfigError(f"--{name}", f"{number} is below 1.")
    check_executor(args)
    runs = plan(args.config, args.seeds, args.grid, args.overrides)
    chosen = select_part(runs, args.only)
    for run in runs:
        run.refresh()
    if args.list:
        for run in chosen:
            put(f"{run.number:>4}  {'done' if run.next is None else f'next: {run.next}':<16}  {run.name}")
        return 0
    work = by_jobs if args.executor is not None else carry_out
    failed = [] if args.table else work(chosen, runs, args)
    missing = [run for run in runs if run.next is not None and run not in failed]
    for run in missing:  # another machine may have done it in the meantime
        run.refresh()
    missing = [run for run in missing if run.next is not None]
    if args.only is not None and (failed or missing):
        say("sweep", f"{len(failed) + len(missing)} of {len(runs)} runs are not done; what there is: --table")
    else:
        put(f"\n{publish(runs, args.overrides)}")
    return int(bool(failed))


def carry_out(chosen: Sequence[SweepRun], runs: Sequence[SweepRun], args: argparse.Namespace) -> list[SweepRun]:
    """Do the unfinished ones of the chosen runs; returns those that failed."""
    todo = [run for run in chosen if run.next is not None]
    if not todo:
        say("sweep", f"nothing to do: {len(chosen)} of {len(chosen)} runs are done")
        return []
    jobs = args.jobs or 1
    if jobs > 1:  # different seeds first: runs of one seed would wait for the stages they share
        groups = list(dict.fromkeys(run.group for run in runs))
        todo.sort(key=lambda run: groups.index(run.group))
    say("sweep", f"{len(todo)} of {len(runs)} runs to do; logs in {todo[0].job.log.parent}")
    progress = Progress(todo, len(runs), Launcher(command(args.launch)), Eta(runs, jobs), jobs)
    with ended_by_sigterm():
        progress.carry_out()
    if progress.failed:
        names = "; ".join(run.name for run in sorted(progress.failed, key=lambda run: run.number))
        say(
            "sweep",
            f"{len(progress.failed)} of {len(todo)} runs failed: {names}. The same command tries them again.",
        )
    return progress.failed


def by_jobs(chosen: Sequence[SweepRun], runs: Sequence[SweepRun], args: argparse.Namespace) -> list[SweepRun]:
    """Do the unfinished runs as jobs of ``--executor``; returns those that failed."""
    folder = runs[0].job.log.parent / "jobs"
    parts = [part for part in parts_of(runs, args, folder) if part.left]
    if not parts:
        say("sweep", f"nothing to do: {len(chosen)} of {len(chosen)} runs are done")
        return []

    def tell(run: SweepRun) -> None:
        say("sweep", f"{run.number}/{len(runs)} {run.name}: {sweep_table.result(figures(run))}")

    resources = dict(parse_resource(word) for word in args.resource)
    at_once = args.jobs or (None if args.executor == "slurm" else 1)
    jobs = Jobs(args.executor, folder, resources, at_once, tell)
    say("sweep", f"{sum(len(part.left) for part in parts)} of {len(runs)} runs to do, in {len(parts)} jobs")
    with ended_by_sigterm():
        return jobs.carry_out(parts)


@contextlib.contextmanager
def ended_by_sigterm() -> Generator[None]:
    """Let SIGTERM, which schedulers send, end the block as Ctrl-C does."""

    def end(*_: Any) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command(text: str) -> list[str]:
    """The words of ``--launch``, which stand before ``-m pipeline.STAGE``.

    Raises:
        ConfigError: there is no such program.
    """
    words = shlex.split(text)
    if not words or shutil.which(words[0]) is None:
        raise ConfigError("--launch", f"{text!r} does not begin with a program.", "For example: accelerate launch")
    return words


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline.sweep"),
        description="Run an experiment over seeds and settings; the same command continues what is not done.",
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    parser.add_argument("--seeds", default="1", help="5: so many from the config's on; 0,3,7: these (default: 1)")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="values of a setting; several: all combinations",
    )
    parser.add_argument(
        "--only", metavar="I/N", help="the I-th of N parts, or just I: the I-th run; for a scheduler"
    )
    parser.add_argument(
        "--jobs", type=int, help="runs at a time, each on its own GPU; with --executor, jobs (default: 1)"
    )
    parser.add_argument(
        "--executor", choices=("local", "slurm"), help="do the parts of the sweep as jobs, by submitit (optional)"
    )
    parser.add_argument("--parts", type=int, metavar="N", help="jobs to make of it (default: one for each seed)")
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what a job asks for: timeout_min=720, gpus_per_node=1, mem_gb=32, slurm_partition=gpu",
    )
    parser.add_argument("--launch", default=shlex.quote(sys.executable), help="stands before -m pipeline.STAGE")
    parser.add_argument("--list", action="store_true", help="only list the runs and the progress of each")
    parser.add_argument("--table", action="store_true", help="run nothing; aggregate what is done")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="for every run")
    return parser
