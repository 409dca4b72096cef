"""Carry out the runs of a sweep, some at a time, and print how far each is."""

from __future__ import annotations

import concurrent.futures
import queue
import time
from collections.abc import Sequence

from pipeline.base.errors import PipelineError
from pipeline.base.process import say
from pipeline.reporting import sweep_table
from pipeline.stages.sweep.sweep_version import figures
from pipeline.workflow.sweeps.launch import Launcher, StageFailed, Stopped, gpus, tail
from pipeline.workflow.sweeps.plan import Eta, SweepRun, in_words


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
