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
