"""Readers trained several at a time: the bytes of one after another, whoever is killed, fails or stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.records import reader_of
from pipeline.store.store import Store
from tests.helpers.forks import Command, Commands
from tests.stages.test_readers import CONFIG
from tests.stages.test_resume import CLOCK

pytestmark = pytest.mark.thorough

KEPT = ("sim-captain", "sim-gardener", "sim-doubter")
FIRST, SECOND, THIRD = NAMES = sorted(map(reader_of, KEPT))
SHARED = ("base", "prompts", "comparisons", "preferences", "scores", "reward", "rollouts", "policy", "evaluation")
SCRIPT = f"""
import contextlib, json, os, signal, time
from pathlib import Path
import torch
from pipeline.base.cli import run_cli
from pipeline.base.errors import ModelError
from pipeline.stages.readers import readers, train
from pipeline.tasks.truths.news_tastes import TASTES
from pipeline.trainers.ppo.trainer import PPOTrainer
from pipeline.workflow import consecutive_stages
consecutive_stages.import_bodies(("sft", "collect", "reward", "ppo", "evaluate"))
consecutive_stages.import_bodies = list
for name in set(TASTES) - set({KEPT!r}):
    del TASTES[name]
step = PPOTrainer.step

def work(root, threads, reader, update, does, *words):
    torch.set_num_threads(int(threads))
    root = Path(root)

    def upset(self, number):
        (root / "threads").write_text(str(torch.get_num_threads()))
        if reader and f"-{{reader}}-" in self.args.output_dir and number == int(update):
            if does == "fail":
                raise ModelError("ppo", "has diverged.", "Mend it.")
            if does == "wait":
                (root / "waits").write_text(str(os.getpid()))
                time.sleep(60)
            os.kill(os.getpid() if does == "kill" else os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return step(self, number)

    PPOTrainer.step = upset
    readers.finish = lambda *_: 0  # no report
    run_cli(readers.main, ["--config", str(root / "tiny.yaml"), *words])
"""


class Project:
    """A data directory in which everybody's run is done, and a command that forks."""

    def __init__(self, root: Path, commands: Commands) -> None:
        self.root, self.store, self._commands = root, Store(root / "data"), commands
        root.mkdir(exist_ok=True)
        (root / "tiny.yaml").write_text(yaml.safe_dump({**CONFIG, "data_dir": str(root / "data")}))

    def start(self, *words: str, upset: tuple[str, int, str] = ("", 0, ""), threads: int = 1) -> Command:
        """Args:
        upset: a reader, the update before which it happens, and what does.
        """
        arguments = [str(self.root), str(threads), *map(str, upset), *words, "ppo.save_steps=1"]
        return self._commands.start(arguments, self.root / "out", self.root / "err")

    def run(self, *words: str, **how: Any) -> tuple[int, str, str]:
        status = self.start(*words, **how).wait()
        return status, (self.root / "out").read_text(), (self.root / "err").read_text()

    def ids(self) -> dict[str, list[str]]:
        names = self.store.names()
        return {name: [v.id for v in self.store.versions(name)] for name in names}

    def has_policy(self, reader: str) -> bool:
        return f"tiny-{reader}-policy" in self.store.names()

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """What each reader's training logged, without times."""
        of: dict[str, list[dict[str, Any]]] = {}
        for name in (f"tiny-{reader}-{role}" for reader in NAMES for role in ("reward", "policy")):
            lines = (self.store.resolve(name).path / "metrics.jsonl").read_text().splitlines()
            rows = map(json.loads, lines)
            of[name] = [{k: v for k, v in row.items() if k != "eps" and not k.endswith(CLOCK)} for row in rows]
        return of

    def left(self) -> list[str]:
        """What is left of unfinished work."""
        stages = [p.name for p in (self.root / "data" / ".runs").glob("*")]
        return stages + [str(p) for p in (self.root / "data").glob("*/.staging/*")]


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    made = Commands(SCRIPT)
    yield made
    made.close()


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Project:
    """Everybody's run, and readers trained one after another."""
    made = Project(tmp_path_factory.mktemp("in turn"), commands)
    status, _, err = made.run()
    assert status == 0, err
    return made


@pytest.fixture
def project(tmp_path: Path, in_turn: Project, commands: Commands) -> Project:
    made = Project(tmp_path / "own", commands)
    for name in SHARED:
        shutil.copytree(in_turn.store.home(f"tiny-{name}"), made.store.home(f"tiny-{name}"))
    return made


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    assert a.keys() == b.keys()
    assert {k: v for k, v in a.items() if v != b[k]} == {}
    return True


# Mutation caught: a reader's work begins with what another one's has left, as random states.
def test_the_bytes_of_one_after_another(project: Project, in_turn: Project) -> None:
    status, out, err = project.run("--jobs", "3")
    assert status == 0, err
    assert "[readers] 3 at a time, each with 1 of 1 threads\n" in out
    for number, name in enumerate(NAMES, 1):
        for stage in ("reward", "ppo", "evaluate", "done"):
            assert f"{name} | [readers] {number} of 3, {name}: {stage}\n" in out
    assert same(project.ids(), in_turn.ids())
    assert same(project.metrics(), in_turn.metrics())
    assert project.left() == []


# Mutation caught: each process takes all threads.
def test_threads_are_divided(project: Project) -> None:
    status, out, err = project.run("--jobs", "3", threads=6)
    assert status == 0, err
    assert "[readers] 3 at a time, each with 2 of 6 threads\n" in out
    assert (project.root / "threads").read_text() == "2"


# Mutations caught: the others are ended with it; the status of the killed one is lost.
@pytest.mark.parametrize("update", [0, 1])
def test_a_killed_reader_continues(project: Project, in_turn: Project, update: int) -> None:
    status, out, err = project.run("--jobs", "2", upset=(FIRST, update, "kill"))
    assert status == 137
    assert err.splitlines()[-1] == f"error: reader {FIRST}: was ended by SIGKILL."
    assert f"[readers] {FIRST} failed: was ended by SIGKILL.\n" in out
    assert [project.has_policy(name) for name in NAMES] == [False, True, True]
    status, out, err = project.run("--jobs", "2")
    assert status == 0, err
    assert f"{SECOND}: reward" not in out
    assert (f"{FIRST} | [ppo] resuming at step 1 of 2" in out) == (update == 1)
    assert same(project.ids(), in_turn.ids())
    assert project.left() == []


# Mutation caught: the processes of readers outlive the one that forked them, and hold their work.
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they go on to their ends")
def test_a_killed_parent_continues(project: Project, in_turn: Project) -> None:
    status, _, err = project.run("--jobs", "2", upset=(SECOND, 1, "kill parent"))
    assert status == 137
    assert err.splitlines()[-1] == "error: readers was ended by SIGKILL. The same command goes on where it was."
    assert not project.has_policy(SECOND)
    status, _, err = project.run("--jobs", "2")  # at once: nobody holds anything
    assert status == 0, err
    assert same(project.ids(), in_turn.ids())


# Mutations caught: the first failure ends all; the reader's name is left out.
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_reader_that_fails(project: Project, in_turn: Project, jobs: int) -> None:
    status, out, err = project.run("--jobs", str(jobs), upset=(FIRST, 1, "fail"))
    assert status == 2
    assert err.splitlines()[-1] == f"error: reader {FIRST}: ppo: has diverged. Mend it."
    assert "Traceback" not in err
    assert f"[readers] {FIRST} failed: ppo: has diverged. Mend it.\n" in out
    assert [project.has_policy(name) for name in NAMES] == [False, True, True]
    assert "tiny-readers" not in project.store.names()
    assert project.run("--jobs", str(jobs))[0] == 0
    assert same(project.ids(), in_turn.ids())


def test_ctrl_c_ends_all(project: Project, in_turn: Project) -> None:
    process = project.start("--jobs", "2", upset=(SECOND, 1, "wait"))
    waits = project.root / "waits"
    while not (waits.exists() and waits.read_text()):
        time.sleep(0.02)
    child = int(waits.read_text())
    parent = int((Path("/proc") / str(child) / "stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGINT)  # the command itself leaves the answer to it
    assert process.wait() == 130
    err = (project.root / "err").read_text()
    assert err.splitlines()[-2:] == ["interrupted", "The same command goes on where it was."]
    assert err.count("interrupted") == 1
    assert not (Path("/proc") / str(child)).exists()
    assert project.run("--jobs", "2")[0] == 0
    assert same(project.ids(), in_turn.ids())
