"""Train each reader's reward model and policy on one base: one reader after another, or several at a time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from pipeline.base.errors import PipelineError
from pipeline.base.forks import Ended, call_in_forks
from pipeline.base.process import say
from pipeline.modeling.one_base import keep_for_forks, one_base
from pipeline.modeling.precision import base_dtype
from pipeline.stages.readers.record import publish
from pipeline.trainers.arguments import has_accelerator
from pipeline.workflow.readers import Reader, Readers
from pipeline.workflow.stage_command import BODIES, do_work

Calls = Mapping[str, Callable[[], None]]


class ReaderError(PipelineError):
    """Some readers' training has failed; the others' is done.

    Args:
        failed: all of them, in the order in which they failed.
    """

    def __init__(self, failed: Sequence[Ended]) -> None:
        first, *others = failed
        more = f"{len(others)} more failed: {', '.join(e.name for e in others)}." if others else ""
        super().__init__(f"reader {first.name}", first.error, more)
        self.status = first.status


def train(plan: Readers, readers: Sequence[Reader], fresh: bool, jobs: int) -> None:
    """Do every reader's stages that have work, and the record of them.

    Args:
        jobs: readers at a time, each in a process of its own; 1 does them in this one, one after another.
    Raises:
        ReaderError: a reader's training has failed. The others have been trained nevertheless.
    """
    calls = {
        reader.name: functools.partial(train_reader, reader, f"{number} of {len(readers)}, {reader.name}", fresh)
        for number, reader in enumerate(readers, 1)
        if reader.work()
    }
    jobs = min(jobs, len(readers))  # not of those with work: a continued reader has as many threads as before
    with one_base():
        failed = at_a_time(plan, calls, jobs) if jobs > 1 and calls else in_turn(calls)
    for reader in readers:
        reader.forget()
    if failed:
        raise ReaderError(failed)
    if plan.record(readers) is None:
        publish(plan, readers)


def train_reader(reader: Reader, place: str, fresh: bool) -> None:
    """Do a reader's stages that have work.

    Args:
        place: what progress lines call the reader.
    """
    for stage in reader.work():
        planned = reader.planner.run_of(stage)
        if planned.done() is None:
            say("readers", f"{place}: {stage}")
            planned.started = time.time()
            do_work(planned, BODIES[stage], fresh)
    say("readers", f"{place}: done")


def in_turn(calls: Calls) -> list[Ended]:
    """Train one reader after another; returns those that failed."""
    failed: list[Ended] = []
    for name, call in calls.items():
        try:
            call()
        except PipelineError as err:
            failed.append(Ended(name, err.status, str(err)))
            say("readers", f"{name} failed: {err}")
    return failed


def at_a_time(plan: Readers, calls: Calls, jobs: int) -> list[Ended]:
    """Train ``jobs`` readers at a time, in processes that share the base and divide the threads.

    On a GPU each has its own copy of the base there. Returns the readers that failed.
    """
    threads = torch.get_num_threads()
    each = max(1, threads // jobs)
    failed: list[Ended] = []
    if not has_accelerator():
        keep_for_forks(*plan.shared.run_of("ppo").base, dtypes(plan))
        say("readers", f"{jobs} at a time, each with {each} of {threads} threads")

    def with_own_threads(call: Callable[[], None]) -> None:
        if each != threads:
            torch.set_num_threads(each)
        call()

    def tell(ended: Ended) -> None:
        if ended.status:
            failed.append(ended)
            say("readers", f"{ended.name} failed: {ended.error}")

    call_in_forks({name: functools.partial(with_own_threads, call) for name, call in calls.items()}, jobs, tell)
    return failed


def dtypes(plan: Readers) -> set[torch.dtype]:
    """In which precisions readers' stages read the base on a CPU."""
    chosen = plan.config.chosen
    return {base_dtype(chosen[stage].get("bf16"), "cpu") for stage in ("ppo", "evaluate")}
