"""readers: a reward model and a policy from everybody's votes, and from each reader's own votes theirs."""

from __future__ import annotations

import argparse
import functools
import importlib
import subprocess
from collections.abc import Mapping, Sequence

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.process import say
from pipeline.base.records import reader_of
from pipeline.store.store import Version
from pipeline.workflow import consecutive_stages
from pipeline.workflow.config import replaced
from pipeline.workflow.readers import ASKED, LEARNT, Readers
from pipeline.workflow.stage_command import NOTHING_TO_DO, WORK_TO_DO
from pipeline.workflow.sweeps.launch import launch_words

NAMED = 8
"""Readers without a policy of their own who are named."""


def main(argv: list[str] | None = None) -> int:
    """Do what is not done: everybody's run, each reader's, the record of them, the report.

    Returns:
        3 where people have not answered enough, or with ``--check`` where there is work.
    Raises:
        PipelineError: the command line or the config is wrong, or the store cannot be read.
    """
    args = parser().parse_intermixed_args(argv)
    plan = Readers(args.config, args.overrides)
    if args.write is not None:
        return write(plan, args.write, args.reader)
    if args.jobs < 1:
        raise ConfigError("--jobs", f"{args.jobs} is below 1.")
    launch = launch_words(args.launch) if args.launch else []
    if (not launch or args.jobs > 1) and not args.check:
        consecutive_stages.require_fork()
    worked = False
    if plan.shared_work() is not None:
        if args.check:
            return WORK_TO_DO
        for stages in (ASKED, LEARNT):
            if status := run_stages(plan, stages, args.overrides, launch, args.fresh):
                return status
            plan, worked = Readers(args.config, args.overrides), True
            if plan.shared_work() in ASKED:
                say("readers", "waits for people's answers; the same command continues")
                return WORK_TO_DO
        if (todo := plan.shared_work()) is not None:
            raise ConfigError(plan.path, f"has changed meanwhile: {todo} has work again.", "Run the same command.")
    readers = plan.all()
    undone = sum(bool(reader.work()) for reader in readers)
    if undone or plan.record(readers) is None:
        if args.check:
            return WORK_TO_DO
        worked = True
        say("readers", f"{len(readers)} readers, {undone} of them with work; the base is loaded once for all")
        if without := plan.without():
            say("readers", f"the shared policy alone is for {kept_by(without)}")
        consecutive_stages.import_bodies(LEARNT)
        module = importlib.import_module("pipeline.stages.readers.train")
        call = functools.partial(module.train, plan, readers, args.fresh, args.jobs)
        if launch:
            call()
        elif status := consecutive_stages.in_child("readers", call, args.fresh):
            return status
        for reader in readers:
            reader.forget()
    record = plan.record(readers)
    assert record is not None
    return finish(plan, record, worked, launch, args)


def kept_by(without: Mapping[str, str]) -> str:
    """Who keeps the shared policy, the first of them with the reason."""
    named = "; ".join(f"{name} ({why})" for name, why in list(without.items())[:NAMED])
    more = len(without) - NAMED
    return f"{named}; and {more} more" if more > 0 else named


def write(plan: Readers, prompt: str, names: Sequence[str]) -> int:
    """Print what the shared policy and readers' own write after a prompt.

    Raises:
        ConfigError: a policy is to be trained first, or there is no such reader.
    """
    todo = plan.shared_work()
    readers = [] if todo else plan.all()
    undone = [reader.name for reader in readers if reader.work()]
    if todo or undone:
        what = f"is not done: {todo or ', '.join(undone)}."
        raise ConfigError(plan.path, what, f"Train the policies first: make readers CONFIG={plan.path}")
    chosen = {name: {name, reader_of(name)} & {reader.name for reader in readers} for name in names}
    if unknown := next((name for name, readers_of in chosen.items() if not readers_of), None):
        there = ", ".join(reader.name for reader in readers)
        raise ConfigError(f"--reader {unknown}", "is no reader with a policy of their own.", f"There is: {there}.")
    policies = {"everybody": plan.shared_version("ppo", "policy")}
    policies |= {r.name: r.version("ppo", "policy") for r in readers if not names or {r.name} in chosen.values()}
    module = importlib.import_module("pipeline.stages.readers.write")
    module.print_written(policies, prompt, plan.config.seed)
    return NOTHING_TO_DO


def finish(plan: Readers, record: Version, worked: bool, launch: Sequence[str], args: argparse.Namespace) -> int:
    """Write the report with the section "Readers", and say where it is."""
    overrides = replaced(args.overrides, [f"report.inputs.readers={record.ref}"])
    reported = Readers(args.config, overrides).shared
    if reported.outputs("report") is None:
        if args.check:
            return WORK_TO_DO
        if status := run_stages(plan, ("report",), overrides, launch, args.fresh):
            return status
        reported.forget("report")
    elif not worked:
        say("readers", f"nothing to do: {record.ref}")
    made = reported.outputs("report")
    assert made is not None
    say("readers", f"open {made['report'].path / 'report.html'}")
    return NOTHING_TO_DO


def run_stages(
    plan: Readers, stages: Sequence[str], overrides: Sequence[str], launch: Sequence[str], fresh: bool
) -> int:
    """Run stages of everybody's run; returns the exit status."""
    options = ["--config", plan.path, *(["--fresh"] if fresh else [])]
    if not launch:
        return consecutive_stages.main([*options, *stages, *overrides])
    for stage in stages:
        words = [*launch, "-m", f"pipeline.{stage}", *options, *overrides]
        if status := subprocess.run(words, check=False).returncode:
            return status
    return NOTHING_TO_DO


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline.readers"),
        description="A reward model and a policy from everybody's likes and dislikes, and from each reader's own "
        "theirs; the same command continues what is not done. Exit 3: people are to answer first.",
    )
    parser.add_argument("--config", default="configs/news_likes.yaml", help="experiment (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether there is work: exit 0 no, 3 yes")
    parser.add_argument("--fresh", action="store_true", help="start from the beginning, beside interrupted work")
    parser.add_argument("--jobs", type=int, default=1, help="readers at a time (default: 1)")
    parser.add_argument("--launch", help="stands before -m pipeline.STAGE, such as 'accelerate launch'")
    parser.add_argument("--write", metavar="PROMPT", help="print what each policy writes after it, and end")
    parser.add_argument("--reader", nargs="+", default=[], metavar="NAME", help="with --write: of these alone")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as readers.least_votes=50")
    return parser
