"""Launch the stages of a run that have work, in order, as processes that write to the run's log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.files import is_held, make_dirs
from pipeline.base.terminal_text import escape_for_terminal
from pipeline.store.store import Store, Version
from pipeline.workflow.config import replaced
from pipeline.workflow.experiment import STAGES, Experiment
from pipeline.workflow.graph import nothing_to_do
from pipeline.workflow.stage import Planner

MEASURED = STAGES[: STAGES.index("evaluate") + 1]
"""The stages of a sweep's run, up to ``evaluate``; reports are made on request."""

POLL_SECONDS = 1.0
TAIL_LINES = 8


class StageFailed(Exception):
    """A stage ended without its versions.

    Args:
        status: exit status of its process; below 0 the signal that ended it.
    """

    def __init__(self, stage: str, status: int) -> None:
        self.stage, self.status = stage, status
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        super().__init__(f"failed in {stage} ({how})")


class Stopped(Exception):
    """:meth:`Launcher.stop` was called."""


@dataclass(frozen=True)
class Launchable:
    """A config, and the command line that gives it to a stage."""

    config: Experiment
    arguments: tuple[str, ...]
    """Overrides of the config."""
    log: Path
    tracked_as: Mapping[str, str] = field(default_factory=dict[str, str])
    """``run_name`` by stage, which keeps runs of the same seed apart in a tracker."""


def stages(config: Experiment) -> list[str]:
    """The stages of this experiment, up to ``evaluate``."""
    return [s for s in MEASURED if nothing_to_do(config, s) is None]


def made(config: Experiment) -> tuple[dict[str, dict[str, Version]], str | None]:
    """(versions by role of each finished stage, the first stage that has work or None)."""
    planner = Planner(config, Store(config.data_dir))
    finished: dict[str, dict[str, Version]] = {}
    for stage in stages(config):
        # A version that ``inputs`` names may not exist; the stage itself reports it.
        with contextlib.suppress(StoreError):
            if (outputs := planner.outputs(stage)) is not None:
                finished[stage] = outputs
                continue
        return finished, stage
    return finished, None


class Launcher:
    """Runs stages as processes, from several threads, and ends them on :meth:`stop`.

    Args:
        command: the words before ``-m pipeline.STAGE``.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self.stopping = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def run(self, job: Launchable, begins: Callable[[str], None], devices: str | None = None) -> None:
        """Do the remaining stages of a run.

        Args:
            begins: called with each stage that has work, before it is launched or waited for.
            devices: the ``CUDA_VISIBLE_DEVICES`` of its processes; None leaves it as it is.
        Raises:
            StageFailed: a stage failed; the log says why.
            PipelineError: an input that the config names does not exist.
            Stopped: :meth:`stop` was called.
        """
        planner = Planner(job.config, Store(job.config.data_dir))
        for stage in stages(job.config):
            announced = False
            while planner.outputs(stage) is None:
                if self.stopping.is_set():
                    raise Stopped
                if not announced:
                    begins(stage)
                    announced = True
                planned = planner.run_of(stage)
                if _held(planned.workdir):  # by a run that shares this stage, or by an earlier sweep
                    self.stopping.wait(POLL_SECONDS)
                    planner.forget(stage)
                    continue
                # Interrupted work of other settings belongs to another run of the sweep.
                fresh = [] if planned.checkpoints.latest() is not None else ["--fresh"]
                status = self._launch(stage, job, fresh, devices)
                planner.forget(stage)
                if self.stopping.is_set():
                    raise Stopped
                if planner.outputs(stage) is None and not (status and _held(planned.workdir)):
                    raise StageFailed(stage, status)

    def stop(self) -> None:
        """End the running stages, which continue from their last checkpoints when launched again."""
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
        # A sweep does not serve the labelling page.
        if stage == "collect" and job.config.asks_people:
            own.append("collect.serve=false")
        command += replaced(job.arguments, own)
        # In a file, a progress bar is a new line with each update.
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
                # Its own process group, so that a launcher's children are ended with it.
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


def launch_words(text: str) -> list[str]:
    """The words of ``--launch``, which stand before ``-m pipeline.STAGE``.

    Raises:
        ConfigError: there is no such program.
    """
    words = shlex.split(text)
    if not words or shutil.which(words[0]) is None:
        raise ConfigError("--launch", f"{text!r} does not begin with a program.", "For example: accelerate launch")
    return words


def tail(log: Path) -> list[str]:
    """The last lines of a log, with control characters escaped."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        text = file.read().decode("utf-8", "replace")
    lines = [escape_for_terminal(line.rstrip()) for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line][-TAIL_LINES:]


def gpus() -> list[str]:
    """The NVIDIA GPUs of ``CUDA_VISIBLE_DEVICES``, or all of this machine where it is not set."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    with contextlib.suppress(OSError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        count = sum(line.startswith("GPU ") for line in listed.splitlines())
        return [str(n) for n in range(count)]
    return []


def _held(directory: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return is_held(directory)
    return False
