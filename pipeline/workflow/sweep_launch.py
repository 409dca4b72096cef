"""A run of an experiment as processes: the stages that have work, in order, each one's words in the run's log.

What the runs are is :mod:`pipeline.sweep`'s, and continuing interrupted work each stage's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.base.files import is_held, make_dirs
from pipeline.base.terminal_text import escape_for_terminal
from pipeline.store.store import Store, Version
from pipeline.workflow.config import replaced
from pipeline.workflow.experiment import STAGES, Experiment
from pipeline.workflow.graph import nothing_to_do
from pipeline.workflow.stage import Planner

MEASURED = STAGES[: STAGES.index("evaluate") + 1]
"""Up to the figures. A report is a page for people, of one run, and is made when somebody wants it."""

POLL_SECONDS = 1.0
TAIL_LINES = 8


class StageFailed(Exception):
    """A stage ended without its versions.

    Args:
        status: what its process ended with; below 0 the signal that ended it.
    """

    def __init__(self, stage: str, status: int) -> None:
        self.stage, self.status = stage, status
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        super().__init__(f"failed in {stage} ({how})")


class Stopped(Exception):
    """Somebody asked for an end."""


@dataclass(frozen=True)
class Launchable:
    """A config and what the command line needs to give it to a stage."""

    config: Experiment
    arguments: tuple[str, ...]
    """Overrides, as the stages take them."""
    log: Path
    tracked_as: Mapping[str, str] = field(default_factory=dict[str, str])
    """``run_name`` of its stages, where a tracker would take it for another run of the same seed."""


def stages(config: Experiment) -> list[str]:
    """Those that this experiment has, up to its figures."""
    return [s for s in MEASURED if nothing_to_do(config, s) is None]


def made(config: Experiment) -> tuple[dict[str, dict[str, Version]], str | None]:
    """What is done: (each finished stage's versions by role, the first stage that has work or None)."""
    planner = Planner(config, Store(config.data_dir))
    found: dict[str, dict[str, Version]] = {}
    for stage in stages(config):
        # A version that ``inputs`` names may not be there: the run will say so when its turn comes.
        with contextlib.suppress(StoreError):
            if (outputs := planner.outputs(stage)) is not None:
                found[stage] = outputs
                continue
        return found, stage
    return found, None


class Launcher:
    """Runs stages, several at a time where asked from several threads, and ends them when it is told to stop.

    Args:
        command: what stands before ``-m pipeline.STAGE``.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self.stopping = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def run(self, job: Launchable, begins: Callable[[str], None], devices: str | None = None) -> None:
        """Do what is left of a run.

        Args:
            begins: called with each stage that has work, before it is launched or waited for.
            devices: the ``CUDA_VISIBLE_DEVICES`` of its processes; None leaves it as it is.
        Raises:
            StageFailed: a stage did; the log says why.
            PipelineError: an input that the config names is not there.
            Stopped: :meth:`stop` was called.
        """
        planner = Planner(job.config, Store(job.config.data_dir))
        for stage in stages(job.config):
            told = False
            while planner.outputs(stage) is None:
                if self.stopping.is_set():
                    raise Stopped
                if not told:
                    begins(stage)
                    told = True
                planned = planner.run_of(stage)
                if _held(planned.workdir):  # by a run that shares this stage, or by one that outlived its sweep
                    self.stopping.wait(POLL_SECONDS)
                    planner.forget(stage)
                    continue
                # The other settings that an interrupted run was left with are no slip here, but another run's.
                fresh = [] if planned.checkpoints.latest() is not None else ["--fresh"]
                status = self._launch(stage, job, fresh, devices)
                planner.forget(stage)
                if self.stopping.is_set():
                    raise Stopped
                if planner.outputs(stage) is None and not (status and _held(planned.workdir)):
                    raise StageFailed(stage, status)

    def stop(self) -> None:
        """End what runs. A stage that is ended continues from its last checkpoint."""
        self.stopping.set()
        with self._lock:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def _launch(self, stage: str, job: Launchable, more: Sequence[str], devices: str | None) -> int:
        command = [*self.command, "-m", f"pipeline.{stage}", "--config", str(job.config.path), *more]
        own: list[str] = []
        if stage in job.tracked_as:
            own.append(f"{stage}.run_name={json.dumps(job.tracked_as[stage])}")
        # People's page is not served from here: what they have not labelled, this run cannot do.
        if stage == "collect" and job.config.asks_people:
            own.append("collect.serve=false")
        command += replaced(job.arguments, own)
        # A bar in a file is a line each time it moves.
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "10"}
        if devices is not None:
            env["CUDA_VISIBLE_DEVICES"] = devices
        make_dirs(job.log.parent)
        with job.log.open("ab") as log:
            log.write(f"\n== {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(command)}\n".encode())
            log.flush()
            with self._lock:
                if self.stopping.is_set():
                    raise Stopped
                # A group of its own: a launcher has children, which are to be ended with it.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    process_group=0,
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)


def tail(log: Path) -> list[str]:
    """The last lines of a log, each as a terminal may show it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        text = file.read().decode("utf-8", "replace")
    lines = [escape_for_terminal(line.rstrip()) for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line][-TAIL_LINES:]


def gpus() -> list[str]:
    """How ``CUDA_VISIBLE_DEVICES`` calls this machine's NVIDIA GPUs; those it names already, where it is set."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in given.split(",") if name]
    with contextlib.suppress(OSError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        found = [line for line in listed.splitlines() if line.startswith("GPU ")]
        return [str(n) for n in range(len(found))]
    return []


def _held(directory: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return is_held(directory)
    return False
