"""Run a command line, and end it with its exit status and errors in one line.

Parsing is left to the commands.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.base.errors import PipelineError
from pipeline.base.terminal_text import put

SCRIPT = "rlhf-pipeline"
"""The name under which pip installs ``python -m pipeline``."""


def as_called(command: str) -> str:
    """``pipeline data look`` or ``pipeline.ppo`` as its caller types it: after ``python -m``, or the script."""
    if Path(sys.argv[0]).name != SCRIPT:
        return f"python -m {command}"
    return SCRIPT + command.removeprefix("pipeline").replace(".", " ", 1)


def run_cli(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> NoReturn:
    """Run ``main`` and exit with its status, or 0 for None.

    A :class:`PipelineError` is one line on stderr and its status (2, or 75 for a lost rank), Ctrl-C one line and
    130, a reader of our output that went away is quiet and 141, as SIGPIPE would be. Anything else is a bug and
    keeps its traceback.
    """
    try:
        status = main(argv)
        sys.stdout.flush()
    except PipelineError as err:
        put(f"error: {err}", sys.stderr)
        sys.exit(err.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Python flushes stdout once more on the way out, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(status or 0)


def run_module(name: str, argv: list[str]) -> int:
    """Run ``main`` of a module that is imported only now, so that other commands need not wait for it."""
    return importlib.import_module(name).main(argv)
