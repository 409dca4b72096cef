"""The command line of a stage: read the config, see whether the work is done, lock its directory, do it.

With several processes (ranks) all of them decide alike, see :mod:`pipeline.workflow.ranks_agree`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial

from pipeline.base.cli import as_called
from pipeline.base.errors import PipelineError
from pipeline.base.process import main_process, quiet, say, world_size
from pipeline.store import interrupted
from pipeline.store.checkpoints import Checkpoints
from pipeline.store.draft import plain
from pipeline.store.store import Store
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import nothing_to_do
from pipeline.workflow.ranks_agree import InContact, Together, disagreement, exchange, met_error
from pipeline.workflow.stage import Planner, Run

NOTHING_TO_DO, WORK_TO_DO = 0, 3
"""Exit codes of ``--check``."""

Body = Callable[[Run], None] | str
"""The function that does a stage's work, or its name ``module:function``, imported only once there is work."""

BODIES: Mapping[str, str] = {
    "sft": "pipeline.stages.sft:make_base",
    "collect": "pipeline.stages.collect.collect:collect",
    "reward": "pipeline.stages.reward:train_reward",
    "ppo": "pipeline.stages.ppo:train_policy",
    "evaluate": "pipeline.stages.evaluate.evaluate:evaluate",
    "report": "pipeline.stages.report:report",
}


def stage_main(
    stage: str,
    body: Body,
    argv: list[str] | None = None,
    together: Together | None = None,
    in_contact: InContact | None = None,
) -> int:
    """Run the command line of a stage; returns the exit code.

    Args:
        together: how several ranks exchange what they are about to do.
        in_contact: how one of several ranks notices that another is gone.
    """
    parser = command_line(f"pipeline.{stage}")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as ppo.kl_coef=0.1")
    args = parser.parse_intermixed_args(argv)
    several = together if together is not None and world_size() > 1 and not args.check else None
    planned = agreed_plan(stage, args.config, args.overrides, several)
    if planned is None:
        return NOTHING_TO_DO
    if report_done(planned):
        interrupted.clear(planned.workdir)
        return NOTHING_TO_DO
    if args.check:
        # The number of processes is known only when the stage is launched.
        check_before(planned, replace(planned.work, world_size=None), args.fresh)
        return WORK_TO_DO
    do_work(planned, body, args.fresh, several, in_contact if several else None)
    return NOTHING_TO_DO


def command_line(module: str) -> argparse.ArgumentParser:
    """The options that one stage and several have in common."""
    parser = argparse.ArgumentParser(
        prog=as_called(module),
        description=sys.modules.get(module, sys.modules["__main__"]).__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether there is work: exit 0 no, 3 yes")
    parser.add_argument("--fresh", action="store_true", help="start from the beginning, beside interrupted work")
    return parser


def do_work(
    planned: Run, body: Body, fresh: bool, together: Together | None = None, in_contact: InContact | None = None
) -> None:
    """Do a stage's work, unless another process has finished it in the meantime.

    Raises:
        PipelineError: see :func:`begin`, or the work's own.
    """
    quiet()
    with contextlib.ExitStack() as held:
        if begin(planned, fresh, together, held):
            return
        sources = ", ".join(i.ref for i in planned.inputs.values()) or "nothing"
        say(planned.stage, f"{planned.config.path}, from {sources}")
        if in_contact is not None:
            held.enter_context(in_contact(planned.stage, partial(last_checkpoint, planned)))
        load_body(body)(planned)
        planned.finish()
    say(planned.stage, f"done in {time.time() - planned.started:.0f} s")


def last_checkpoint(planned: Run) -> str:
    """A sentence on the newest checkpoint of the work; nothing where there is none to see, as in ``evaluate``."""
    with contextlib.suppress(PipelineError):
        if (last := planned.checkpoints.latest()) is not None:
            return f"The last checkpoint is that of step {Checkpoints.step(last)}."
    return ""


def load_body(body: Body) -> Callable[[Run], None]:
    """Import the function that does a stage's work.

    The half a million objects that come with torch and transformers live as long as the process. Left out of
    garbage collection they cost it nothing, and half a second less at its end; a forked process, which would copy
    every page of them, two seconds.
    """
    if not isinstance(body, str):
        return body
    module, _, name = body.partition(":")
    if module not in sys.modules:
        importlib.import_module(module)
        gc.freeze()
    return getattr(sys.modules[module], name)


def agreed_plan(stage: str, path: str, overrides: list[str], together: Together | None) -> Run | None:
    """Plan the stage's run, the same on all ranks; None, with a message, where the config leaves nothing to do.

    Raises:
        PipelineError: on all ranks alike: a config or an input is wrong, or ranks disagree.
    """
    planned, reason, done, error = None, None, False, None
    try:
        config = load_config(path, overrides)
        reason = nothing_to_do(config, stage)
        if reason is None:
            check_test_sets(config, look=False)
            planned = Planner(config, Store(config.data_dir)).run_of(stage)
            done = planned.done() is not None
    except PipelineError as err:
        error = err
    work = None if planned is None else plain(asdict(planned.work))
    problem = disagreement(exchange({"work": work, "done": done}, error, stage, together))
    if problem is not None:
        raise problem
    if reason is not None:
        say(stage, f"nothing to do: {reason}")
    return planned


def check_before(planned: Run, work: interrupted.Work, fresh: bool) -> None:
    """Check what would otherwise fail late.

    Raises:
        PipelineError: a test set cannot be read, or interrupted work of other settings is waiting.
    """
    if planned.stage == "reward":
        check_test_sets(planned.config, look=True)
    if main_process() and not fresh:
        interrupted.check(planned.work_root, planned.workdir, work, planned.planner.published(planned.stage))


def begin(planned: Run, fresh: bool, together: Together | None, held: contextlib.ExitStack) -> bool:
    """Lock the work's directory until ``held`` closes; the main process does it for all ranks.

    Returns:
        Whether another process has finished the work in the meantime.
    Raises:
        PipelineError: on all ranks alike: another process holds the lock, or see :func:`check_before`.
    """
    done, error = False, None
    try:
        check_before(planned, planned.work, fresh)
        if main_process():
            held.enter_context(interrupted.working(planned.workdir, planned.work, fresh))
            planned.planner.forget(planned.stage)
            # Without an exchange the other ranks would wait for this one.
            done = (together is not None or world_size() == 1) and report_done(planned)
    except PipelineError as err:
        error = err
    standings = exchange({"done": done}, error, f"{planned.stage}, begin", together)
    if (problem := met_error(standings)) is not None:
        raise problem
    return bool(standings[0]["done"])


def check_test_sets(config: Experiment, look: bool) -> None:
    """Check ``reward.test_sets``; see :func:`pipeline.workflow.named_sets.check_sets`."""
    if config.reward.test_sets:
        from pipeline.workflow.named_sets import check_sets  # pydantic and the formats: only where there are sets

        check_sets(config, look)


def report_done(planned: Run) -> bool:
    """Say so where the work is done; returns whether it is."""
    done = planned.done()
    if done is not None:
        say(planned.stage, f"up to date: {list(done.values())[-1].ref}")
    return done is not None
