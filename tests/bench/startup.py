"""Start-up: from a command to its first line, ``--check``, and a ``make`` in which every stage has nothing to do.

An experiment as small as the tests' is made first. Without ``QUICK=1`` its first ``make`` is timed too: its stages
have next to no work, so it is what six stages cost before they begin. These are seconds, not ratios.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.harness import QUICK, Work, compare, say
from tests.stages.conftest import Project

READY = f"{sys.prefix}/.ready"
"""What ``make`` would install first: taken as done, as this very process runs from there."""


def bench(out: Path) -> dict[str, Any]:
    """Seconds as ``startup_..._s``."""
    project = Project(out / "startup")
    project.root.mkdir(exist_ok=True)
    project.write()
    config = str(project.config)
    result: dict[str, Any] = {}
    say("running all stages of a tiny experiment once" + ("" if QUICK else ", as make does"))
    started = time.perf_counter()
    if QUICK:
        succeed([sys.executable, "-c", RUN_ALL, str(project.root)])
    else:
        succeed(make("report", config))
        result["startup_first_make_s"] = round(time.perf_counter() - started, 1)
        say(f"  the first make took {result['startup_first_make_s']} s")
    check = [sys.executable, "-m", "pipeline.reward", "--check", "--config", config]
    makers: dict[str, Callable[[], Work]] = {
        "python": lambda: Work(lambda: succeed([sys.executable, "-c", ""])),
        "check": lambda: Work(lambda: succeed(check)),
        "second make": lambda: Work(lambda: succeed(make("report", config))),
    }
    found = compare("start-up: python itself, one --check, a make with nothing to do", makers, rounds=3)
    result["startup_python_s"] = found["python"].seconds
    result["startup_check_s"] = found["check"].seconds
    result["startup_second_make_s"] = found["second make"].seconds
    command = make("sft", config, "sft.learning_rate=2e-3")
    seconds = [first_line(command, "[sft]") for _ in range(1 if QUICK else 3)]
    result["startup_first_line_s"] = round(statistics.median(seconds), 2)
    say(f"  from make sft to its first line: {result['startup_first_line_s']} s")
    return result


RUN_ALL = """
import sys
from pathlib import Path
from tests.stages.conftest import Project
Project(Path(sys.argv[1])).run_all()
"""


def make(target: str, config: str, *overrides: str) -> list[str]:
    """The command line of a user's ``make``, in this process's environment."""
    return ["make", "-o", READY, f"VENV={sys.prefix}", f"CONFIG={config}", f"ARGS={' '.join(overrides)}", target]


def succeed(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def first_line(command: list[str], start: str) -> float:
    """Seconds until the command prints a line that starts so; then it is ended."""
    started = time.perf_counter()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment(), start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(start):
                    return time.perf_counter() - started
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    raise SystemExit(f"error: {' '.join(command)} ended without a line that starts with {start}")


def environment() -> dict[str, str]:
    """Ours, without what a ``make`` around us hands on to another one, and with Python's own cache of bytecode.

    Where a machine turns that cache off, every command compiles all modules again: a third of a ``--check``.
    """
    ours = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "STAGE", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if k not in ours}
    return {**kept, "RLHF_REPORT_TO": "none"}
