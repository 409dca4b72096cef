"""loop: collect with the current policy, train the reward model, do PPO, evaluate; again and again."""

from __future__ import annotations

import argparse
import functools
import importlib
import shlex
import subprocess
from collections.abc import Sequence

from pipeline.base.cli import as_called, run_module
from pipeline.base.errors import ConfigError
from pipeline.base.process import say
from pipeline.governance.approvals import Approval, decision_of
from pipeline.stages.approved_inputs import APPROVED
from pipeline.stages.rounds.chat_votes import take_up
from pipeline.store.store import Version
from pipeline.tasks import load_task
from pipeline.workflow import consecutive_stages
from pipeline.workflow.config import replaced
from pipeline.workflow.graph import artefact
from pipeline.workflow.rounds import SELECTION, Loop, Round, pinned_preferences, with_preferences
from pipeline.workflow.stage_command import NOTHING_TO_DO, WORK_TO_DO
from pipeline.workflow.sweeps.launch import launch_words

OVERSIGHT = "oversight"
"""The governance key of a record: whether each policy waits for a person."""


class Ended(Exception):
    """The command ends here: a stage failed, or a person is to be asked.

    Args:
        status: its exit status.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class Worker:
    """Does what a round has left to do.

    Args:
        launch: the words before ``-m pipeline.STAGE``; empty: stages are forked from this process.
        check: do nothing, and end where there is work.
    Attributes:
        worked: whether there was work.
    """

    def __init__(self, loop: Loop, launch: Sequence[str], fresh: bool, check: bool) -> None:
        self.loop, self.launch, self.check, self.worked = loop, launch, check, False
        self._options = ["--config", loop.path, *(["--fresh"] if fresh else [])]

    def stages(self, round: Round, *stages: str) -> None:
        """Do those of the stages that have work.

        Raises:
            Ended: one of them failed, or there is work and ``check`` is set.
        """
        first = round.first_of(*stages)
        if first is None:
            return
        self._begin(round, first)
        todo = stages[stages.index(first) :]
        if self.launch:
            status = next((s for stage in todo if (s := self._launched(round, stage))), NOTHING_TO_DO)
        else:
            status = consecutive_stages.main([*self._options, *todo, *round.arguments])
        for stage in todo:
            round.planner.forget(stage)
        if status != NOTHING_TO_DO:
            raise Ended(status)

    def record(self, rounds: Sequence[Round], overseen: bool, no: Approval | None = None) -> Version:
        """The record of the rounds so far, written if it is not there."""
        key = no and no.hash
        if (version := self.loop.record(rounds, key)) is None:
            self._begin(rounds[-1], "record")
            write = functools.partial(write_record, self.loop, rounds, overseen, no)
            if self.launch:
                write()
            elif status := consecutive_stages.in_child("loop", write):
                raise Ended(status)
            version = self.loop.record(rounds, key)
        assert version is not None
        return version

    def publish_late_answers(self, round: Round) -> None:
        """Publish what people have answered since the round's pairs were: it counts for the next round."""
        if self.loop.config.asks_people and not self.check:
            run_module("pipeline.stages.label", ["--publish", "--config", self.loop.path, *round.arguments])
            round.planner.forget("collect")

    def take_up_chat(self, round: Round) -> None:
        """Give the next round what people have said of the policies' answers in the meantime."""
        if not self.check:
            take_up(self.loop, round, pinned_preferences(round))

    def _begin(self, round: Round, what: str) -> None:
        if self.check:
            raise Ended(WORK_TO_DO)
        self.worked = True
        say("loop", f"round {round.number} of {self.loop.options.rounds}: {what}")

    def _launched(self, round: Round, stage: str) -> int:
        words = [*self.launch, "-m", f"pipeline.{stage}", *self._options, *round.arguments]
        return subprocess.run(words, check=False).returncode


def write_record(loop: Loop, rounds: Sequence[Round], overseen: bool, no: Approval | None) -> None:
    """Write the record of the rounds so far, with what draws its picture imported only now."""
    importlib.import_module("pipeline.stages.rounds.record").publish(loop, rounds, overseen, no)


def main(argv: list[str] | None = None) -> int:
    """Do the rounds that are not done; 3 where a person is to be asked first.

    Raises:
        PipelineError: the command line or the config is wrong, or the store cannot be read.
    """
    args = parser().parse_intermixed_args(argv)
    own = [] if args.rounds is None else [f"loop.rounds={args.rounds}"]
    loop = Loop(args.config, replaced(args.overrides, own))
    require_gold(loop)
    launch = launch_words(args.launch) if args.launch else []
    if not launch and not args.check:
        consecutive_stages.require_fork()
    worker = Worker(loop, launch, args.fresh, args.check)
    try:
        record, rounds = carry_out(loop, worker)
    except Ended as end:
        return end.status
    stopped = record.manifest.stats.get("stopped")
    if not worker.worked:
        say("loop", f"nothing to do: {len(rounds)} of {loop.options.rounds} rounds are done, {record.ref}")
    if stopped:
        say("loop", f"ended after round {len(rounds)} of {loop.options.rounds}: {stopped}")
    if (best := record.manifest.stats.get("best")) is not None:
        say("loop", f"best on the split select: round {best}, {rounds[best - 1].version('ppo', 'policy').ref}")
    say("loop", f"open {reported(rounds[-1], record).version('report', 'report').path / 'report.html'}")
    return NOTHING_TO_DO


def carry_out(loop: Loop, worker: Worker) -> tuple[Version, list[Round]]:
    """Do the rounds; returns the record of the last one, and all of them.

    Raises:
        Ended: before the last round.
    """
    rounds: list[Round] = []
    while True:
        rounds.append(one_round(loop, worker, rounds[-1] if rounds else None))
        overseen = is_overseen(loop)
        record = worker.record(rounds, overseen)
        worker.stages(reported(rounds[-1], record), "report")
        if record.manifest.stats.get("stopped") or len(rounds) == loop.options.rounds:
            return record, rounds
        if overseen and (no := ask(loop, rounds[-1])) is not None:
            record = worker.record(rounds, overseen, no)
            worker.stages(reported(rounds[-1], record), "report")
            return record, rounds


def one_round(loop: Loop, worker: Worker, last: Round | None) -> Round:
    """Do a round up to its evaluation.

    Raises:
        Ended: a stage failed, or people have not answered enough.
    """
    round = loop.first() if last is None else loop.after(last)
    if last is not None and round.versions("collect") is None:
        worker.publish_late_answers(last)
        worker.take_up_chat(last)
        round = loop.after(last)
    worker.stages(round, "sft", "collect")
    if round.versions("collect") is None:
        say("loop", f"round {round.number} waits for people's answers; the same command continues")
        raise Ended(WORK_TO_DO)
    round = with_preferences(round, pinned_preferences(round))
    worker.stages(round, "reward", "ppo")
    if loop.selects:
        worker.stages(round.under(*SELECTION), "evaluate")
    worker.stages(round, "evaluate")
    return round


def reported(round: Round, record: Version) -> Round:
    """The round as its report shows it, with all rounds so far."""
    return round.under(f"report.inputs.loop={record.ref}")


def require_gold(loop: Loop) -> None:
    """Raise ConfigError where a stop goes by the gold score and the task has none."""
    config = loop.config
    if loop.stops.no_gain and load_task(config.task, config.task_args, str(config.path)).gold_name is None:
        what = "needs a gold score, and the task has none: scores of two rounds' reward models do not compare."
        mend = "Leave it out; loop.stop.kl_budget and loop.oversight end a loop too."
        raise ConfigError(f"{config.path}: loop.stop.no_gain", what, mend)


def is_overseen(loop: Loop) -> bool:
    """Whether policies wait for a person: by the config, or because a loop of this name has recorded that they do.

    Under any settings: else another learning rate would switch it off.
    """
    records = loop.store.versions(artefact(loop.config, "loop"))
    return loop.options.oversight or any(record.manifest.governance.get(OVERSIGHT) for record in records)


def ask(loop: Loop, last: Round) -> Approval | None:
    """None where a person has approved the last policy; else their no.

    An approval that the next round has recorded counts also where the policy's card was rewritten since.

    Raises:
        Ended: nobody has said yes or no.
    """
    policy = last.version("ppo", "policy")
    decision = decision_of(loop.store, policy)
    if decision is not None:
        return None if decision.is_yes else decision
    if (made := loop.after(last).versions("collect")) is not None:
        approved = made["preferences"].manifest.governance.get(APPROVED) or ()
        if any(approval["ref"] == policy.ref for approval in approved):
            return None
    words = f"approve {policy.ref} --by NAME --root {shlex.quote(loop.config.data_dir)}"
    say("loop", f"round {last.number + 1} waits for a person to say yes or no to {policy.ref}")
    say("loop", f"{as_called('pipeline')} {words} (or --reject); then the same command")
    raise Ended(WORK_TO_DO)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline.loop"),
        description="Rounds of collect, reward, PPO and evaluate, each on the samples of the policy of the round "
        "before; the same command continues what is not done. Exit 3: a person is to be asked first.",
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of loop.rounds of the config")
    parser.add_argument("--check", action="store_true", help="only say whether there is work: exit 0 no, 3 yes")
    parser.add_argument("--fresh", action="store_true", help="start from the beginning, beside interrupted work")
    parser.add_argument("--launch", help="stands before -m pipeline.STAGE, such as 'accelerate launch'")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as loop.start=last")
    return parser
