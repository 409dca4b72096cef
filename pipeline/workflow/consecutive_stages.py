"""Do consecutive stages: plan them in this process, import their libraries once, fork a process for each.

A forked process begins with what importing leaves behind and nothing of the stage before it: random states,
torch's settings, accelerate's singletons, the environment and the memory are its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import FrameType

from pipeline.base.cli import run_cli
from pipeline.base.errors import ConfigError
from pipeline.base.forks import ENDS, die_with_parent
from pipeline.base.process import quiet, say, world_size
from pipeline.base.terminal_text import put
from pipeline.sources.row_sources import check_source
from pipeline.store import interrupted
from pipeline.store.store import Store
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import STAGES, Experiment
from pipeline.workflow.graph import nothing_to_do, trains_base
from pipeline.workflow.stage import Planner, Run
from pipeline.workflow.stage_command import (
    BODIES,
    NOTHING_TO_DO,
    WORK_TO_DO,
    check_before,
    check_test_sets,
    command_line,
    do_work,
    load_body,
    report_done,
)

INTERRUPTED = 128 + signal.SIGINT
READS_ROWS = {"sft": ("task",), "collect": ("task", "annotator")}
"""Which stages read the rows that ``task_args.dataset`` and ``collect.annotator_args.dataset`` name."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code, that of the stage that failed.

    Raises:
        PipelineError: the command line, the config or an input is wrong.
    """
    parser = command_line("pipeline.run")
    parser.add_argument("words", nargs="*", metavar="STAGE | section.key=value", help=f"of {', '.join(STAGES)}")
    args = parser.parse_intermixed_args(argv)
    stages = ordered(word for word in args.words if "=" not in word)
    if not args.check:
        require_fork()
    config = load_config(args.config, [word for word in args.words if "=" in word])
    check_test_sets(config, look=False)
    planner, imported = Planner(config, Store(config.data_dir)), False
    for number, stage in enumerate(stages):
        if (reason := nothing_to_do(config, stage)) is not None:
            say(stage, f"nothing to do: {reason}")
            continue
        planned = planner.run_of(stage)
        if report_done(planned):
            interrupted.clear(planned.workdir)
            continue
        if not imported:
            check_rows(config, stages[number:])
        if args.check:
            check_before(planned, replace(planned.work, world_size=None), args.fresh)
            return WORK_TO_DO
        if not imported:
            say(stage, "importing torch and transformers")
            import_bodies(s for s in stages[number:] if nothing_to_do(config, s) is None)
            imported = True
        status = in_child(stage, functools.partial(work, planned, args.fresh), args.fresh)
        if status != NOTHING_TO_DO:
            return status
        planner.forget(stage)
    return NOTHING_TO_DO


def check_rows(config: Experiment, stages: Sequence[str]) -> None:
    """Refuse rows that are nowhere, before a base is trained for the stage that would read them.

    A task or an annotator outside this package may mean something else by ``dataset``.

    Raises:
        DataError: there is no such file, directory or name on the Hub.
    """
    named = {
        "task": ("task_args.dataset", config.task, config.task_args),
        "annotator": ("collect.annotator_args.dataset", config.collect.annotator, config.collect.annotator_args),
    }
    read_by = [s for s in stages if s in READS_ROWS and nothing_to_do(config, s) is None]
    if not trains_base(config):  # a model that is only converted reads no rows
        read_by = [s for s in read_by if s != "sft"]
    for part in dict.fromkeys(part for stage in read_by for part in READS_ROWS[stage]):
        key, plugin, args = named[part]
        if "." not in plugin and isinstance(source := args.get("dataset"), str):
            check_source(source, key)


def ordered(words: Iterable[str]) -> list[str]:
    """The named stages in the order in which they depend on each other; all of them where none is named.

    Raises:
        ConfigError: there is no such stage.
    """
    named = set(words)
    if unknown := sorted(named - set(STAGES)):
        mend = f"There are: {', '.join(STAGES)}"
        raise ConfigError("command line", f"{unknown[0]!r} is neither a stage nor key=value.", mend)
    return [stage for stage in STAGES if stage in named or not named]


def require_fork() -> None:
    """Refuse to work where a process must not be forked, or is one of several.

    Raises:
        ConfigError: macOS, whose libraries do not survive a fork, or several ranks.
    """
    mend = "Run the stages by themselves: python -m pipeline.STAGE, or give make a LAUNCH."
    if sys.platform == "darwin" or not hasattr(os, "fork"):
        raise ConfigError("pipeline.run", f"forks its processes, which {sys.platform} does not allow.", mend)
    if world_size() > 1:
        raise ConfigError("pipeline.run", f"is one process, and was launched as {world_size()}.", mend)


def import_bodies(stages: Iterable[str]) -> None:
    """Import what the stages need, before any of them is forked."""
    quiet()
    # Asking CUDA's runtime for its devices would leave it unusable in a forked process; the driver may be asked.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if "trackio" in os.environ.get("RLHF_REPORT_TO", "trackio"):  # else each stage that trains would import it
        with contextlib.suppress(ImportError):
            importlib.import_module("trackio")
    for stage in stages:
        load_body(BODIES[stage])


def work(planned: Run, fresh: bool) -> None:
    """Do a stage's work; its time counts from now."""
    planned.started = time.time()
    do_work(planned, BODIES[planned.stage], fresh)


def in_child(stage: str, call: Callable[[], None], fresh: bool = False) -> int:
    """Make a call in a forked process, which ends as a program of its own would; returns its exit status.

    Ctrl-C reaches both processes, and the child answers it; SIGTERM is passed on to it.

    Args:
        fresh: the same command would drop what the call leaves, and has to be another one to go on.
    """
    goes_on = f"{'Without --fresh the' if fresh else 'The'} same command goes on where it was."
    sys.stdout.flush()
    sys.stderr.flush()
    child = 0

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    parent, blocked = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # a signal in between waits
    try:
        before = {number: signal.getsignal(number) for number in ENDS}
        child = os.fork()
        if child:
            # One that came before the child did reaches nobody else, and is dropped once it is ignored here.
            if signal.SIGINT in signal.sigpending():
                os.kill(child, signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, pass_on)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if child == 0:
        die_with_parent(parent)
        run_cli(lambda _: call())
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status < 0:
        put(f"error: {stage} was ended by {signal.Signals(-status).name}. {goes_on}", sys.stderr)
        return 128 - status
    if status == INTERRUPTED:
        put(goes_on, sys.stderr)
    return status
