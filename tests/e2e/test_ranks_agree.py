"""Two ranks of a stage that see different things both end with one line, and none waits. Slow: real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.files import hold
from pipeline.store.store import Store
from pipeline.workflow.config import load_config
from pipeline.workflow.stage import Planner
from tests.stages.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKER = """
import os, sys
from pipeline.base.cli import run_cli
from pipeline import reward
data = sys.argv[2].split(",")[int(os.environ["RANK"])]
config = sys.argv[1].split(",")[int(os.environ["RANK"])]
run_cli(reward.main, ["--config", config, f"data_dir={data}"])
"""


def launch(project: Project, *data: Path, other: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``reward`` on two ranks, each with the data directory that is given for it.

    Args:
        other: config of rank 1, where it is another.
    """
    worker = project.root / "worker.py"
    worker.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(worker)]
    given = [f"{project.config},{other or project.config}", ",".join(map(str, data))]
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

    broken = tmp_path / "broken.yaml"
    broken.write_text(project.config.read_text() + "rewart: {}\n")
    misread = launch(project, one, one, other=broken)
    assert misread.returncode != 0
    # Once from each rank.
    assert misread.stderr.count('broken.yaml: on rank 1 of 2: unknown key "rewart"') == 2, misread.stderr
    assert "pipeline/core" not in misread.stderr

    config = load_config(project.config, [f"data_dir={one}"])
    work = Planner(config, Store(config.data_dir)).run_of("reward").workdir
    work.mkdir(parents=True)
    held = hold(work)
    busy = launch(project, one, one)
    os.close(held)
    assert busy.returncode != 0
    assert busy.stderr.count("on rank 0 of 2: another process") == 2, busy.stderr
    assert "pipeline/core" not in busy.stderr

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
