"""A newcomer's terminal shows lines of the stages, PPO's table and progress bars, and nothing of the libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.workflow.experiment import STAGES
from tests.stages.conftest import Project

pytestmark = pytest.mark.slow

BAR = re.compile(r"(\w[\w ]*:)? *\d+%\|.*\| \d+/\d+ \[.*\]")
TABLE = re.compile(r" +(update |score |\d+/\d+ |sample |held out )")
LAUNCHER = re.compile(
    r"The following values were not passed to `accelerate launch`.*?`accelerate config`\.\n", re.S
)
"""What accelerate says before it starts us, where it is given neither a config file nor numbers."""
SILENCING = ("RLHF_REPORT_TO", "TRL_EXPERIMENTAL_SILENCE", "TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_TELEMETRY")


def run(root: Path, *command: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in SILENCING} | {"TRACKIO_DIR": str(root / "trackio")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**env, "PYTHONPATH": os.getcwd()}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# Seen failing with each of these let through: Trackio's lines, "Writing model shards", the table of a base's
# missing head, FutureWarnings.
def test_every_line_is_ours(project: Project):
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    for stage in STAGES:
        shown = run(project.root, accelerate, "launch", "-m", f"pipeline.{stage}", "--config", str(project.config))
        shown = LAUNCHER.sub("", shown).replace("\r", "\n")
        foreign = [
            line
            for line in shown.split("\n")
            if line and not line.startswith(f"[{stage}] ") and not BAR.fullmatch(line) and not TABLE.match(line)
        ]
        assert foreign == []
        assert shown.count("curves: make dashboard") == (stage in ("sft", "reward", "ppo"))
