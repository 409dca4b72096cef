"""The optimiser steps of an update: how many, on what, and the losses by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.trainers.ppo.optimise import minibatch_step, policy_loss, value_loss
from pipeline.trainers.ppo.rollout import Rollout
from tests.conftest import tiny_gpt2, with_lora
from tests.unit.trainers.ppo.helpers import (
    KINDS,
    MODELS,
    collect,
    ends_often,
    noise,
    optimiser,
    trained,
    trainer,
    with_values,
)


def step_on(made: Any, rollout: Rollout, advantages: torch.Tensor, returns: torch.Tensor) -> dict[str, float]:
    """One optimiser step on all rows."""
    rows = torch.arange(len(rollout))
    return minibatch_step(
        made.model, made.optimizer, made.accelerator, rollout, advantages, returns, rows, made.args
    )


@MODELS
@KINDS
def test_each_value_model_trains_its_own(make: Any, kind: str, tmp_path: Path):
    made = trainer(tmp_path, with_lora(make()), value_model=kind)
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    made.step(0)
    changed = {n for n, p in made.model.named_parameters() if not torch.equal(p, before[n])}
    own = {
        "head": lambda n: False,
        "adapter": lambda n: "lora_" in n and ".value." in n,
        "model": lambda n: n.startswith("value_model.backbone.") and "lm_head" not in n,
    }[kind]
    policy = {n for n in before if n.startswith("policy.") and ".policy." in n and "lora_" in n}
    head = {"value_model.linear.weight", "value_model.linear.bias"}
    # Mutations caught: a value adapter without its flags; a backbone that is the policy's own.
    assert changed == policy | head | {n for n in before if own(n)}
    assert changed == set(trained(made))


@contextmanager
def policy_gradient(made: Any) -> Iterator[list[float]]:
    """The largest gradient that reaches the policy's adapter, at every optimiser step."""
    seen: list[float] = []
    own = [p for n, p in made.model.named_parameters() if ".policy." in n and p.requires_grad]

    def look(*_: Any) -> None:
        seen.append(max([p.grad.abs().max().item() for p in own if p.grad is not None], default=0.0))

    handle = optimiser(made).register_step_pre_hook(look)
    yield seen
    handle.remove()


@KINDS
def test_the_value_loss_reaches_the_policy_through_a_head_only(kind: str, tmp_path: Path):
    made = with_values(trainer(tmp_path, with_lora(tiny_gpt2()), value_model=kind))
    rollout = collect(made, list(range(8)), noise())
    nothing, goal = torch.zeros_like(rollout.old_values), rollout.old_values + 1.0
    with policy_gradient(made) as seen:
        step_on(made, rollout, nothing, goal)
    # Mutation caught: ValueHead.states under the policy's role.
    assert (seen[0] > 0) == (kind == "head")


@KINDS
def test_warming_up_trains_the_value_alone(kind: str, tmp_path: Path):
    more: dict[str, Any] = {
        "value_warmup_updates": 2,
        "entropy_coef": 0.1,
        "weight_decay": 0.1,
        "total_episodes": 24,
    }
    made = with_values(trainer(tmp_path, with_lora(tiny_gpt2()), value_model=kind, **more))
    states = [trained(made)]
    with policy_gradient(made) as seen:
        for update in range(3):
            made.step(update)
            states.append(trained(made))
    policy = {n for n in states[0] if ".policy." in n}
    moved = [{n for n in now if not torch.equal(now[n], then[n])} for then, now in pairwise(states)]
    # Mutations caught: no detach of the head's states; the entropy bonus left on; the step taken on all groups.
    assert moved[0] == moved[1] == set(states[0]) - policy
    assert moved[2] == set(states[0])
    assert max(seen[:8]) == 0.0, "or the optimiser begins with moments of another loss"
    assert min(seen[8:]) > 0.0


@pytest.mark.parametrize("coef", [0.0, 0.1])
def test_the_entropy_bonus_raises_entropy(coef: float, tmp_path: Path):
    made = trainer(tmp_path, with_lora(tiny_gpt2()), entropy_coef=coef, learning_rate=1e-3)
    rollout = collect(made, list(range(8)), noise())
    nothing = torch.zeros_like(rollout.old_values)
    rows = [step_on(made, rollout, nothing, rollout.old_values) for _ in range(4)]
    entropies = [row["entropy"] for row in rows]
    if coef:  # Mutation caught: the bonus added to the loss instead of taken from it.
        assert all(b > a + 1e-3 for a, b in pairwise(entropies))
    else:
        assert entropies == entropies[:1] * 4


@pytest.mark.parametrize(("limit", "minibatches", "steps"), [(1e-9, 1, 2), (1e-9, 4, 4), (1e3, 4, 16)])
def test_target_kl_ends_the_epochs(limit: float, minibatches: int, steps: int, tmp_path: Path):
    """The first minibatch sees the policy that sampled, so with one alone the first epoch's KL is 0."""
    made = trainer(tmp_path, target_kl=limit, num_mini_batches=minibatches, num_ppo_epochs=4)
    # Mutations caught: the epochs go on; looked at after every minibatch; only an epoch's first minibatch counts.
    assert made.step(0)["policy/steps"] == steps


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@MODELS
def test_gradient_checkpointing_gives_the_same_update(make: Any, full: bool, tmp_path: Path):
    results: list[dict[str, Tensor]] = []
    for on in (False, True):
        model = make().requires_grad_(True) if full else with_lora(make())
        made = trainer(tmp_path, model, use_peft=not full, gradient_checkpointing=on, learning_rate=1e-3)
        made.step(0)
        # Mutation caught: blocks left in training mode.
        assert not any(m.training for m in made.model.policy.modules())
        results.append(trained(made))
    for name, parameter in results[0].items():
        torch.testing.assert_close(results[1][name], parameter, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("rows", "steps", "minibatches"), [(1, 8, 1), (4, 3, 2), (1, 12, 12), (1, 12, 2)], ids=str
)
def test_any_cut_into_micro_batches_is_the_same_update(rows: int, steps: int, minibatches: int, tmp_path: Path):
    """Such as minibatches of 6 in micro-batches of 4 and 2, and minibatches of one row."""
    results: list[dict[str, Tensor]] = []
    for size, count in ((rows, steps), (rows * steps, 1)):
        cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": count}
        made = trainer(tmp_path, ends_often(), num_mini_batches=minibatches, **cut)
        assert made.step(0)["policy/steps"] == 4 * minibatches
        results.append(trained(made))
    for name, parameter in results[0].items():
        torch.testing.assert_close(results[1][name], parameter, atol=1e-5, rtol=0, msg=name)


def test_policy_loss_by_hand():
    old = torch.zeros(4)
    new = torch.log(torch.tensor([1.5, 1.5, 0.5, 1.0]))
    advantages = torch.tensor([1.0, -1.0, -1.0, 2.0])
    loss, ratio, clipped = policy_loss(new, old, advantages, 0.2)
    # max(-A r, -A clip(r)): -1.2 (clipped), 1.5 (not), 0.8 (clipped), -2. Mutation caught: min for max.
    torch.testing.assert_close(loss, torch.tensor([-1.2, 1.5, 0.8, -2.0]))
    torch.testing.assert_close(ratio, torch.tensor([1.5, 1.5, 0.5, 1.0]))
    assert clipped.tolist() == [True, False, True, False]


def test_value_loss_by_hand():
    loss, clipped = value_loss(torch.tensor([1.0, 0.1]), torch.zeros(2), torch.tensor([1.0, 1.0]), 0.2)
    # 0.5 * max((1-1)^2, (0.2-1)^2) and 0.5 * (0.1-1)^2. Mutation caught: clipping around the return.
    torch.testing.assert_close(loss, torch.tensor([0.32, 0.405]))
    assert clipped.tolist() == [True, False]


def test_optimiser_steps_are_epochs_times_minibatches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = trainer(
        tmp_path,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_mini_batches=2,
        num_ppo_epochs=3,
    )
    steps: list[int] = []
    step = made.optimizer.step
    monkeypatch.setattr(made.optimizer, "step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    made.step(0)
    assert len(steps) == 3 * 2
