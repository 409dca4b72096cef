"""Ranks compare what they are about to do: the same work from the same inputs, or all end with one line."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from pipeline.store.interrupted import Work
from pipeline.workflow.stage import disagreement

WORK = Work("ppo", "x", 0, "k", {"ppo": {"kl_coef": 0.1}}, {"reward": ["x-reward@v000001", "id1"]}, "f", "1", 2)


def standing(work: Work | None = WORK, done: bool = False, error: list[str] | None = None) -> dict[str, Any]:
    return {"work": None if work is None else asdict(work), "done": done, "error": error}


def test_ranks_that_agree():
    assert disagreement([standing(), standing(), standing()]) is None
    assert disagreement([standing(done=True), standing(done=True)]) is None


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
    from pipeline.base.errors import ConfigError
    from pipeline.trainers import common

    monkeypatch.setattr(common, "has_accelerator", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="FSDP needs GPUs"):
        common.check_launch("sft")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    common.check_launch("reward")
    with pytest.raises(ConfigError, match="ppo does not run under DeepSpeed"):
        common.check_launch("ppo")
