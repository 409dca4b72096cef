"""sweep: run an experiment over seeds and settings, and aggregate the figures with intervals."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from typing import Any, NoReturn

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.process import say
from pipeline.base.terminal_text import put
from pipeline.reporting import sweep_table
from pipeline.stages.sweep.run_progress import Progress
from pipeline.stages.sweep.sweep_version import figures, publish
from pipeline.workflow.sweeps.jobs import Jobs, check_executor, parts_of
from pipeline.workflow.sweeps.launch import Launcher, launch_words
from pipeline.workflow.sweeps.plan import Eta, SweepRun, parse_resource, plan, select_part


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
    progress = Progress(todo, len(runs), Launcher(launch_words(args.launch)), Eta(runs, jobs), jobs)
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
