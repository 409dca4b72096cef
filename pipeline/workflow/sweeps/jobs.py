"""Run the parts of a sweep as jobs, on this machine or on a Slurm cluster, by submitit.

A part is the command that a person would submit (``--only 2/5``), so a job that is killed loses what a killed
command loses, and a part that is submitted again continues it. What is done is read from the store, and how a job
ended from a file and from Slurm's queue: no result of a job is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.files import hold, make_dirs
from pipeline.base.process import say
from pipeline.workflow.sweeps.command import Command
from pipeline.workflow.sweeps.launch import tail
from pipeline.workflow.sweeps.plan import SweepRun, select_part
from pipeline.workflow.sweeps.submission import Cluster, Job, RefusedError, Submission

POLL_SECONDS = 5.0
AGAIN_SECONDS = 60.0
"""How long after a refusal a job is offered again."""
RETRIES = 3
"""How often a part is submitted again whose job was killed; preemptions do not count."""
FINAL = {
    "CANCELLED": "was cancelled; the same command submits it again",
    "OUT_OF_MEMORY": "ran out of memory; give it more, such as --resource mem_gb=64",
}
"""States after which a part is not submitted again."""


@dataclass
class Part:
    """Some runs of a sweep, which one job does."""

    number: int
    of: int
    folder: Path
    """For the job's files and its log."""
    command: Command
    runs: list[SweepRun]
    job: Job | None = None
    kills: int = 0
    over: bool = False
    told: set[int] = field(default_factory=set[int])

    @property
    def name(self) -> str:
        return f"part {self.number}/{self.of}"

    @property
    def left(self) -> list[SweepRun]:
        """Its runs that are not done, as the store says now."""
        for run in self.runs:
            if run.next is not None:
                run.refresh()
        return [run for run in self.runs if run.next is not None]

    @property
    def outcome(self) -> str | None:
        """How its command ended by itself, such as "status 1"; None where it did not."""
        with contextlib.suppress(FileNotFoundError):
            return self.command.outcome.read_text(encoding="utf-8")
        return None


def check_executor(args: Namespace) -> None:
    """Raise ConfigError for options that do nothing without ``--executor``, or beside it."""
    if args.executor is None and (args.resource or args.parts is not None):
        raise ConfigError("--resource, --parts", "are of jobs.", "Add --executor local or --executor slurm.")
    if args.executor is not None and args.only is not None:
        raise ConfigError("--only", "is what each job of --executor gets.", "Leave one of them out.")


def parts_of(runs: Sequence[SweepRun], args: Namespace, folder: Path) -> list[Part]:
    """The jobs of a sweep: by default one for each seed, whose runs share their first stages.

    Args:
        args: the sweep's command line.
        folder: for the jobs' files; each part has a folder of its own in it.
    """
    words = [sys.executable, "-m", "pipeline.sweep", "--config", args.config, "--seeds", args.seeds]
    words += [word for axis in args.grid for word in ("--grid", axis)]
    count = min(args.parts or len({run.seed for run in runs}), len(runs))
    parts: list[Part] = []
    for i in range(1, count + 1):
        only, own = f"{i}/{count}", folder / f"part-{i}-of-{count}"
        command = Command([*words, "--only", only, "--launch", args.launch, *args.overrides], own / "outcome")
        mine = select_part(runs, only)
        done = {run.number for run in mine if run.next is None}
        parts.append(Part(i, count, own, command, mine, told=done))
    return parts


class Jobs:
    """Submits parts and waits for them.

    Args:
        folder: for submitit's files and the jobs' logs; all machines have to see it.
        resources: submitit's parameters, such as ``timeout_min``, ``gpus_per_node`` or ``slurm_partition``.
        at_once: most jobs at a time; None leaves that to the cluster.
        done: called with each run that has become done.
    Raises:
        ConfigError: submitit or the cluster is not there, it knows no such resource, or another command waits for
            the jobs of this sweep.
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
        self.submission = Submission(cluster, resources, folder)
        self._begun, self._silent, self._again = False, False, float("-inf")
        make_dirs(folder)
        try:
            self._held = hold(folder, wait=False)
        except BlockingIOError as err:
            mend = "Wait for it, or end it by Ctrl-C, which cancels them."
            raise ConfigError(
                f"--executor {cluster}", "another command waits for this sweep's jobs.", mend
            ) from err

    def carry_out(self, parts: Sequence[Part]) -> list[SweepRun]:
        """Do all parts; returns the runs that were not done. Ctrl-C and SIGTERM cancel the jobs."""
        try:
            self._attach(parts)
            self._until_all_are_over(parts, [part for part in parts if part.job is None])
        except (KeyboardInterrupt, SystemExit):
            for part in parts:
                if part.job is not None and not part.over:
                    part.job.cancel()
            raise
        finally:
            os.close(self._held)
        return [run for part in parts for run in part.left]

    def _until_all_are_over(self, parts: Sequence[Part], waiting: list[Part]) -> None:
        while True:
            self._submit(waiting, [part for part in parts if part.job is not None and not part.over])
            for part in parts:
                if part.job is not None and not part.over and self._has_to_go_again(part, part.job):
                    part.job = None
                    waiting.insert(0, part)
            self._tell_of_silence(self.submission.queue.problem)
            if all(part.over for part in parts):
                return
            time.sleep(POLL_SECONDS)

    def _attach(self, parts: Sequence[Part]) -> None:
        """Take over the jobs that an earlier command has left in the queue, as where it was killed.

        Raises:
            ConfigError: they do the same sweep in other parts.
        """
        names = {part.folder.name: part for part in parts}
        for job in self.submission.submitted_before():
            name = job.script.parent.name
            _, _, count = name.partition("-of-")
            if count != str(parts[0].of):
                mend = f"Give --parts {count}, or cancel it: scancel {job.id}"
                raise ConfigError("--parts", f"job {job.id} does this sweep in {count} parts.", mend)
            if (part := names.get(name)) is not None and part.job is None:
                part.job, self._begun = self.submission.attach(part.name, job), True
                say("sweep", f"{part.name}: job {job.id} is there already, log {part.job.log}")

    def _submit(self, waiting: list[Part], running: list[Part]) -> None:
        """Submit as many of the waiting parts as may run at a time.

        Raises:
            ConfigError: the cluster takes none, and no job's end can change that.
        """
        while (
            waiting and (self.at_once is None or len(running) < self.at_once) and time.monotonic() >= self._again
        ):
            part = waiting[0]
            part.command.outcome.unlink(missing_ok=True)
            try:
                part.job = self.submission.submit(part.name, part.command, part.folder)
            except RefusedError as err:
                if not running and (not self._begun or self.submission.answers()):
                    where = f"--executor {self.submission.cluster}"
                    raise ConfigError(where, f"{part.name} was not taken: {err}.") from err
                say("sweep", f"{part.name} was not taken, and waits: {err}")
                self._again = time.monotonic() + AGAIN_SECONDS
                return
            self._begun = True
            say("sweep", f"{part.name}: job {part.job.id}, log {part.job.log}")
            running.append(waiting.pop(0))

    def _has_to_go_again(self, part: Part, job: Job) -> bool:
        """Look at a part's job, and print what has come of it."""
        state, outcome = job.ended(), part.outcome
        left = part.left
        for run in part.runs:
            if run not in left and run.number not in part.told:
                part.told.add(run.number)
                self.done(run)
        if not left:  # the job may still be at its table
            part.over = state is not None or outcome is not None
            return False
        return state is not None and self._ended(part, job, left, state, outcome)

    def _ended(self, part: Part, job: Job, left: Sequence[SweepRun], state: str, outcome: str | None) -> bool:
        """A job has ended before its runs were done: by itself, or killed. Returns whether to submit it again."""
        names = ", ".join(run.name for run in left)
        if state not in FINAL and outcome is None:
            part.kills += state != "PREEMPTED"
            if part.kills <= RETRIES:
                say("sweep", f"{part.name}: job {job.id} was killed ({state}); it is submitted again")
                return True
        part.over = True
        if state in FINAL:
            say("sweep", f"{part.name}: job {job.id} {FINAL[state]}. Not done: {names}")
        elif outcome is None:
            say("sweep", f"{part.name}: its job was killed {part.kills} times ({state}). Not done: {names}")
        else:
            ends = [f"    {line}" for line in tail(job.log)] if job.log.exists() else []
            say("sweep", "\n".join([f"{part.name}: failed ({outcome}): {names}; log {job.log}", *ends]))
        return False

    def _tell_of_silence(self, problem: str) -> None:
        if bool(problem) != self._silent:
            self._silent = bool(problem)
            waits = f"Slurm does not answer ({problem}); jobs that run go on, and this command waits"
            say("sweep", waits if problem else "Slurm answers again")
