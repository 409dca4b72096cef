"""Calls in forked processes: so many at a time, each end told, none left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.forks import Command, Commands

SCRIPT = """
import os, signal, sys, time
from functools import partial
from pathlib import Path
from pipeline.base import forks
from pipeline.base.cli import run_cli
from pipeline.base.errors import DataError
from pipeline.base.terminal_text import put

def call(root, how):
    (root / f"{how}-pid").write_text(str(os.getpid()))
    alive = [p for p in root.glob("*-alive")]
    (root / f"{how}-beside").write_text(str(len(alive)))
    (root / f"{how}-alive").touch()
    put(f"this is {how}")
    until = time.monotonic() + 20
    while how.startswith("meets") and len([*root.glob("meets*-pid")]) < 2:
        assert time.monotonic() < until, "alone"
        time.sleep(.02)
    time.sleep(.02)
    if how == "fails":
        raise DataError("rows", "are wrong.", "Mend them.")
    if how == "bug":
        raise ZeroDivisionError
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "swallows":
        try:
            (root / f"{how}-waits").touch()
            time.sleep(60)
        except SystemExit:
            how = "waits"
    try:
        while how in ("waits", "waits2", "stubborn"):
            (root / f"{how}-waits").touch()
            time.sleep(.02)
    finally:
        (root / f"{how}-alive").unlink()

def work(root, jobs, *how):
    # Waited out where somebody does not end; others must have time to, on a busy machine too.
    forks.GRACE_SECONDS = 2 if {"stubborn", "swallows"} & {*how} else 60
    root = Path(root)
    calls = {h: partial(call, root, h) for h in how}
    tell = lambda ended: put(f"{ended.name} {ended.status} {ended.error}")
    run_cli(lambda _: forks.call_in_forks(calls, int(jobs), tell))
"""


class Calls:
    """Calls that end as their names say."""

    def __init__(self, root: Path, commands: Commands) -> None:
        self.root, self._commands = root, commands

    def start(self, jobs: int, *how: str) -> Command:
        return self._commands.start([str(self.root), str(jobs), *how], self.root / "out", self.root / "err")

    def run(self, jobs: int, *how: str) -> tuple[int, list[str], str]:
        status = self.start(jobs, *how).wait()
        return status, (self.root / "out").read_text().splitlines(), (self.root / "err").read_text()

    def started_waiting(self, *how: str) -> tuple[Command, list[int]]:
        """Calls that wait, each of them within its ``try``, and their processes."""
        process = self.start(len(how), *how)
        while not all((self.root / f"{name}-waits").exists() for name in how):
            time.sleep(0.02)
        return process, [int((self.root / f"{name}-pid").read_text()) for name in how]

    def beside(self, how: str) -> int:
        return int((self.root / f"{how}-beside").read_text())


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    made = Commands(SCRIPT)
    yield made
    made.close()


@pytest.fixture
def calls(tmp_path: Path, commands: Commands) -> Calls:
    return Calls(tmp_path, commands)


def gone(pids: list[int]) -> bool:
    """Whether the processes are gone, in twenty seconds at most."""
    until = time.monotonic() + 20
    while any((Path("/proc") / str(pid)).exists() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


# Mutations caught: all are forked at once; one waits for the one before it.
@pytest.mark.parametrize(
    ("jobs", "names"), [(1, ("one", "two", "three")), (2, ("meets1", "meets2", "one", "two"))]
)
def test_so_many_at_a_time(calls: Calls, jobs: int, names: tuple[str, ...]) -> None:
    status, out, err = calls.run(jobs, *names)
    assert (status, err) == (0, "")
    assert sorted(out) == sorted([f"{n} | this is {n}" for n in names] + [f"{n} 0 " for n in names])
    assert max(calls.beside(name) for name in names) < jobs
    assert len({(calls.root / f"{name}-pid").read_text() for name in names}) == len(names)


# Mutations caught: the first failure ends the others; a forked process that ends also ends those forked beside it.
def test_each_end_is_told_and_no_failure_keeps_others_from_their_work(calls: Calls) -> None:
    status, out, err = calls.run(3, "bug", "fails", "killed", "well", "better")
    assert status == 0
    told = [line for line in out if "|" not in line]
    assert sorted(told) == [
        "better 0 ",
        "bug 1 ended with a bug, see above.",
        "fails 2 rows: are wrong. Mend them.",
        "killed 137 was ended by SIGKILL.",
        "well 0 ",
    ]
    assert "fails | error: rows: are wrong. Mend them.\n" in err
    assert "bug | ZeroDivisionError\n" in err
    assert all(line.startswith(("bug | ", "fails | ")) for line in err.splitlines())


# Mutations caught: no signal is passed on; the calls answer Ctrl-C themselves, each with its own line; one that
# does not end is waited for.
@pytest.mark.parametrize(
    ("sent", "status", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")]
)
@pytest.mark.parametrize(
    "how", [("waits", "waits2"), pytest.param(("waits", "stubborn"), marks=pytest.mark.thorough)]
)
def test_ends_reach_every_call(
    calls: Calls, sent: signal.Signals, status: int, said: str, how: tuple[str, str]
) -> None:
    process, pids = calls.started_waiting(*how)
    for pid in pids if sent == signal.SIGINT else []:  # a terminal tells them all
        os.kill(pid, sent)
    os.kill(process.pid, sent)
    assert process.wait() == status
    assert gone(pids)
    assert (calls.root / "err").read_text() == said
    assert not (calls.root / "waits-alive").exists()  # it had time to clean up


# Mutations caught: no die_with_parent; no alarm.
@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the calls go on to their ends")
def test_a_killed_parent_takes_every_call_with_it(calls: Calls) -> None:
    process, pids = calls.started_waiting("waits", "swallows")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert gone(pids)
