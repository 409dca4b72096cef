"""Read a merged model again without a fresh process."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest


def read_merged_here(patch: pytest.MonkeyPatch) -> None:
    """What a fresh process would run, this one runs: the libraries' imports take longer than the merge."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:2] == [sys.executable, "-c"]
        with patch.context() as patched:
            patched.setattr(sys, "argv", ["-c", *command[3:]])
            exec(command[2], {})
        return subprocess.CompletedProcess(command, 0, "", "")

    patch.setattr("pipeline.modeling.other_engines.merging.subprocess", SimpleNamespace(run=run))
