"""What a job of a sweep does: a command of its own, and a file that says how it ended."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError, first_line
from pipeline.base.files import replace_text

GRACE_SECONDS = 3600.0
"""How long a job whose command was told to end waits for Slurm to end it too."""
WITHOUT_NOTICES = ("sh", "-c", "trap '' USR1 USR2; exec \"$@\"", "sh")
"""Stands before a command that is to ignore the notice that a job's time is nearly over.

Slurm sends it to every process of a job's step, which ends those that do not know it. It is meant for submitit's,
which queues the job again; were the command ended first, the job would be over and nothing queued.
"""
TOLD_TO_END = (-signal.SIGTERM, 128 + signal.SIGTERM)


@dataclass
class Command:
    """What a job does; submitit keeps it in a file of its own (pickled) until then.

    Args:
        words: the command.
        outcome: a file for the words "status N", written where the command ended by itself. Where something else
            ended it, such as a preemption, there is none.
    """

    words: list[str]
    outcome: Path

    def __call__(self) -> None:
        """Run it to its end. Raises SystemExit with its status, unless that is 0."""
        self.outcome.unlink(missing_ok=True)
        words = [*WITHOUT_NOTICES, *self.words]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, process_group=0)
        try:
            status = process.wait()
            if status in TOLD_TO_END and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                _wait_to_be_ended()
        except RuntimeError as err:  # submitit's: the job's time was over too often
            self._write(first_line(err))
            raise
        finally:  # the job's time is over, or somebody else needs its place
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
        if status >= 0 and status not in TOLD_TO_END:
            self._write(f"status {status}")
        if status:
            sys.exit(status if status > 0 else 128 - status)

    def checkpoint(self) -> Any:
        """What submitit queues where a job is preempted: the same command, which continues."""
        return submitit().helpers.DelayedSubmission(self)

    def _write(self, text: str) -> None:
        replace_text(self.outcome, text, self.outcome.parent)


def _wait_to_be_ended() -> None:
    """Slurm does not requeue a job that ends by itself within the grace time of a preemption: it has failed."""
    print("waiting for Slurm, which told this job to end", flush=True)
    time.sleep(GRACE_SECONDS)


def submitit() -> Any:
    """The module. Raises ConfigError: it is not installed."""
    try:
        return importlib.import_module("submitit")
    except ImportError as err:
        mend = "pip install 'rlhf-pipeline[cluster]', or submit the parts yourself: --only I/N."
        raise ConfigError("--executor", "needs the package submitit, which is not installed.", mend) from err
