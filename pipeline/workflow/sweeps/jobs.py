"""Run the parts of a sweep as jobs, on this machine or on a Slurm cluster, by submitit.

A part is the command that a person would submit (``--only 2/5``), so a job that is killed loses what a killed
command loses, and a part that is submitted again continues it. What is done is read from the store: no result of a
job is unpickled.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import ConfigError, first_line
from pipeline.base.process import say
from pipeline.workflow.sweeps.plan import SweepRun, select_part

Cluster = Literal["local", "slurm"]

POLL_SECONDS = 5.0
RETRIES = 3
"""How often a part is submitted again whose job was killed."""
DEFAULTS: Mapping[str, Any] = {"timeout_min": 24 * 60}
"""submitit's own limit is five minutes."""


@dataclass
class Command:
    """What a job does; submitit keeps it in a file of its own (pickled) until then."""

    words: list[str]

    def __call__(self) -> int:
        process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, process_group=0)
        try:
            return process.wait()
        finally:  # the job's time is over, or somebody else needs its place
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()

    def checkpoint(self) -> Any:
        """What submitit queues where a job is preempted: the same command, which continues."""
        return _submitit().helpers.DelayedSubmission(self)


@dataclass
class Part:
    """Some runs of a sweep, which one job does."""

    name: str
    command: Command
    runs: list[SweepRun]
    job: Any = None
    submitted: int = 0
    over: bool = False
    told: set[int] = field(default_factory=set[int])

    @property
    def left(self) -> list[SweepRun]:
        """Its runs that are not done, as the store says now."""
        for run in self.runs:
            if run.next is not None:
                run.refresh()
        return [run for run in self.runs if run.next is not None]


def _submitit() -> Any:
    """The module. Raises ConfigError: it is not installed."""
    try:
        return importlib.import_module("submitit")
    except ImportError as err:
        mend = "pip install 'rlhf-pipeline[cluster]', or submit the parts yourself: --only I/N."
        raise ConfigError("--executor", "needs the package submitit, which is not installed.", mend) from err


def check_executor(args: Namespace) -> None:
    """Raise ConfigError for options that do nothing without ``--executor``, or beside it."""
    if args.executor is None and (args.resource or args.parts is not None):
        raise ConfigError("--resource, --parts", "are of jobs.", "Add --executor local or --executor slurm.")
    if args.executor is not None and args.only is not None:
        raise ConfigError("--only", "is what each job of --executor gets.", "Leave one of them out.")


def parts_of(runs: Sequence[SweepRun], args: Namespace) -> list[Part]:
    """The jobs of a sweep: by default one for each seed, whose runs share their first stages.

    Args:
        args: the sweep's command line.
    """
    words = [sys.executable, "-m", "pipeline.sweep", "--config", args.config, "--seeds", args.seeds]
    words += [word for axis in args.grid for word in ("--grid", axis)]
    count = min(args.parts or len({run.seed for run in runs}), len(runs))
    parts: list[Part] = []
    for i in range(1, count + 1):
        only = f"{i}/{count}"
        command = [*words, "--only", only, "--launch", args.launch, *args.overrides]
        own = select_part(runs, only)
        done = {run.number for run in own if run.next is None}
        parts.append(Part(f"part {only}", Command(command), own, told=done))
    return parts


class Jobs:
    """Submits parts and waits for them.

    Args:
        folder: for submitit's files and the jobs' logs; all machines have to see it.
        resources: submitit's parameters, such as ``timeout_min``, ``gpus_per_node`` or ``slurm_partition``.
        at_once: most jobs at a time; None leaves that to the cluster.
        done: called with each run that has become done.
    Raises:
        ConfigError: submitit or the cluster is not there, or it knows no such resource.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        resources: Mapping[str, Any],
        at_once: int | None,
        done: Callable[[SweepRun], object],
    ) -> None:
        self.at_once, self.done = at_once, done
        try:
            self._executor = _submitit().AutoExecutor(folder, cluster=cluster)
            self._executor.update_parameters(**{"name": "sweep", **DEFAULTS, **resources})
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as err:
            mend = "docs/sweeps.md names the usual ones; --executor local runs here."
            raise ConfigError(f"--executor {cluster}", f"{first_line(err)}.", mend) from err

    def carry_out(self, parts: Sequence[Part]) -> list[SweepRun]:
        """Do all parts; returns the runs that were not done. An exception, such as Ctrl-C, cancels the jobs."""
        waiting = list(parts)
        try:
            while any(not part.over for part in parts):
                running = [part for part in parts if part.job is not None and not part.over]
                while waiting and (self.at_once is None or len(running) < self.at_once):
                    running.append(waiting.pop(0))
                    self._submit(running[-1])
                for part in running:
                    self._look(part)
                if any(not part.over for part in parts):
                    time.sleep(POLL_SECONDS)
        except BaseException:
            for part in parts:
                if part.job is not None and not part.over:
                    part.job.cancel(check=False)
            raise
        return [run for part in parts for run in part.left]

    def _submit(self, part: Part) -> None:
        part.job = self._executor.submit(part.command)
        part.submitted += 1
        say("sweep", f"{part.name}: job {part.job.job_id}, log {part.job.paths.stdout}")

    def _look(self, part: Part) -> None:
        ended = part.job.done()
        left = part.left
        for run in part.runs:
            if run not in left and run.number not in part.told:
                part.told.add(run.number)
                self.done(run)
        if not left:  # the job may still be at its table
            part.over = ended
        elif ended:
            self._ended(part, left)

    def _ended(self, part: Part, left: Sequence[SweepRun]) -> None:
        """A job has ended before its runs were done: by itself, or killed."""
        names = ", ".join(run.name for run in left)
        if part.job.paths.result_pickle.exists():
            part.over = True
            say("sweep", f"{part.name}: failed: {names}; log {part.job.paths.stdout}")
        elif part.submitted > RETRIES:
            part.over = True
            say("sweep", f"{part.name}: its job was killed {part.submitted} times; not done: {names}")
        else:
            say("sweep", f"{part.name}: job {part.job.job_id} was killed; submitted again")
            self._submit(part)
