"""Processes that do the same work at once, forked from one that has done the imports of all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

# Imports cost each process more than its work. pytest's own process has threads, and cannot be forked.
_FORK = """
import json, os, sys, traceback

{code}

sys.stdout.flush()
children, ends = [], json.loads(sys.argv[1])
for (takes, gives), arguments in zip(ends, json.loads(sys.argv[2])):
    child = os.fork()
    if child == 0:
        os.dup2(takes, 0)
        os.dup2(gives, 1)
        for pair in ends:
            for end in pair:
                os.close(end)
        try:
            work(*arguments)
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    children.append(child)
for pair in ends:
    for end in pair:
        os.close(end)
print(json.dumps(children), flush=True)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


@dataclass(frozen=True)
class Fork:
    """A process, and the ends of its pipes."""

    pid: int
    stdin: TextIO
    stdout: TextIO

    def expect(self, line: str) -> None:
        assert self.stdout.readline() == f"{line}\n"

    def send(self, line: str) -> None:
        self.stdin.write(f"{line}\n")
        self.stdin.flush()


class Forks(list[Fork]):
    """Processes forked from one.

    Attributes:
        exits: their exit statuses, once the context is left.
    """

    exits: list[int]


@contextmanager
def forked(code: str, arguments: Sequence[Sequence[str | int]]) -> Iterator[Forks]:
    """Start a process for each of ``arguments``; at the end wait for all.

    Args:
        code: Python that does the imports and defines ``work``, which takes the arguments, reads standard input
            and writes standard output.
    """
    pipes = [(os.pipe(), os.pipe()) for _ in arguments]
    theirs = [(into[0], out[1]) for into, out in pipes]
    script = _FORK.format(code=textwrap.dedent(code))
    command = [sys.executable, "-c", script, json.dumps(theirs), json.dumps(list(arguments))]
    passed = [end for pair in theirs for end in pair]
    with ExitStack() as stack:
        parent = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=passed))
        stack.callback(parent.kill)
        files = [
            (stack.enter_context(open(into[1], "w")), stack.enter_context(open(out[0]))) for into, out in pipes
        ]
        for end in passed:
            os.close(end)
        assert parent.stdout is not None
        pids: list[int] = json.loads(parent.stdout.readline())
        forks = Forks(Fork(pid, *ends) for pid, ends in zip(pids, files, strict=True))
        yield forks
        forks.exits = json.loads(parent.stdout.readline())


_ON_DEMAND = """
import json, os, sys
os.fsync = lambda fd: None

{code}

for line in sys.stdin:
    request = json.loads(line)
    if isinstance(request, int):
        print(os.waitstatus_to_exitcode(os.waitpid(request, 0)[1]), flush=True)
        continue
    arguments, *files = request
    child = os.fork()
    if child == 0:
        for number, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        work(*arguments)
        sys.exit()
    print(child, flush=True)
"""


class Command:
    """A process that was forked on demand."""

    def __init__(self, pid: int, parent: subprocess.Popen[str]) -> None:
        self.pid, self._parent = pid, parent

    def wait(self) -> int:
        """Its exit status; less than 0 where a signal ended it."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(self.pid, file=self._parent.stdin, flush=True)
        return int(self._parent.stdout.readline())


class Commands:
    """Runs commands, each in a process forked from one that has done the imports.

    Args:
        code: Python that does the imports and defines ``work``, which takes the arguments and ends as it likes.
    """

    def __init__(self, code: str) -> None:
        script = _ON_DEMAND.format(code=textwrap.dedent(code))
        command = [sys.executable, "-c", script]
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, arguments: Sequence[str], out: Path, err: Path) -> Command:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(json.dumps([list(arguments), str(out), str(err)]), file=self._parent.stdin, flush=True)
        return Command(int(self._parent.stdout.readline()), self._parent)

    def close(self) -> None:
        self._parent.communicate()
