"""Slurm's queue of jobs, by squeue: unlike sacct it needs no accounting database, which not every cluster has."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ASK_SECONDS = 15.0
"""How often squeue is asked at most."""
ANSWER_SECONDS = 60.0
COMMAND = ("squeue", "--states=all", "--noheader", "--format=%i|%T|%R|%o")

FORGOTTEN = "not in the queue"
"""The state of a job that Slurm no longer lists: it does for MinJobAge after its end, by default 300 seconds."""
ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
        *("REVOKED", "TIMEOUT", FORGOTTEN),
    }
)
"""States that a job does not leave. One that is suspended, or that Slurm has put back into the queue, goes on."""


class UnreachableError(Exception):
    """Slurm's controller gives no answer."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    id: str
    state: str
    """In Slurm's words, or :data:`FORGOTTEN`."""
    place: str = ""
    """Its nodes, or in brackets why it has none."""
    script: Path = Path()
    """The file that was given to sbatch."""


class SlurmQueue:
    """The jobs of this user, asked for now and then."""

    def __init__(self) -> None:
        self._jobs: dict[str, QueuedJob] = {}
        self._asked = float("-inf")
        self.problem = ""
        """Why the last question was not answered; empty where it was."""

    def find(self, job: str) -> QueuedJob | None:
        """A job by its number, at most 15 seconds old; None while Slurm gives no answer."""
        if time.monotonic() - self._asked >= ASK_SECONDS and not self.answers():
            self._asked = time.monotonic()
        return None if self.problem else self._jobs.get(job, QueuedJob(job, FORGOTTEN))

    def answers(self) -> bool:
        """Whether Slurm answers now."""
        try:
            self.jobs()
        except UnreachableError:
            return False
        return True

    def jobs(self) -> list[QueuedJob]:
        """Every job that Slurm lists now, ended ones too.

        Raises:
            UnreachableError: it gives no answer.
        """
        # What a user sets for squeue, such as a partition, would hide jobs.
        env = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
        words = [*COMMAND, f"--user={os.getuid()}"]
        try:
            said = subprocess.run(
                words, env=env, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
            )
        except (OSError, subprocess.SubprocessError) as err:
            lines = str(getattr(err, "stderr", None) or err).strip().splitlines()
            self.problem = lines[-1] if lines else type(err).__name__
            raise UnreachableError(self.problem) from err
        fields = [line.split("|", 3) for line in said.stdout.splitlines() if line.count("|") >= 3]
        jobs = [QueuedJob(job, state, place, Path(script)) for job, state, place, script in fields]
        self._jobs, self._asked, self.problem = {job.id: job for job in jobs}, time.monotonic(), ""
        return jobs

    def expect(self) -> None:
        """Ask again before the next answer, as a job was submitted."""
        self._asked = float("-inf")
