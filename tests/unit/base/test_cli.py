"""How commands end: their status, one line for an error, and a reader that went away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.cli import run_cli
from pipeline.base.errors import ConfigError, StoreError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("body", "status", "stderr"),
    [
        ("return 3", 3, ""),
        ("return None", 0, ""),
        ("raise ConfigError('a.yaml', 'is bad.', 'Mend it.')", 2, "error: a.yaml: is bad. Mend it.\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
    ],
)
def test_guard(body: str, status: int, stderr: str, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {"ConfigError": ConfigError}
    exec(f"def main(argv):\n    {body}", scope)
    with pytest.raises(SystemExit) as stop:
        run_cli(scope["main"])
    assert (stop.value.code, capsys.readouterr().err) == (status, stderr)


def test_a_bug_keeps_its_traceback() -> None:
    def main(argv: list[str] | None) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_cli(main)


@pytest.mark.parametrize("length", [1, 100_000])
def test_a_reader_that_went_away_is_quiet(length: int) -> None:
    code = f"from pipeline.base.cli import run_cli; run_cli(lambda _: print('x' * {length}))"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    # Catches: not flushing inside guard; Python then complains at exit of what fitted its buffer, with status 120.
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_what_others_wrote_is_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x7f\r"

    def fail(_: list[str] | None) -> int:
        raise StoreError(f"a{hostile}", f"b{hostile}")

    with pytest.raises(SystemExit):
        run_cli(fail)
    said = capsys.readouterr().err
    assert said.startswith("error: a")
    assert "\x1b" not in said
    assert "\x9b" not in said
    assert said.count("\n") == 1
