"""Death by signal 9 while people vote: what was acknowledged stays, once, and the same log goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest

from pipeline.chat.project import open_log
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.settings import LabelSection
from pipeline.store.store import Store
from tests.helpers.forks import forked
from tests.unit.labelling.helpers import tables

# Every third opinion replaces the person's earlier one on the same answers, an undo and a vote in one.
SPEAKER = """
import sys
from pathlib import Path
from pipeline.chat import votes
from pipeline.chat.exchange import Exchange, ticket
from pipeline.chat.project import open_log
from pipeline.labelling.log.new_event import Answerer, NewConsent
from pipeline.store.store import Store
SIDES = tuple(Answerer(role=role, ref=f"x-{role}@v1", id=role) for role in ("base", "policy"))
def work(root, name, start, count):
    log = open_log(Store(Path(root)), "x")
    who = log.people.add(name).id
    log.events.append(NewConsent(key=f"{name}-agrees-{start}", annotator=who, version="v", sha256="c" * 64))
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(start, start + count):
        subject = f"{name} asks {i - (i % 3 == 2)}"
        of = Exchange(
            id=f"{name}{i}", who=who, prompt=subject, opening=subject, completions=("one", "two"), answerers=SIDES,
            scores=(None, None), sampling={"seed": i}, blind=False,
        )
        text, signature = ticket(of, log.people)
        key, choice = f"{name}-says-{i:05d}", "ab"[i % 2]
        said = {"key": key, "exchange": text, "signature": signature, "type": "better", "choice": choice, "ms": 1}
        receipt = votes.record(log, who, said).receipt
        print(key, receipt.seq, flush=True)
"""


# Mutation caught: the undo of a replaced vote in a transaction of its own.
@pytest.mark.thorough
def test_kill_9_loses_no_vote_and_splits_none(tmp_path: Path) -> None:
    pace, acknowledged = random.Random(0), dict[str, int]()
    for turn in range(2):
        arguments = [(str(tmp_path), f"person-{i}", 1000 * turn, 1000) for i in range(3)]
        with forked(SPEAKER, arguments) as forks:
            for each in forks:
                each.expect("ready")
            for each in forks:
                each.send("go")
            for each in forks:
                said = [each.stdout.readline() for _ in range(pace.randrange(4, 10))]
                os.kill(each.pid, signal.SIGKILL)
                said += each.stdout.read().splitlines()
                acknowledged |= {line.split()[0]: int(line.split()[1]) for line in said if line.count(" ") == 1}
        assert forks.exits == [-signal.SIGKILL] * 3
    with contextlib.closing(open_log(Store(tmp_path), "x")) as log:
        events = {e.key: e for e in log.events.read()}
        assert len(acknowledged) >= 24
        assert acknowledged.items() <= {key: e.seq for key, e in events.items()}.items()
        undone = {e.payload["undoes"] for e in events.values() if e.type == "undo"}
        # Of every pair one current vote: an undo came with the vote that replaced the other.
        assert len(undone) > 3
        assert all(f"{key.removesuffix(':undo')}" in events for key, e in events.items() if e.type == "undo")
        assert len({vote.item for vote in log.answers.votes()}) == len(log.answers.votes())
        assert {item.id for item in log.batches.items()} == {e.item for e in events.values() if e.item}
        rows = publishable_rows(log, LabelSection())
        assert rows.counts["pairs"] == len(log.answers.votes())
        assert log.database.row("PRAGMA integrity_check") == ("ok",)
        before = tables(log)
        log.rebuild()
        assert tables(log) == before
