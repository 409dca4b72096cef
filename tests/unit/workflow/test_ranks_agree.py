"""Ranks compare what they are about to do: the same work from the same inputs, or all end with one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, PipelineError, StoreError
from pipeline.base.files import hold
from pipeline.store.interrupted import Work
from pipeline.store.store import Store
from pipeline.workflow.config import load_config
from pipeline.workflow.ranks_agree import disagreement
from pipeline.workflow.stage import Planner
from pipeline.workflow.stage_command import stage_main

WORK = Work("ppo", "x", 0, "k", {"ppo": {"kl_coef": 0.1}}, {"reward": ["x-reward@v000001", "id1"]}, "f", "1", 2)


def standing(work: Work | None = WORK, done: bool = False, error: list[str] | None = None) -> dict[str, Any]:
    return {"work": None if work is None else asdict(work), "done": done, "error": error}


def test_ranks_that_agree():
    assert disagreement([standing(), standing(), standing()]) is None
    assert disagreement([standing(done=True), standing(done=True)]) is None
    assert disagreement([standing(None), standing(None)]) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            standing(replace(WORK, key="l", inputs={"reward": ["x-reward@v000001", "id2"]})),
            "rank 1: does other work than rank 0: inputs.reward x-reward@v000001, now x-reward@v000001 there.",
        ),
        (
            standing(replace(WORK, key="l", settings={"ppo": {"kl_coef": 0.2}})),
            "rank 1: does other work than rank 0: ppo.kl_coef 0.1, now 0.2 there.",
        ),
        (standing(replace(WORK, key="l")), "rank 1: does other work than rank 0. Give all"),
        (standing(None), "rank 1: has nothing to do by its config, and others have."),
        (standing(done=True), "rank 1: sees another data_dir: the work is done on rank 1 alone."),
        (
            standing(None, error=["data/x-reward", "does not exist for these settings.", "Run: make reward"]),
            "data/x-reward: on rank 1 of 2: does not exist for these settings. Run: make reward",
        ),
    ],
)
def test_ranks_that_do_not(other: dict[str, Any], said: str):
    assert said in str(disagreement([standing(), other]))


def test_launches_that_cannot_work(monkeypatch: pytest.MonkeyPatch):
    from pipeline.trainers import arguments

    monkeypatch.setattr(arguments, "has_accelerator", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="FSDP needs GPUs"):
        arguments.check_launch("sft")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    arguments.check_launch("reward")
    with pytest.raises(ConfigError, match="ppo does not run under DeepSpeed"):
        arguments.check_launch("ppo")


Said = list[tuple[str, dict[str, Any]]]


def together(said: Said, **other: Any) -> Callable[[dict[str, Any], str], list[dict[str, Any]]]:
    """Two ranks, of which the other says what this one does but for ``other``; what this one says is kept."""

    def tell(mine: dict[str, Any], name: str) -> list[dict[str, Any]]:
        said.append((name, mine))
        return [mine, {**mine, **other}]

    return tell


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of two ranks, as rank 0 sees it."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\ntask: reviews\ndata_dir: {tmp_path}/data\nsft: {{max_steps: 3}}\n")
    return path


def sft(config: Path, tell: Any, *more: str) -> int:
    return stage_main("sft", lambda run: None, ["--config", str(config), *more], tell)


# Mutations caught, in each of the two: the error is raised at once, and the other ranks wait for one that is gone.
def test_an_error_of_the_config_is_told(config: Path):
    said: Said = []
    assert sft(config, together(said)) == 0
    assert [name for name, _ in said] == ["sft", "sft, begin"]
    error = ["x.yaml", "is broken.", "Mend it."]
    with pytest.raises(PipelineError, match=r"^x\.yaml: on rank 1 of 2: is broken\. Mend it\.$"):
        sft(config, together([], error=error))
    for text, message in [("[", "YAML"), ("name: x\ntask: t\nsfd: {}\n", "unknown key")]:
        said.clear()
        config.write_text(text)
        with pytest.raises(StoreError, match=f"on rank 0 of 2: .*{message}"):
            sft(config, together(said))
        assert [name for name, _ in said] == ["sft"]


def test_a_held_lock_is_told(config: Path):
    work = Planner(load_config(config), Store(load_config(config).data_dir)).run_of("sft").workdir
    work.mkdir(parents=True)
    held, said = hold(work), list[Any]()
    try:
        with pytest.raises(StoreError, match="on rank 0 of 2: another process"):
            sft(config, together(said))
    finally:
        os.close(held)
    assert said[-1][0] == "sft, begin"
    assert said[-1][1]["error"] is not None


def test_ranks_that_cannot_be_told(config: Path):
    def alone(mine: dict[str, Any], name: str) -> list[dict[str, Any]]:
        raise StoreError("rank 0", "a process of this run did not answer.")

    with pytest.raises(StoreError, match="did not answer"):
        sft(config, alone)
    with pytest.raises(ConfigError, match="unknown key"):  # what is wrong here, rather than that nobody heard it
        sft(config, alone, "sfd.a=1")
    assert sft(config, alone, "--check") == 3  # which asks nobody
