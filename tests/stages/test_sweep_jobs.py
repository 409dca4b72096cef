"""A sweep whose parts are jobs: what is submitted, what a killed job leaves, and the same table in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.stages import sweep
from pipeline.workflow.sweeps import jobs as sweep_jobs
from pipeline.workflow.sweeps.jobs import RETRIES, Command
from pipeline.workflow.sweeps.plan import parse_resource
from tests.stages.test_sweep import DRIVER, Sweep, inside, small

__all__ = ["inside", "small"]


class Job:
    """A job of the double, which ends when it is looked at."""

    def __init__(self, command: Command, number: int, folder: Path, killed: bool) -> None:
        self.job_id, self.command, self.killed, self.cancelled = str(number), command, killed, False
        result = folder / f"{number}_result"
        self.paths = SimpleNamespace(stdout=folder / f"{number}.out", result_pickle=result)
        folder.mkdir(parents=True, exist_ok=True)

    def done(self) -> bool:
        if not self.killed and not self.paths.result_pickle.exists():
            words = self.command.words
            sweep.main(words[words.index("pipeline.sweep") + 1 :])
            self.paths.result_pickle.touch()
        return True

    def cancel(self, check: bool) -> None:
        self.cancelled = True


class Submitit:
    """A double of the package; ``kills`` says of each job whether it is killed."""

    def __init__(self, kills: list[bool]) -> None:
        self.kills, self.jobs, self.resources = kills, list[Job](), dict[str, Any]()

    def AutoExecutor(self, folder: Path, cluster: str) -> Submitit:
        self.folder, self.cluster = folder, cluster
        return self

    def update_parameters(self, **resources: Any) -> None:
        if "gpu" in resources:
            raise NameError("Unknown argument 'gpu'")
        self.resources = resources

    def submit(self, command: Command) -> Job:
        killed = len(self.jobs) < len(self.kills) and self.kills[len(self.jobs)]
        self.jobs.append(Job(command, len(self.jobs), self.folder, killed))
        return self.jobs[-1]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Submitit:
    double = Submitit([])
    monkeypatch.setattr(sweep_jobs, "_submitit", lambda: double)
    monkeypatch.setattr(sweep_jobs, "POLL_SECONDS", 0.0)
    return double


def table(some: Sweep) -> Any:
    """The table without what goes by the order and the time in which runs ended."""
    result = some.result()
    own = ("id", "policy", "evaluation", "minutes")
    rows = [{k: v for k, v in row.items() if k not in own} for row in result.rows("runs")]
    groups = json.loads(json.dumps(result.manifest.stats["groups"]))
    for group in groups:
        for figures in (group["figures"], group.get("against_first") or {}):
            figures.pop("minutes", None)
    return [rows, groups]


@pytest.mark.thorough
@pytest.mark.usefixtures("inside")
def test_a_job_for_each_seed_and_the_sequential_table(
    small: Sweep, cluster: Submitit, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster.kills = [True, False, True]  # part 1, part 2, part 1 again
    assert small.run("--executor", "slurm", "--resource", "timeout_min=30", "--resource", "slurm_partition=a") == 0
    said = capsys.readouterr().out
    assert cluster.resources == {"name": "sweep", "timeout_min": 30, "slurm_partition": "a"}
    assert [job.command.words[job.command.words.index("--only") + 1] for job in cluster.jobs] == [
        "1/2",
        "2/2",
        "1/2",
        "1/2",
    ]
    assert "4 of 4 runs to do, in 2 jobs" in said
    assert "part 1/2: job 0 was killed; submitted again" in said
    assert "1/4 ppo.kl_coef=0.02 seed=0: gold" in said
    assert "up to date: mini-sweep@v000001" in said  # by the part that ended last
    assert max(small.places().values()) == 1
    (tmp_path / "sequential").mkdir()
    other = Sweep(tmp_path / "sequential")
    assert other.run() == 0
    assert table(other) == table(small)
    assert small.run("--executor", "slurm") == 0
    assert "nothing to do: 4 of 4 runs are done" in capsys.readouterr().out


@pytest.mark.usefixtures("inside")
def test_a_part_that_is_always_killed_is_given_up(
    small: Sweep, cluster: Submitit, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.kills = [True] * (RETRIES + 1)
    assert small.run("--executor", "local", "--parts", "1", seeds=1) == 1
    assert (
        f"its job was killed {RETRIES + 1} times; not done: ppo.kl_coef=0.02 seed=0, ppo"
        in capsys.readouterr().out
    )


@pytest.mark.usefixtures("inside")
def test_an_interrupted_sweep_cancels_its_jobs(
    small: Sweep, cluster: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Job) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "done", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small.run("--executor", "slurm")
    assert [job.cancelled for job in cluster.jobs] == [True, True]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--executor", "slurm", "--only", "1"], "--only: is what each job"),
        (["--resource", "gpus_per_node=1"], "are of jobs"),
        (["--executor", "local", "--resource", "gpu=1"], "Unknown argument 'gpu'"),
        (["--executor", "local", "--resource", "gpu"], "'gpu' is not key=value"),
        (["--executor", "local", "--parts", "0"], "--parts: 0 is below 1"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_options_that_do_nothing_are_refused(small: Sweep, options: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small.run(*options)


def test_without_submitit_it_says_what_to_install(small: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'rlhf-pipeline\[cluster\]'"):
        small.run("--executor", "local")


def test_resources_are_read() -> None:
    assert parse_resource("mem_gb=32") == ("mem_gb", 32)
    assert parse_resource("slurm_additional_parameters={requeue: true}")[1] == {"requeue": True}


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            own, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(own)
    found = [pid]
    for process in found:
        found += below.get(process, [])
    return found


# A worker with all that it has started is gone from one moment to the next, as where its machine fails.
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_workers_change_nothing(small: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'rlhf-pipeline[cluster]'")
    small.script({"ppo 0.02 0": "wait"})
    argv = [*small.argv(2), "--executor", "local", "--jobs", "2"]
    code = f"from pipeline.workflow.sweeps import jobs as sweep_jobs\nsweep_jobs.POLL_SECONDS = 0.2\n{DRIVER}"
    command = [sys.executable, "-c", code, *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            calls = small.root / "calls"
            while not (calls.exists() and '"ppo 0.02 0"' in calls.read_text()):
                assert process.poll() is None, process.stdout and process.stdout.read()
                time.sleep(0.1)
            jobs = next((small.root / "data" / ".runs" / "sweeps").glob("*/jobs"))
            small.script({})
            workers = sorted(int(path.name.split("_")[0]) for path in jobs.glob("*_submitted.pkl"))
            killed = [worker for worker in workers if (Path("/proc") / str(worker)).exists()]
            for pid in [pid for worker in killed for pid in tree(worker)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            said, _ = process.communicate(timeout=240)
        finally:
            process.kill()
    print(said)
    assert process.returncode == 0, said
    assert said.count("was killed; submitted again") == len(killed) >= 1
    assert small.places()["ppo 0.02 0"] == 2
    (tmp_path / "sequential").mkdir()
    other = Sweep(tmp_path / "sequential")
    monkeypatch.setattr(sweep, "draw", lambda *_: {})
    assert other.run() == 0
    assert table(other) == table(small)
