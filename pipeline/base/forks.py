"""Make calls in forked processes, several at a time: none outlives the process that forked it.

On Linux also where that one is killed. A call's lines on the terminal begin with its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from pipeline.base.cli import run_cli
from pipeline.base.errors import PipelineError
from pipeline.base.prefixed_lines import PrefixedLines

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent dies."""
ENDS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 10.0
"""What a call that is to end has for it, before it is killed."""
LONGEST_ERROR = 16_384
"""Bytes of an error that a pipe surely takes before somebody reads it."""


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        status: the exit status of its process, 128 + n where signal n ended it; 0 is well.
        error: a line on what was wrong; empty where nothing was.
    """

    name: str
    status: int
    error: str


@dataclass(frozen=True)
class _Child:
    name: str
    error: int
    """The end of a pipe from which its error is read."""

    def ended(self, wait_status: int) -> Ended:
        error = ""
        with contextlib.suppress(BlockingIOError):  # whoever it has started may live on, and hold the pipe
            error = os.read(self.error, LONGEST_ERROR).decode(errors="replace")
        os.close(self.error)
        status = os.waitstatus_to_exitcode(wait_status)
        if status < 0:
            return Ended(self.name, 128 - status, f"was ended by {signal.Signals(-status).name}.")
        return Ended(self.name, status, error or ("ended with a bug, see above." if status else ""))


def call_in_forks(calls: Mapping[str, Callable[[], None]], jobs: int, tell: Callable[[Ended], None]) -> None:
    """Make each call in a process of its own, at most ``jobs`` of them at a time, and wait for all.

    A call that fails does not keep others from being made. Ctrl-C and SIGTERM end all.

    Args:
        calls: by name. They find the memory of this process as it is now, which must have no thread that computes.
        tell: called as each ends.
    """
    waiting, running, own = deque(calls.items()), dict[int, _Child](), os.getpid()
    with _ended_by_sigterm():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    _start(*waiting.popleft(), running)
                pid, status = os.wait()
                if pid in running:
                    tell(running.pop(pid).ended(status))
        finally:
            if os.getpid() == own:  # a forked process ends through here too
                _end(running)


def die_with_parent(parent: int) -> None:
    """On Linux, end this process when ``parent``, which forked it, is killed; elsewhere it goes on to its end."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before
        os.kill(os.getpid(), signal.SIGTERM)


def _start(name: str, call: Callable[[], None], running: dict[int, _Child]) -> None:
    """Fork a process for a call, and note it in ``running``; a signal in between waits."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    sys.stdout.flush()
    sys.stderr.flush()
    own, before = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        pid = os.fork()
        if pid:
            running[pid] = _Child(name, reads)
            os.close(writes)
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that forked this one answers it
        signal.signal(signal.SIGTERM, _exit_in_time)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    die_with_parent(own)
    os.close(reads)
    _answer(name, call, writes)


def _answer(name: str, call: Callable[[], None], error: int) -> NoReturn:
    """Make the call and end the process; what is wrong is said on the terminal, and written to ``error``."""
    prefix = f"{name} | "
    os.environ["COLUMNS"] = str(max(shutil.get_terminal_size((115, 24)).columns - len(prefix), 40))
    sys.stdout, sys.stderr = (PrefixedLines(stream, prefix) for stream in (sys.stdout, sys.stderr))

    def main(_: object) -> None:
        try:
            call()
        except PipelineError as err:
            os.write(error, str(err).encode()[:LONGEST_ERROR])
            raise

    run_cli(main)


def _exit_by_signal(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _exit_in_time(number: int, _: FrameType | None) -> NoReturn:
    """Leave by an exception, which lets every ``finally`` run; somebody may swallow it, and nobody an alarm."""
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
    sys.exit(128 + number)


@contextlib.contextmanager
def _ended_by_sigterm() -> Generator[None]:
    before = signal.signal(signal.SIGTERM, _exit_by_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(running: Collection[int]) -> None:
    """End processes and wait until they are gone; whoever takes too long is killed."""
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    left, until = set(running), time.monotonic() + GRACE_SECONDS
    while left:
        gone = {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        left -= gone
        if not gone:
            time.sleep(0.02)
        if left and time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
