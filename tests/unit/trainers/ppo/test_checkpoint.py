"""A PPO run that is interrupted anywhere and continued ends as the one that never was, bit for bit."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.base.errors import ModelError
from pipeline.scoring.scorer import Samples
from pipeline.store.checkpoints import Checkpoints
from pipeline.trainers.ppo import optimise
from tests.conftest import tiny_gpt2, with_lora
from tests.unit.trainers.ppo.helpers import PROMPTS, likes_seven, trained, trainer

UPDATES = 5


CLOCKS = ("eps", "tokens_per_second")


EVERYTHING: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "total_episodes": 8 * UPDATES,
    "kl_target": 0.5,
    "kl_horizon": 50,
    "scale_score": "running",
    "kl_budget": 50.0,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "keep_best": True,
    "fall_patience": 3,
    "value_warmup_updates": 1,
    "entropy_coef": 0.01,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_seconds": 0,
}


def moody(samples: Samples) -> Tensor:
    """A scorer that draws from every generator of the process, as a judge of the user's may."""
    drawn = torch.tensor([random.random() + np.random.rand() + torch.rand(()).item() for _ in samples.prompt_ids])
    return likes_seven(samples) + 0.1 * drawn


def build(tmp_path: Path, keep: int = 99, **more: Any) -> Any:
    settings = {**EVERYTHING, "scorer": moody, "check": moody, "eval_dataset": PROMPTS, **more}
    made = trainer(tmp_path, checkpoints=Checkpoints(tmp_path / "checkpoints", keep), **settings)
    del made.log  # the real one, as what it logs has to be the same as well
    return made


def result(made: Any) -> dict[str, Any]:
    """All that a run leaves, but for how fast it was."""
    log = [{k: v for k, v in row.items() if k not in CLOCKS} for row in made.state.log_history]
    state = {k: vars(made.state)[k] for k in ("global_step", "episode", "max_steps")}
    return {
        "log": log,
        **state,
        "coef": made.kl_controller.coef,
        "moments": made.moments,
        "monitor": made.best_policies.monitor,
        "stopped": made.stopped,
        "lr": [g["lr"] for g in made.optimizer.param_groups],
    }


def assert_same(made: Any, whole: Any) -> None:
    assert result(made) == result(whole)
    weights = trained(whole)
    assert all(torch.equal(p, weights[n]) for n, p in trained(made).items())
    assert made.best_policies.copies.keys() == whole.best_policies.copies.keys()
    for label, copy in whole.best_policies.copies.items():
        assert all(torch.equal(made.best_policies.copies[label][n], p) for n, p in copy.items())


def disturb() -> None:
    """Another process has its generators elsewhere."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that never was interrupted; tests leave it as it is."""
    made = build(tmp_path_factory.mktemp("whole"))
    made.train()
    return made


@pytest.mark.thorough
def test_resumed_at_every_update(whole: Any, tmp_path: Path):
    saved = whole.checkpoints.all()
    assert [Checkpoints.step(p) for p in saved] == list(range(1, UPDATES + 1))
    assert 0.0 < result(whole)["coef"] != 0.05
    assert whole.moments.count == 8 * UPDATES
    assert [row["step"] for row in whole.state.log_history if "eval/check" in row] == [0, 2, 4, 5]
    for path in saved:
        disturb()
        made = build(tmp_path / "again")
        made.train(resume_from_checkpoint=path)
        # Mutations caught, each by leaving it out: moments, KL coefficient, scheduler, optimiser, any of the three
        # generators, watch, copies, log.
        assert_same(made, whole)


@pytest.mark.thorough
def test_killed_in_the_middle_of_every_update(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every start gets one update further and dies inside the next, its weights and generators moved on."""

    class Killed(Exception):
        pass

    step = optimise.minibatch_step

    def dies_in(made: Any, fatal: int) -> Any:
        def minibatch_step(*args: Any, **kwargs: Any) -> Any:
            figures = step(*args, **kwargs)
            if made.state.global_step == fatal:
                raise Killed
            return figures

        monkeypatch.setattr(optimise, "minibatch_step", minibatch_step)
        return made

    for fatal in range(UPDATES):
        disturb()
        made = dies_in(build(tmp_path), fatal)
        with pytest.raises(Killed):
            made.train(made.checkpoints.latest())
    monkeypatch.undo()
    made = build(tmp_path)
    made.train(made.checkpoints.latest())
    assert_same(made, whole)


@pytest.mark.parametrize(
    "more",
    [
        {"value_model": "adapter"},
        {"value_model": "model"},
        {"use_peft": False},
        {"gradient_checkpointing": True},
        {"scale_score": "ref", "kl_target": None},
    ],
    ids=lambda more: "-".join(f"{k}={v}" for k, v in more.items()),
)
def test_resumed_whatever_is_trained(more: dict[str, Any], tmp_path: Path):
    def model() -> Any:
        return tiny_gpt2().requires_grad_(True) if more.get("use_peft") is False else with_lora(tiny_gpt2())

    more = {**more, "total_episodes": 8 * 3}
    whole = build(tmp_path, model=model(), **more)
    whole.train()
    disturb()
    made = build(tmp_path / "again", model=model(), **more)
    made.train(whole.checkpoints.all()[1])  # after the value model's warm-up and an update of both
    assert_same(made, whole)


def test_resumed_after_it_has_stopped(tmp_path: Path):
    more = {"kl_budget": 0.5, "kl_coef": 0.0, "kl_target": None, "learning_rate": 5e-3, "total_episodes": 160}
    whole = build(tmp_path, **more)
    whole.train()
    assert whole.stopped is not None
    assert 2 < whole.state.global_step < 20
    for path in whole.checkpoints.all()[-2:]:
        made = build(tmp_path / "again", **more)
        made.train(path)
        # Mutation caught: "stopped" not saved, so that a run that was over goes on.
        assert_same(made, whole)


def test_old_checkpoints_go(tmp_path: Path):
    made = build(tmp_path, keep=2, total_episodes=8 * 3)
    made.train()
    assert [Checkpoints.step(p) for p in made.checkpoints.all()] == [2, 3]
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {p.name for p in made.checkpoints.all()}


def test_a_checkpoint_holds_nothing_that_runs(whole: Any):
    assert {p.name for p in whole.checkpoints.all()[0].iterdir()} == {
        "state.safetensors",
        "state.json",
        "checksums.json",
    }


def test_saving_every_so_many_updates(tmp_path: Path):
    made = build(tmp_path, save_steps=2)
    made.train()
    # Mutation caught: a checkpoint that was asked for once is written after every later update.
    assert [Checkpoints.step(p) for p in made.checkpoints.all()] == [2, 4, UPDATES]


def refused(made: Any, path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        made.train(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    made = build(tmp_path, total_episodes=8)
    made.train()
    path = made.checkpoints.all()[0]
    assert "other parameters" in refused(build(tmp_path, value_model="adapter"), path)
    assert "other parameters" in refused(
        build(tmp_path, model=with_lora(tiny_gpt2(vocab=60, eos=51), "other")), path
    )


# Mutations caught, each by leaving it out: the batch, the number of updates, the scheduler that counts them.
def test_begun_with_another_number_of_ranks(tmp_path: Path):
    """Two ranks with a batch of 4 each began what one with twice the accumulation does."""
    more = {"scorer": likes_seven, "check": likes_seven, "total_episodes": 8 * 3, "lr_scheduler_type": "linear"}
    whole = build(tmp_path, **more)
    whole.train()
    path = whole.checkpoints.all()[0]
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "begun_with": 2, "ranks": state["ranks"] * 2}))
    for _ in range(2):
        disturb()
        made = build(tmp_path / "again", gradient_accumulation_steps=1, num_mini_batches=2, **more)
        made.train(path)
        assert_same(made, whole)
        # What is saved on the way knows how it began.
        path = made.checkpoints.all()[0]
        assert Checkpoints.step(path) == 2
        assert (json.loads((path / "state.json").read_text())["begun_with"], len(made.prompts.ids)) == (2, 8)


def test_figures_of_a_checkpoint_are_numbers(tmp_path: Path):
    """JSON has no NaN and no infinity; what reads it elsewhere would stop there."""
    made = build(tmp_path, total_episodes=8)
    made.train()
    text = (made.checkpoints.all()[0] / "state.json").read_text()
    numbers = json.loads(text, parse_constant=lambda name: pytest.fail(f"holds {name}"))
    assert all(math.isfinite(v) for row in numbers["log_history"] for v in row.values())
