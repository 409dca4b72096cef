"""Death right before the n-th call that changes or flushes the disk: of a process, or as an exception."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

# A process with threads cannot be forked, and pyarrow starts some once it writes: all work is a child's.
_EVERY_STEP = """
import json, os, shutil, sys
from pathlib import Path

{code}

def die_before(step):
    count = 0
    def counted(call):
        def counting(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step:
                os._exit(9)
            return call(*args, **kwargs)
        return counting
    for name in sys.argv[2:]:
        setattr(os, name, counted(getattr(os, name)))

root, exits = Path(sys.argv[1]), []
while not exits or exits[-1] == 9:
    step = len(exits) + 1
    if (root / "before").exists():
        shutil.copytree(root / "before", root / str(step))
    child = os.fork()
    if child == 0:
        die_before(step)
        work(root / str(step))
        os._exit(0)
    exits.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(exits))
"""


def die_before_every_step(root: Path, code: str, calls: tuple[str, ...]) -> list[Path]:
    """Do some work again and again, and die one call later each time, until it comes to its end.

    Args:
        root: where the copies go. Each is a copy of its directory ``before``, if there is one.
        code: Python that defines ``work(root)``.
        calls: names of functions of ``os``, whose calls are counted together.

    Returns:
        The copies: of the n-th one the work died right before its n-th call, of the last one it is done.
    """
    script = _EVERY_STEP.format(code=textwrap.dedent(code))
    command = [sys.executable, "-c", script, str(root), *calls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    exits = json.loads(done.stdout)
    assert exits[-1] == 0, done.stderr
    return [root / str(step) for step in range(1, len(exits) + 1)]


class Died(BaseException):
    """As if the process had been killed; not an error, so that nobody on the way handles it."""


def raising(err: BaseException | type[BaseException]) -> Callable[..., Any]:
    """A function that does nothing but raise ``err``."""

    def fail(*args: Any) -> Any:
        raise err

    return fail


def die_after_calls(patch: pytest.MonkeyPatch, points: Iterable[tuple[object, str]], calls: int) -> None:
    """Let so many calls of ``points`` (owner, function) pass, counted together, and die before the next one."""
    left = calls

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died
            return call(*args, **kwargs)

        return stepping

    for owner, name in points:
        patch.setattr(owner, name, before(getattr(owner, name)))
