"""A sweep: every run once, failures told and the rest kept, killed and continued, aggregated at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.base.errors import ConfigError
from pipeline.base.files import is_held
from pipeline.stages.sweep import run_progress, sweep, sweep_version
from pipeline.store.store import Store, Version
from pipeline.workflow.sweeps import launch as sweep_launch
from pipeline.workflow.sweeps.plan import Eta, parse_axis, parse_seeds, plan, select_part
from tests.stages import fake_stage
from tests.stages.conftest import Project

FAKE = f"{sys.executable} {Path(__file__).with_name('fake_stage.py')}"
DRAW = sweep_version.draw
"""Pictures take ten times as long as all the rest of a sweep of stand-ins: they are drawn once."""

# No base and no reward model to make: what is left is one stage that runs share, and two that they do not.
CONFIG: dict[str, Any] = {
    "name": "mini",
    "task": "reviews",
    "base_model": "gpt2",
    "collect": {"comparisons": 80},
    "ppo": {"reward": "json:dumps"},
}
GRID = "ppo.kl_coef=0.02,0.1"
DRIVER = """
from pipeline.stages.sweep import sweep, sweep_version
sweep_version.draw = lambda *_: {}
from pipeline.base.cli import run_cli
run_cli(sweep.main)
"""


class Sweep:
    """2 seeds x 2 settings over stages that train nothing."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store(root / "data")
        self.config = root / "mini.yaml"
        self.config.write_text(yaml.safe_dump({**CONFIG, "data_dir": str(root / "data")}))
        self.script({})
        os.mkfifo(root / "door")

    def script(self, acts: dict[str, str]) -> None:
        (self.root / "script.json").write_text(json.dumps(acts))

    def argv(self, seeds: int) -> list[str]:
        return ["--config", str(self.config), "--seeds", str(seeds), "--grid", GRID, "--launch", FAKE]

    def run(self, *more: str, seeds: int = 2) -> int:
        return sweep.main([*self.argv(seeds), *more])

    @contextlib.contextmanager
    def started(self, line: str) -> Generator[subprocess.Popen[str]]:
        """In a process of its own, which has said ``line``."""
        command = [sys.executable, "-c", DRIVER, *self.argv(1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert any(line in said for said in process.stdout)
                yield process
            finally:
                process.kill()

    def calls(self) -> list[list[Any]]:
        return [json.loads(line) for line in (self.root / "calls").read_text().splitlines()]

    def places(self) -> Counter[str]:
        return Counter(place for place, _, _ in self.calls())

    def resumed(self) -> list[bool]:
        """Of each policy, whether there was a checkpoint to go on from."""
        return [v.manifest.stats["resumed"] for v in self.store.versions("mini-policy")]

    def result(self) -> Version:
        return self.store.resolve("mini-sweep")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Sweep]:
    monkeypatch.setattr(sweep_launch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sweep_version, "draw", lambda *_: {})
    yield Sweep(tmp_path)
    # A stage that a failed test has left waiting would wait for ever.
    with contextlib.suppress(OSError):
        os.close(os.open(tmp_path / "door", os.O_WRONLY | os.O_NONBLOCK))


class Inside:
    """A stage's process that is none, where nothing is killed and starting one costs more than all the rest."""

    pid = -1

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        self.words, self.device = command[2:], env.get("CUDA_VISIBLE_DEVICES")

    def wait(self) -> int:
        return fake_stage.main(self.words, self.device)


def start_by(monkeypatch: pytest.MonkeyPatch, start: Callable[..., Any]) -> None:
    monkeypatch.setattr(sweep_launch, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    start_by(monkeypatch, Inside)


@pytest.fixture
def ppo_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """PPO is a process, as it is the stage that fails or is killed; the others are none."""

    def start(command: list[str], env: dict[str, str], **more: Any) -> Any:
        return (subprocess.Popen if "pipeline.ppo" in command else Inside)(command, env=env, **more)

    start_by(monkeypatch, start)


# Seen failing with: every stage for every run; no key for the version; the second group compared with itself.
@pytest.mark.usefixtures("inside")
def test_all_runs_and_their_table(
    small: Sweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_version, "draw", DRAW)
    assert small.run() == 0
    said = capsys.readouterr().out
    each = [f"{stage} {coef} {seed}" for stage in ("ppo", "evaluate") for coef in (0.02, 0.1) for seed in (0, 1)]
    # What the seed's runs share is made by the first of them.
    assert small.places() == Counter(["collect 0.02 0", "collect 0.02 1", *each])
    made = small.result()
    rows = {row["run"]: row for row in made.rows("runs")}
    row = rows["ppo.kl_coef=0.1 seed=1"]
    assert (row["gold_difference"], row["group"], row["state"]) == (0.8, "ppo.kl_coef=0.1", "done")
    policy, evaluation = small.store.resolve(row["policy"]), small.store.resolve(row["evaluation"])
    assert (policy.manifest.config["ppo"]["kl_coef"], policy.manifest.seed) == (0.1, 1)
    assert policy.ref in [p.ref for p in evaluation.manifest.parents]
    assert {p.ref for p in made.manifest.parents} == {row["evaluation"] for row in rows.values()}
    first, second = made.manifest.stats["groups"]
    # By hand: means of 0.1, 0.3 and of 0.4, 0.8; differences 0.3, 0.5; t of one degree of freedom is 12.706.
    assert first["figures"]["gold_difference"]["value"] == pytest.approx(0.2)
    assert second["figures"]["gold_difference"]["value"] == pytest.approx(0.6)
    assert second["against_first"]["gold_difference"]["value"] == pytest.approx(0.4)
    assert second["against_first"]["gold_difference"]["low"] == pytest.approx(0.4 - 12.706 * 0.1, abs=1e-3)
    assert "| ppo.kl_coef=0.1  |     2 | +0.60 [−1.94, 3.14] | +0.40 | +0.80 | +0.40 [−0.87, 1.67] |" in said
    assert "mean over 2 seeds" in said
    card = (made.path / "README.md").read_text()
    assert said.rpartition("mini, sweep:")[2].partition("[sweep]")[0].strip() in card
    assert "](frontier.png)" in card
    assert "](diversity.png)" in card
    assert (made.path / "frontier.svg").is_file()
    assert (made.path / "diversity.svg").is_file()
    assert f"open {made.path / 'frontier.png'}" in said

    calls = small.calls()
    assert small.run() == 0
    again = capsys.readouterr().out
    assert "nothing to do: 4 of 4 runs are done" in again
    assert "up to date: mini-sweep@v000001" in again
    assert small.calls() == calls
    assert len(small.store.versions("mini-sweep")) == 1


# Trackio takes equal names for one run; the name is no setting, so each run keeps its key.
@pytest.mark.usefixtures("inside")
def test_trackers_are_given_names_that_differ(small: Sweep) -> None:
    assert small.run("--only", "2") == 0
    given = {words[1]: words[-1] for _, _, words in small.calls()}
    assert given["pipeline.ppo"] == 'ppo.run_name="ppo-seed0 ppo.kl_coef=0.1"'
    assert given["pipeline.evaluate"] == given["pipeline.collect"] == "seed=0"
    runs = plan("configs/demo.yaml", "1", ["reward.learning_rate=1e-3,1e-4"], [])
    assert runs[1].job.tracked_as == {
        "reward": "reward-seed0 reward.learning_rate=1e-4",
        "ppo": "ppo-seed0 reward.learning_rate=1e-4",
    }


# Seen failing with: the first failure ends the sweep; exit 0; raw log lines on the screen.
@pytest.mark.thorough
@pytest.mark.usefixtures("ppo_outside")
def test_a_failed_run_is_told_and_the_others_go_on(small: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    small.script({"ppo 0.02 0": "fail"})
    assert small.run(seeds=1) == 1
    said = capsys.readouterr().out
    assert "1/2 ppo.kl_coef=0.02 seed=0: failed in ppo (status 1); its log: " in said
    assert "    a bar at 20 %\n    ␛[31mred␇\n    the loss is not finite\n" in said
    assert "1 of 2 runs failed: ppo.kl_coef=0.02 seed=0" in said
    assert "2/2 ppo.kl_coef=0.1 seed=0: gold +0.40" in said
    assert "Not in the means: ppo.kl_coef=0.02 seed=0." in said
    log = next((small.root / "data" / ".runs" / "sweeps").glob("*/001-ppo.kl_coef=0.02_seed=0.log"))
    assert "the loss is not finite" in log.read_text()
    assert [row["state"] for row in small.result().rows("runs")] == ["missing", "done"]
    assert small.result().manifest.stats["done"] == 1

    small.script({})
    assert small.run(seeds=1) == 0
    assert [place for place, n in small.places().items() if n > 1] == ["ppo 0.02 0"]
    assert small.result().ref == "mini-sweep@v000002"
    assert small.result().manifest.stats["done"] == 2


@pytest.mark.usefixtures("inside")
def test_an_input_that_is_not_there_is_told(small: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--config", str(small.config), "--grid", "ppo.inputs.base=nobody@v1,noone@v1", "--launch", FAKE]
    assert sweep.main([*argv, "ppo.kl_coef=0.1"]) == 1
    said = capsys.readouterr().out
    assert "ppo.inputs.base=nobody@v1 seed=0: failed: " in said
    assert 'there is no "noone"' in said


# Seen failing with: no --fresh (the runs beside it refuse to start), --fresh always (it starts anew).
@pytest.mark.thorough
@pytest.mark.usefixtures("ppo_outside")
def test_a_killed_run_continues_and_stops_no_other(small: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    small.script({"ppo 0.02 0": "die"})
    assert small.run(seeds=1) == 1
    assert "failed in ppo (signal 9)" in capsys.readouterr().out
    assert small.places()["evaluate 0.1 0"] == 1
    small.script({})
    assert small.run(seeds=1) == 0
    assert small.resumed() == [False, True]


# Seen failing with: a held directory taken for a failure.
@pytest.mark.slow
def test_what_outlived_a_killed_sweep_is_waited_for(small: Sweep) -> None:
    small.script({"ppo 0.02 0": "wait"})
    with small.started("seed=0: ppo") as first:
        door = (small.root / "door").open("w")  # opens when the stage reads
        first.kill()
    with small.started("1/2 ppo.kl_coef=0.02 seed=0: ppo") as second:
        door.close()
        assert second.wait(60) == 0
    assert small.places()["ppo 0.02 0"] == 1
    assert small.result().manifest.stats["done"] == 2


# Seen failing with: no handler; the signal for the launcher's own process alone.
@pytest.mark.thorough
def test_sigterm_ends_the_stage_too(small: Sweep) -> None:
    small.script({"ppo 0.02 0": "wait"})
    with small.started("seed=0: ppo") as process:
        door = (small.root / "door").open("w")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not is_held(next((small.root / "data" / ".runs").glob("mini-ppo-*")))
    with pytest.raises(BrokenPipeError):  # nobody is left to read
        os.write(door.fileno(), b"open")
    door.close()


@pytest.mark.usefixtures("inside")
def test_parts_for_a_scheduler(small: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert small.run("--only", "1/2") == 0
    assert "2 of 4 runs are not done" in capsys.readouterr().out
    assert {place.split()[-1] for place in small.places()} == {"0"}
    assert not small.store.versions("mini-sweep")
    assert small.run("--list") == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["done", "done", "next:", "next:"]
    assert small.run("--table") == 0
    assert small.result().manifest.stats["done"] == 2
    assert small.run("--only", "2/2") == 0  # the last part publishes what all have made
    assert small.result().manifest.stats["done"] == 4
    assert max(small.places().values()) == 1


# Another machine does the other part while this one is at its own.
@pytest.mark.usefixtures("inside")
def test_the_last_part_to_end_publishes(
    small: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carry_out = sweep.carry_out

    def meanwhile(*given: Any) -> list[Any]:
        monkeypatch.setattr(sweep, "carry_out", carry_out)
        assert small.run("--only", "2/2") == 0
        capsys.readouterr()
        return carry_out(*given)

    monkeypatch.setattr(sweep, "carry_out", meanwhile)
    assert small.run("--only", "1/2") == 0
    assert "wrote mini-sweep@v000001" in capsys.readouterr().out


# Both saw that nobody was at it, and the other was faster.
@pytest.mark.usefixtures("inside")
def test_a_stage_that_another_has_begun_is_no_failure(small: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, held = iter([2]), iter([False, True, True])
    wait = Inside.wait
    monkeypatch.setattr(Inside, "wait", lambda self: next(refused, None) or wait(self))
    monkeypatch.setattr(sweep_launch, "_held", lambda _: next(held, False))
    assert small.run("--only", "1") == 0
    assert next(held, None) is None  # looked before it tried again


@pytest.mark.usefixtures("inside")
def test_jobs_have_a_gpu_each_and_make_once_what_they_share(small: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_progress, "gpus", lambda: ["4", "7"])
    assert small.run("--jobs", "2") == 0
    assert max(small.places().values()) == 1
    assert {device for _, device, _ in small.calls()} == {"4", "7"}
    assert small.result().manifest.stats["done"] == 4


@pytest.mark.parametrize(("n", "runs"), [(1, 7), (3, 7), (7, 7), (9, 7)])
def test_parts_are_all_runs_once(n: int, runs: int) -> None:
    whole: Any = list(range(runs))
    parts = [select_part(whole, f"{i}/{n}") for i in range(1, n + 1)]
    assert [run for some in parts for run in some] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert select_part(whole, "7") == [6]
    for wrong in ("0/3", "4/3", "8", "x", "1/0", "-1"):
        with pytest.raises(ConfigError, match="no part"):
            select_part(whole, wrong)


def test_grids_and_seeds_are_read() -> None:
    assert parse_axis("ppo.kl_coef=0.02,0.1") == ("ppo.kl_coef", [0.02, 0.1])
    assert parse_axis("ppo.lora_target_modules=[c_attn,c_proj],[c_attn]")[1] == [["c_attn", "c_proj"], ["c_attn"]]
    assert (parse_seeds("3", 0), parse_seeds("2", 7), parse_seeds("0 1 2", 5), parse_seeds("4,9", 0)) == (
        [0, 1, 2],
        [7, 8],
        [0, 1, 2],
        [4, 9],
    )
    for wrong in ("ppo.kl_coef", "=1", "ppo.kl_coef=", "seed=1,2", "name=a,b", "ppo.kl_coef=1,1", "ppo.x=[1"):
        with pytest.raises(ConfigError):
            parse_axis(wrong)
    for wrong in ("0", "", "a", "1,1", "-1", "1.5"):
        with pytest.raises(ConfigError):
            parse_seeds(wrong, 0)
    runs = plan("configs/demo.yaml", "2", ["ppo.kl_coef=0.02,0.1", "ppo.lam=0.9,1"], ["ppo.vf_coef=0.3"])
    assert len(runs) == 8
    assert runs[5].name == "ppo.kl_coef=0.02 ppo.lam=1 seed=1"
    assert runs[5].job.config.ppo.lam == 1
    assert runs[5].job.config.ppo.vf_coef == 0.3
    assert runs[5].job.config.seed == 1
    with pytest.raises(ConfigError, match="twice"):
        plan("configs/demo.yaml", "2", ["ppo.lam=0.9", "ppo.lam=1"], [])


# Mutation caught: shared work counted once per run.
def test_time_left_counts_shared_work_once() -> None:
    runs = plan("configs/demo.yaml", "2", ["ppo.kl_coef=0.02,0.1"], [])
    eta = Eta([], jobs=1)
    for stage, seconds in (("sft", 100), ("collect", 10), ("reward", 10), ("ppo", 60)):
        eta.took(runs[0], stage, seconds)
    assert eta.left(runs) == ""  # nobody knows how long evaluate takes
    eta.took(runs[0], "evaluate", 20)
    # Left: PPO and evaluate of run 2; all of run 3; PPO and evaluate of run 4: 80 + 200 + 80 seconds.
    assert eta.left(runs) == ", about 6 min left"
    assert Eta.left(eta, runs[:1]) == ""


def test_a_misspelt_key_is_told_before_anything_runs(small: Sweep) -> None:
    with pytest.raises(ConfigError) as err:
        plan(str(small.config), "1", ["ppo.klcoef=0.1"], [])
    assert str(err.value) == 'command line: unknown key "ppo.klcoef". Did you mean "ppo.kl_coef"?'
    assert len(plan("configs/demo.yaml", "1", [GRID], [])) == 2


# A page that nobody knows of would be waited for without end.
@pytest.mark.usefixtures("inside")
def test_people_are_not_asked_by_a_sweep(small: Sweep) -> None:
    small.config.write_text(small.config.read_text().replace("comparisons: 80", "annotator: human"))
    small.run("--only", "1")
    assert small.calls()[0][2][-1] == "collect.serve=false"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_stages_themselves(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(evaluate={"prompts": 10, "seeds": 1, "best_of": 0})
    argv = ["--config", str(project.config), "--seeds", "2"]
    assert sweep.main([*argv, "--grid", GRID]) == 0
    made = [len(project.store.versions(f"mini-{role}")) for role in ("base", "reward", "policy", "evaluation")]
    assert made == [2, 2, 4, 4]
    rows = list(project.latest("sweep").rows("runs"))
    assert all(row["reward_accuracy"] is not None and row["kl_k1"] is not None for row in rows)
    with pytest.raises(ConfigError, match="klcoef"):
        sweep.main([*argv, "--grid", "ppo.klcoef=0.1"])
