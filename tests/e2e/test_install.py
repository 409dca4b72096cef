"""A project outside the repository, from an installed wheel: ``rlhf-pipeline init``, then ``make``, twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

TINY = (
    "task_args.corpus_size=400 task_args.completion_tokens=12 sft.n_layer=2 sft.n_embd=32 sft.n_head=2 "
    "sft.vocab_size=400 sft.max_steps=8 sft.per_device_train_batch_size=16 collect.comparisons=80 "
    "reward.max_steps=4 ppo.total_episodes=32 ppo.per_device_train_batch_size=8 ppo.eval_steps=1 "
    "ppo.eval_prompts=8 ppo.diversity_floor=null evaluate.prompts=20"
)
MY_TINY = "sft.max_steps=8 collect.comparisons=80 reward.max_steps=4 ppo.total_episodes=64 evaluate.prompts=20"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel's contents, which stands before the repository's package on the path."""
    directory = tmp_path_factory.mktemp("installed")
    source = directory / "source"
    shutil.copytree(ROOT, source, ignore=lambda _, names: [n for n in names if n[0] == "." or n in LEFT_OUT])
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(directory), str(source)]
    subprocess.run(build, check=True)
    shutil.rmtree(source)
    (wheel,) = directory.glob("rlhf_pipeline-*.whl")
    packages = directory / "packages"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(packages), str(wheel)]
    subprocess.run(install, check=True)
    return packages


LEFT_OUT = {"data", "build", "dist", "__pycache__", "tests"}


def run(packages: Path, directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(packages / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(packages),
        "RLHF_REPORT_TO": "none",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_a_project_from_the_wheel(installed: Path, tmp_path: Path):
    where = run(installed, tmp_path, "python", "-c", "import pipeline; print(pipeline.__file__)")
    assert where.stdout.strip() == str(installed / "pipeline" / "__init__.py")
    none_yet = run(installed, tmp_path, "rlhf-pipeline", "run")
    assert none_yet.returncode == 2
    assert none_yet.stderr == (
        "error: configs/demo.yaml: no such config file. Make a project that has some: rlhf-pipeline init DIR\n"
    )
    made = run(installed, tmp_path, "rlhf-pipeline", "init", "mine")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "mine"
    assert (project / "configs" / "demo.yaml").read_bytes() == (ROOT / "configs" / "demo.yaml").read_bytes()

    first = run(installed, project, "make", f"ARGS={TINY}")
    assert first.returncode == 0, first.stdout + first.stderr
    page = project / "data" / "demo-report" / "versions" / "v000001" / "report.html"
    assert f"open {page.relative_to(project)}" in first.stdout
    assert page.is_file()
    manifest = json.loads((page.parent / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["code"]["version"]
    assert not manifest["code"].get("commit")  # there is no repository

    second = run(installed, project, "make", f"ARGS={TINY}")
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == "[report] up to date: demo-report@v000001"
    assert second.stdout.count("up to date") == 6

    again = run(installed, tmp_path, "rlhf-pipeline", "init", "mine")
    assert "nothing to do" in again.stdout
    doctor = run(installed, project, "rlhf-pipeline", "doctor", "demo-policy")
    assert (doctor.returncode, doctor.stderr) == (1, "")  # two updates leave it something to find
    assert doctor.stdout.startswith("demo-policy@v000001: 2 updates")


@pytest.mark.timeout(600)
def test_a_task_of_ones_own_is_found_by_the_script(installed: Path, tmp_path: Path):
    assert run(installed, tmp_path, "rlhf-pipeline", "init", ".").returncode == 0
    done = run(installed, tmp_path, "rlhf-pipeline", "run", "--config", "my/task.yaml", *MY_TINY.split())
    assert done.returncode == 0, done.stdout + done.stderr
    evaluation = tmp_path / "data" / "my-task-evaluation" / "versions" / "v000001" / "manifest.json"
    assert json.loads(evaluation.read_text(encoding="utf-8"))["stats"]["gold_name"] == "gives a reason (0 or 1)"
