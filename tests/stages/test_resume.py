"""``sft`` and ``reward`` interrupted at every step end as if they had not been: weights, figures and metrics."""

from __future__ import annotations

import importlib
import itertools
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.base.errors import StoreError
from pipeline.store.checkpoints import CHECKSUMS, Checkpoints
from pipeline.store.store import Version
from pipeline.trainers.callbacks import MetricsFile
from pipeline.trainers.shared_checkpointing import SaveInTime
from tests.stages.conftest import MINI, NO_SHAPE, Project

# Dropout, accumulation, logging out of step with saving, two passes over the data: what a checkpoint could forget.
REWARD = {
    "max_steps": 7,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.2,
    "disable_dropout": False,
    "learning_rate": 1e-3,
    "logging_steps": 2,
}
SFT = {**MINI["sft"], "logging_steps": 3}
ADAPTED = {**SFT, **NO_SHAPE, "lora_dropout": 0.2}
CLOCK = ("_runtime", "_per_second")


class Killed(BaseException):
    """Not an error, so that nobody on the way handles it."""


def copy_of(finished: Project, root: Path, stage: str, **changes: Any) -> Project:
    """A project whose inputs of ``stage`` are made, and whose settings make its work new."""
    root.mkdir()
    made = Project(root)
    if stage != "sft" or "base_model" in changes:
        shutil.copytree(finished.root / "data", root / "data")
    made.write(**{"reward": REWARD, **changes})
    return made


def kill_after(monkeypatch: pytest.MonkeyPatch, step: int | None) -> None:
    """Die right after the checkpoint of ``step``; None lives."""

    def on_save(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise Killed

    monkeypatch.setattr(MetricsFile, "on_save", on_save)


def weights(version: Version) -> bytes:
    return next(version.path.glob("*.safetensors")).read_bytes()


def metrics(version: Version) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (version.path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith(CLOCK)} for row in rows]


def figures(version: Version) -> dict[str, Any]:
    return {k: v for k, v in version.manifest.stats.items() if k != "stage_seconds"}


# Seen failing with: no optimiser, no rng or no figures in the checkpoint; train_loss as Hugging Face has it; every
# start a new one.
@pytest.mark.parametrize(
    ("stage", "role", "steps", "changes"),
    [
        pytest.param("sft", "base", 8, {"sft": SFT}, marks=pytest.mark.thorough),
        pytest.param(
            "sft",
            "base",
            4,
            {"sft": {**ADAPTED, "max_steps": 4}, "base_model": "mini-base@v1"},
            marks=pytest.mark.thorough,
        ),
        pytest.param("reward", "reward", 7, {}, marks=pytest.mark.thorough),
    ],
    ids=["sft from scratch", "sft with LoRA", "reward"],
)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every step"])
def test_interrupted_and_continued(
    finished: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    role: str,
    steps: int,
    changes: dict[str, Any],
    every: bool,
):
    whole = copy_of(finished, tmp_path / "whole", stage, **changes)
    assert whole.run(stage) == 0
    ours = copy_of(finished, tmp_path / "ours", stage, **changes)
    # The first and the last; of 1, 3 and the last one is logged and one is not.
    for step in range(1, steps) if every else (1, 3, steps - 1)[: steps - 2]:
        kill_after(monkeypatch, step)
        with pytest.raises(Killed):
            ours.run(stage, f"{stage}.save_steps=1")
        work = next((ours.root / "data" / ".runs").iterdir())
        assert [Checkpoints.step(p) for p in Checkpoints(work).all()] == [step - 1, step][step == 1 :]
        # Mutation caught: training_args.bin, a pickle, or a tokenizer in every checkpoint.
        names = {p.name for p in (work / f"checkpoint-{step}").iterdir()}
        assert not names & {"training_args.bin", "tokenizer.json"}
    kill_after(monkeypatch, None)
    capsys.readouterr()
    # How often to log and to save may change in between.
    assert ours.run(stage, f"{stage}.save_steps=100") == 0
    said = capsys.readouterr().out
    assert f"[{stage}] resuming at step {steps - 1} of {steps}, checkpoint " in said
    assert not list((ours.root / "data" / ".runs").iterdir())
    assert weights(ours.latest(role)) == weights(whole.latest(role))
    assert figures(ours.latest(role)) == figures(whole.latest(role))
    assert metrics(ours.latest(role)) == metrics(whole.latest(role))
    logged = 2 if stage == "reward" else 3
    assert steps_of_rows(ours.latest(role)) == list(range(logged, steps + 1, logged))


def steps_of_rows(version: Version) -> list[int]:
    return [row["step"] for row in metrics(version) if "loss" in row]


# Seen failing with: metrics.jsonl only appended to.
@pytest.mark.thorough
def test_killed_between_checkpoints(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours = copy_of(finished, tmp_path / "ours", "reward")

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(MetricsFile, "on_step_begin", on_step_begin)
        with pytest.raises(Killed):
            ours.run("reward", "reward.save_steps=3", "reward.logging_steps=1")
    work = next((ours.root / "data" / ".runs").iterdir())
    assert [Checkpoints.step(p) for p in Checkpoints(work).all()] == [3]
    assert len((work / "metrics.jsonl").read_text().splitlines()) == 5
    assert ours.run("reward", "reward.logging_steps=1") == 0
    assert steps_of_rows(ours.latest("reward")) == [1, 2, 3, 4, 5, 6, 7]


# Seen failing with: the last step's checkpoint written; continued from it, which trains an eighth step.
@pytest.mark.thorough
@pytest.mark.parametrize("best", [False, True])
def test_killed_after_the_last_step(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: bool
):
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    sft = {**SFT, **(evaluated if best else {})}
    whole = copy_of(finished, tmp_path / "whole", "sft", sft=sft)
    assert whole.run("sft", "sft.save_steps=1") == 0
    ours = copy_of(finished, tmp_path / "ours", "sft", sft=sft)

    def publish(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.stages.sft.publish", publish)
        with pytest.raises(Killed):
            ours.run("sft", "sft.save_steps=1")
    work = next((ours.root / "data" / ".runs").iterdir())
    assert [Checkpoints.step(p) for p in Checkpoints(work).all()] == ([7, 8] if best else [6, 7])
    assert ours.run("sft", "sft.save_steps=1") == 0
    assert ours.latest("base").manifest.stats["steps"] == 8
    assert weights(ours.latest("base")) == weights(whole.latest("base"))


@pytest.fixture(scope="module")
def interrupted_once(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = copy_of(finished, tmp_path_factory.mktemp("interrupted") / "made", "reward")
    with pytest.MonkeyPatch.context() as patched:
        kill_after(patched, 3)
        with pytest.raises(Killed):
            made.run("reward", "reward.save_steps=1")
    return made


@pytest.fixture
def interrupted(interrupted_once: Project, tmp_path: Path) -> Project:
    """A reward stage that died after step 3."""
    made = Project(tmp_path / "made")
    shutil.copytree(interrupted_once.root, made.root)
    made.write(reward=REWARD)
    return made


@pytest.fixture(scope="module")
def uninterrupted(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = copy_of(finished, tmp_path_factory.mktemp("uninterrupted") / "made", "reward")
    assert made.run("reward", "reward.save_steps=1") == 0
    return made


class Payload:
    """Pickled, it writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "ran")


# Seen failing with: torch.load(weights_only=False).
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_no_file_of_a_checkpoint_runs_code(interrupted: Project, name: str):
    work = next((interrupted.root / "data" / ".runs").iterdir())
    marker = interrupted.root / "marker"
    with (work / "checkpoint-3" / name).open("wb") as file:
        torch.save({"state": Payload(marker)}, file, pickle_module=pickle)
    # Whoever can write there can write the sums too.
    (work / "checkpoint-3" / CHECKSUMS).unlink()
    with pytest.raises(StoreError, match=r"checkpoint-3: is damaged: .* start over: add --fresh") as error:
        interrupted.run("reward")
    assert str(error.value).count("\n") == 0
    assert not marker.exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json", "figures_0.json"]
)
def test_a_damaged_checkpoint_without_checksums_is_one_line(interrupted: Project, name: str):
    work = next((interrupted.root / "data" / ".runs").iterdir())
    path = work / "checkpoint-3" / name
    path.write_bytes(path.read_bytes()[:50])
    (work / "checkpoint-3" / CHECKSUMS).unlink()
    with pytest.raises(StoreError, match=r"is damaged: .*\. Remove it to continue from the one before"):
        interrupted.run("reward")
    if name == "optimizer.pt":  # as the line says: without that one, the work continues from the one before
        shutil.rmtree(work / "checkpoint-3")
        assert interrupted.run("reward") == 0


# Seen failing with: no checksums. A bit in the weights or in the moments was continued from, and other weights
# were published; a bit in the JSON ended the run until the checkpoint was removed by hand.
@pytest.mark.thorough
@pytest.mark.parametrize("damaged", [[3], [3, 2]], ids=["the last", "both"])
def test_a_flipped_bit_costs_steps_and_nothing_else(
    uninterrupted: Project, interrupted: Project, capsys: pytest.CaptureFixture[str], damaged: list[int]
):
    work = next((interrupted.root / "data" / ".runs").iterdir())
    for step, name in zip(damaged, ("adapter_model.safetensors", "optimizer.pt"), strict=False):
        path = work / f"checkpoint-{step}" / name
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
    capsys.readouterr()
    assert interrupted.run("reward", "reward.save_steps=1") == 0
    said = capsys.readouterr().out
    assert "[reward] the checkpoint of step 3 is damaged (adapter_model.safetensors does not match" in said
    if damaged == [3]:
        assert "going back to that of step 2\n[reward] resuming at step 2 of 7" in said
    else:
        assert "the checkpoint of step 2 is damaged (optimizer.pt does not match" in said
        assert "starting again" in said
        assert "resuming" not in said
    assert weights(interrupted.latest("reward")) == weights(uninterrupted.latest("reward"))
    assert metrics(interrupted.latest("reward")) == metrics(uninterrupted.latest("reward"))


@pytest.mark.thorough
def test_fresh_trains_from_the_start(interrupted: Project, capsys: pytest.CaptureFixture[str]):
    assert interrupted.run("reward", "--fresh") == 0
    assert "resuming" not in capsys.readouterr().out
    assert interrupted.latest("reward").manifest.stats["steps"] == 7


# Seen failing with: the interval of the checkpoint's own settings kept.
@pytest.mark.thorough
def test_how_often_to_log_may_change(interrupted: Project):
    assert interrupted.run("reward", "reward.logging_steps=1") == 0
    assert steps_of_rows(interrupted.latest("reward")) == [2, 4, 5, 6, 7]


@pytest.mark.thorough
def test_settings_of_saving_are_respected(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def left(name: str, *given: str, step: int) -> list[int] | None:
        made = copy_of(finished, tmp_path / name, "reward")
        kill_after(monkeypatch, step)
        try:
            made.run("reward", *given)
        except Killed:
            work = next((made.root / "data" / ".runs").iterdir())
            return [Checkpoints.step(p) for p in Checkpoints(work).all()]
        return None

    assert left("steps", "reward.save_steps=2", "reward.save_total_limit=3", step=6) == [2, 4, 6]
    # Saving by the clock is for those who say nothing about steps; here every step takes 100 s.
    ticks = itertools.count(step=100)
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr("pipeline.trainers.shared_checkpointing.time", clock)
    assert left("seconds", step=1) == [1]
    short = "reward.max_steps=2"
    assert left("never", short, 'reward.save_strategy="no"', step=1) is None
    assert left("rarely", short, "reward.save_steps=100", step=1) is None
    assert left("soon", short, "reward.save_seconds=1000", step=1) is None


# Mutations caught: the least time, or the share, left out of what is due.
def test_saving_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch):
    from transformers import TrainerControl, TrainerState, TrainingArguments

    now = 0.0
    monkeypatch.setattr("pipeline.trainers.shared_checkpointing.time", SimpleNamespace(monotonic=lambda: now))
    timer, args, state = SaveInTime(5.0), TrainingArguments("x", use_cpu=True), TrainerState()

    def due() -> bool:
        control = TrainerControl()
        timer.on_step_end(args, state, control)
        return control.should_save

    now = 100.0
    timer.on_train_begin(args, state, TrainerControl())
    now = 104.9
    assert not due()
    now = 105.1
    assert due()
    now = 106.0
    timer.wrote(0.4)  # 2 % of 20 s
    now = 125.9
    assert not due()
    now = 126.1
    assert due()


BEST = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "save_total_limit": 1}
# The highest loss is the best here, so that the best step is an early one.
BEST_EARLY = {**SFT, "eval_strategy": "steps", "eval_steps": 1, "greater_is_better": True, **BEST}


@pytest.fixture(scope="module")
def best_uninterrupted(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = copy_of(finished, tmp_path_factory.mktemp("best") / "made", "sft", sft=BEST_EARLY)
    assert made.run("sft", "sft.save_steps=1") == 0
    return made


# Mutations caught: the spare one removed with the rest; the best one's path in the directory it was written in.
@pytest.mark.thorough
@pytest.mark.parametrize("lost", [False, True], ids=["there", "damaged"])
def test_the_best_checkpoint_outlives_the_newest(
    finished: Project,
    best_uninterrupted: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lost: bool,
):
    whole = best_uninterrupted
    # The last row is of the model that was put back.
    rows = {r["step"]: r["eval_loss"] for r in metrics(whole.latest("base"))[:-1] if "eval_loss" in r}
    best_step = max(rows, key=lambda s: rows[s])
    assert best_step < 4
    assert whole.latest("base").manifest.stats["eval_loss"] == rows[best_step]
    ours = copy_of(finished, tmp_path / "ours", "sft", sft=BEST_EARLY)
    kill_after(monkeypatch, best_step + 2)
    with pytest.raises(Killed):
        ours.run("sft", "sft.save_steps=1")
    work = next((ours.root / "data" / ".runs").iterdir())
    assert [Checkpoints.step(p) for p in Checkpoints(work).all()] == [best_step, best_step + 2]
    kill_after(monkeypatch, None)
    if lost:  # seen failing with: the best one not looked at, and a flipped bit of it published
        path = work / f"checkpoint-{best_step}" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
    capsys.readouterr()
    assert ours.run("sft", "sft.save_steps=1") == 0
    assert (f"the checkpoint of step {best_step}, the best so far, is damaged" in capsys.readouterr().out) == lost
    assert weights(ours.latest("base")) == weights(whole.latest("base"))


def test_every_stage_knows_the_flag():
    for stage in ("sft", "collect", "reward", "ppo", "evaluate", "report"):
        with pytest.raises(SystemExit) as exit_:
            importlib.import_module(f"pipeline.{stage}").main(["--help"])
        assert exit_.value.code == 0
