"""What a job of a sweep does: the command's own end is written down, an end that others made is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.workflow.sweeps import command as job_command
from pipeline.workflow.sweeps.command import Command


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    (tmp_path / "outcome").write_text("of the time before")
    return tmp_path / "outcome"


@pytest.mark.parametrize("status", [0, 1, 2])
def test_the_status_of_a_command_that_ends_by_itself(outcome: Path, status: int) -> None:
    ended: object = 0
    try:
        Command(["sh", "-c", f"exit {status}"], outcome)()
    except SystemExit as err:
        ended = err.code
    assert ended == status
    assert outcome.read_text() == f"status {status}"


# Seen failing with: a status of 143 or of -15 written down; the file of the time before left.
@pytest.mark.parametrize(("script", "status"), [("kill $$", 143), ("exit 143", 143), ("kill -9 $$", 137)])
def test_a_command_that_was_ended_leaves_no_outcome(outcome: Path, script: str, status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        Command(["sh", "-c", script], outcome)()
    assert ended.value.code == status
    assert not outcome.exists()


# Slurm sends USR2 to all processes of a job. Seen failing without WITHOUT_NOTICES: status -12.
def test_the_notice_of_the_time_limit_does_not_end_the_command(outcome: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        Command(["sh", "-c", "kill -USR2 $$; exit 5"], outcome)()
    assert ended.value.code == 5


def test_a_job_that_is_told_to_end_waits_for_slurm(
    outcome: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(job_command.time, "sleep", slept.append)
    with pytest.raises(SystemExit):
        Command(["sh", "-c", "kill $$"], outcome)()
    assert slept == [job_command.GRACE_SECONDS]
    assert "waiting for Slurm" in capfd.readouterr().out


# What submitit's handler of the notice does: the job is queued again, or its time was over too often.
@pytest.mark.parametrize(
    ("ends_by", "written"),
    [(SystemExit(255), None), (RuntimeError("Timed out too often."), "Timed out too often")],
)
def test_an_interruption_ends_the_command(
    outcome: Path, monkeypatch: pytest.MonkeyPatch, ends_by: BaseException, written: str | None
) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        waited = False

        def wait(self, timeout: float | None = None) -> int:
            if not self.waited:
                self.waited = True
                raise ends_by
            return super().wait(timeout)

    monkeypatch.setattr(job_command.subprocess, "Popen", Interrupted)
    with pytest.raises(type(ends_by)):
        Command(["sleep", "100"], outcome)()
    assert (outcome.read_text() if outcome.exists() else None) == written
