"""Two ranks of a stage that see different things both end with one line, and none waits. Slow: real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKER = """
import os, sys
from pipeline.base.cli import guard
from pipeline import reward
data = sys.argv[2].split(",")[int(os.environ["RANK"])]
guard(reward.main, ["--config", sys.argv[1], f"data_dir={data}"])
"""


def launch(project: Project, *data: Path) -> subprocess.CompletedProcess[str]:
    """``reward`` on two ranks, each with the data directory that is given for it."""
    worker = project.root / "worker.py"
    worker.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(worker)]
    given = [str(project.config), ",".join(map(str, data))]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        command + given, capture_output=True, text=True, check=False, env=env, timeout=250, cwd=os.getcwd()
    )


# Seen failing with: rank 1 waiting for ever for a rank 0 that had found its work done, or an input of its own.
def test_two_nodes_without_a_shared_data_directory(tmp_path: Path):
    project = Project(tmp_path)
    project.write()
    for stage in ("sft", "collect"):
        project.run(stage)
    one, other = tmp_path / "data", tmp_path / "other"
    shutil.copytree(one, other)

    done = launch(project, one, one)  # both see the same: it trains
    assert done.returncode == 0, done.stderr
    assert "find_unused_parameters" not in done.stderr
    assert launch(project, one, one).returncode == 0  # and is done

    alone = launch(project, one, other)
    assert alone.returncode != 0
    assert "sees another data_dir: the work is done on rank 0 alone" in alone.stderr
    assert "pipeline/" not in alone.stderr  # no traceback of ours beside the launcher's

    shutil.rmtree(other / "mini-preferences")
    lacking = launch(project, one, other)
    assert lacking.returncode != 0
    assert "on rank 1 of 2: does not exist for these settings" in lacking.stderr
