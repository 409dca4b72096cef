"""Submit a command as a job by submitit, find one that was submitted before, and say what has become of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.base.errors import ConfigError, first_line
from pipeline.base.process import say
from pipeline.workflow.sweeps.command import Command, submitit
from pipeline.workflow.sweeps.slurm import ENDED, QueuedJob, SlurmQueue, UnreachableError

Cluster = Literal["local", "slurm"]

DEFAULTS: Mapping[str, Any] = {"name": "sweep", "timeout_min": 24 * 60, "stderr_to_stdout": True}
"""submitit's own limit is five minutes."""
SETUP = (
    # Since Slurm 22.05 srun no longer takes this number from the job (man srun, --cpus-per-task).
    'if [ -n "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi',
    # Where Slurm does not bind jobs to their processors, torch would use all of the machine's.
    "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}}",
)
ONE_PROCESS = ("nodes", "tasks_per_node", "slurm_nodes", "slurm_ntasks_per_node", "slurm_tasks_per_node")
OF_THE_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI")
"""Variables that Slurm and submitit set in a job begin so."""


class RefusedError(Exception):
    """The cluster did not take a job."""


class Job(Protocol):
    """A submitted job."""

    @property
    def id(self) -> str: ...

    @property
    def log(self) -> Path: ...

    def ended(self) -> str | None:
        """Its last state, in the cluster's words; None while it goes on, or while nobody can say."""
        ...

    def cancel(self) -> None: ...


@dataclass
class LocalJob:
    """A job of submitit's local executor, a process of this machine."""

    id: str
    log: Path
    job: Any

    def ended(self) -> str | None:
        return "its process is gone" if self.job.done() else None

    def cancel(self) -> None:
        self.job.cancel(check=False)


@dataclass
class SlurmJob(LocalJob):
    """A job of Slurm, which may be another command's."""

    queue: SlurmQueue
    name: str
    told: str = ""

    def ended(self) -> str | None:
        """Its last state. Prints when it begins to wait and when it begins to run."""
        job = self.queue.find(self.id)
        if job is not None and job.state != self.told and job.state in ("PENDING", "RUNNING", "SUSPENDED"):
            self.told = job.state
            say(
                "sweep",
                f"{self.name}: job {self.id} is {job.state.lower()} {job.place.replace('(None)', '')}".rstrip(),
            )
        return None if job is None or job.state not in ENDED else job.state


def check_resources(resources: Mapping[str, Any]) -> None:
    """Raise ConfigError for resources with which a job would be more than one process, or has no known end."""
    for key in ONE_PROCESS:
        if resources.get(key, 1) != 1:
            mend = "Stages of several ranks: --launch 'torchrun --nproc-per-node 4'. Several nodes: docs/hosts.md."
            raise ConfigError(f"--resource {key}", "is 1: each task of a job would do the same runs.", mend)
    if "slurm_time" in resources:
        raise ConfigError("--resource slurm_time", "is unknown to submitit's own clock.", "Give timeout_min=720")


@contextlib.contextmanager
def outside_of_jobs() -> Generator[None]:
    """Hide what Slurm has told the job that this process may run in; sbatch would give it to the new one."""
    inside = "SLURM_JOB_ID" in os.environ
    hidden = {k: v for k, v in os.environ.items() if inside and k.startswith(OF_THE_JOB) and k != "SLURM_CONF"}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


class Submission:
    """Submits jobs to one cluster, with the same resources.

    Args:
        resources: submitit's parameters, such as ``timeout_min``, ``gpus_per_node`` or ``slurm_partition``.
        folder: where they will lie.
    Raises:
        ConfigError: submitit or the cluster is not there, or it knows no such resource.
    """

    def __init__(self, cluster: Cluster, resources: Mapping[str, Any], folder: Path) -> None:
        check_resources(resources)
        self.cluster, self.folder, self.queue = cluster, folder, SlurmQueue()
        self._resources = {**DEFAULTS, **resources}
        if cluster == "slurm":
            own = resources.get("slurm_setup", ())
            self._resources["slurm_setup"] = [*SETUP, *((own,) if isinstance(own, str) else own)]
        self._executor(folder)

    def submit(self, name: str, command: Command, folder: Path) -> Job:
        """Submit a command; ``folder`` is for its files and its log.

        Raises:
            RefusedError: the cluster did not take it.
        """
        with outside_of_jobs():
            try:
                job = self._executor(folder).submit(command)
            except RuntimeError as err:  # submitit's, with what sbatch has said
                said = [line.strip().removeprefix("sbatch: error: ") for line in str(err).strip().splitlines()]
                raise RefusedError("; ".join(said)) from err
        log = Path(job.paths.stdout)
        if self.cluster == "local":
            return LocalJob(job.job_id, log, job)
        self.queue.expect()
        return SlurmJob(job.job_id, log, job, self.queue, name)

    def answers(self) -> bool:
        """Whether the cluster answers now."""
        return self.cluster == "local" or self.queue.answers()

    def submitted_before(self) -> list[QueuedJob]:
        """The jobs below :attr:`folder` that wait or run, whoever has submitted them.

        Raises:
            ConfigError: Slurm does not answer.
        """
        if self.cluster == "local":
            return []
        try:
            jobs = self.queue.jobs()
        except UnreachableError as err:
            mend = "Is this a machine of the cluster (sinfo)?"
            raise ConfigError("--executor slurm", f"Slurm does not answer: {err}.", mend) from err
        home = self.folder.resolve()
        return [job for job in jobs if job.state not in ENDED and job.script.parent.parent.resolve() == home]

    def attach(self, name: str, job: QueuedJob) -> Job:
        """One of :meth:`submitted_before`, as if it had been submitted now."""
        known = submitit().SlurmJob(folder=job.script.parent, job_id=job.id)
        return SlurmJob(job.id, Path(known.paths.stdout), known, self.queue, name)

    def _executor(self, folder: Path) -> Any:
        try:
            executor = submitit().AutoExecutor(folder, cluster=self.cluster)
            executor.update_parameters(**self._resources)
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as err:
            mend = "docs/sweeps.md names the usual ones; --executor local runs here."
            raise ConfigError(f"--executor {self.cluster}", f"{first_line(err)}.", mend) from err
        return executor
