"""When a run ends, and which policy it leaves: the KL budget, the floor of diversity, the best held-out check."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_gpt2, with_lora
from tests.unit.trainers.ppo.helpers import LEARNS, Remember, are, gold, likes_seven, proxy, trainer
from tests.unit.trainers.ppo.test_checkpoint import assert_same, build, disturb


def test_the_kl_budget_goes_back_to_the_last_policy_within(tmp_path: Path):
    remember = Remember()
    more: dict[str, Any] = {"kl_budget": 0.5, "kl_coef": 0.0, "learning_rate": 5e-3, "total_episodes": 160}
    made = trainer(tmp_path, callbacks=[remember], **more)
    made.train()
    kls = [row["objective/kl"] for row in made.state.log_history]
    assert len(kls) > 2
    assert max(kls[:-1]) <= 0.5 < kls[-1]
    assert "policy/steps" not in made.state.log_history[-1]
    # The last update's rollout is of the policy after one less, and the one within of one less again.
    over, within = len(kls) - 1, len(kls) - 2
    assert made.published == within
    assert made.stopped == (
        f"KL {kls[over]:.2f} after update {over} is over kl_budget 0.5: back to the policy after update {within}, "
        f"KL {kls[within]:.2f}"
    )
    # Mutation caught: none put back.
    assert are(made, remember.states[within])


def test_a_start_over_budget_trains_nothing(tmp_path: Path):
    remember = Remember()
    made = trainer(tmp_path, with_lora(tiny_gpt2()), kl_budget=0.1, total_episodes=32, callbacks=[remember])
    made.train()
    assert made.state.global_step == 1
    assert are(made, remember.states[0])


@pytest.mark.thorough
def test_the_best_is_published(tmp_path: Path):
    remember = Remember()
    made = trainer(tmp_path, scorer=proxy, check=gold, keep_best=True, callbacks=[remember], **LEARNS)
    made.train()
    checks = [row["eval/check"] for row in made.state.log_history if "eval/check" in row]
    assert len(checks) == 17
    best = int(np.argmax(checks))
    assert 0 < best < 16, "the test needs a best that is neither first nor last"
    # Mutation caught: ranked by the proxy although there is a judge.
    assert are(made, remember.states[best])


def test_without_keep_best_the_last_is_published(tmp_path: Path):
    remember = Remember()
    more = {**LEARNS, "total_episodes": 32 * 3}
    made = trainer(tmp_path, check=lambda s: -likes_seven(s), keep_best=False, callbacks=[remember], **more)
    made.train()
    checks = [row["eval/check"] for row in made.state.log_history if "eval/check" in row]
    assert int(np.argmax(checks)) < 3, "the test needs a best that is not the last"
    assert are(made, remember.states[3])


@pytest.mark.thorough
def test_a_hacked_reward_ends_the_run_before_it_is_lost(tmp_path: Path):
    remember = Remember()
    made = trainer(
        tmp_path, scorer=proxy, check=gold, keep_best=True, fall_patience=2, callbacks=[remember], **LEARNS
    )
    made.train()
    rows = [row for row in made.state.log_history if "eval/check" in row]
    best, last = max(rows, key=lambda row: row["eval/check"]), rows[-1]
    assert "fell" in made.stopped
    assert made.state.global_step < 16
    assert best.get("update", 0) < last["update"] - 1
    assert last["eval/scores"] > best["eval/scores"]
    assert last["eval/check"] < best["eval/check"]
    # The kept one is from before the fall. Mutation caught: the one that stopped the run.
    assert are(made, remember.states[int(best["update"])])
    assert made.evaluate_held_out()["eval/check"] == pytest.approx(best["eval/check"])


def test_without_a_fall_the_run_goes_on(tmp_path: Path):
    made = trainer(tmp_path, scorer=proxy, check=proxy, fall_patience=1, **{**LEARNS, "total_episodes": 32 * 6})
    made.train()
    assert made.stopped is None
    assert made.state.global_step == 6


# A reward for one token, of completions of three tokens: soon all of them say it three times.
COLLAPSES: dict[str, Any] = {
    **LEARNS,
    "scorer": likes_seven,
    "check": likes_seven,
    "response_length": 3,
    "total_episodes": 32 * 12,
}


def held_out(made: Any) -> list[tuple[int, float]]:
    """(update, share of the closing sentences left) of every evaluation."""
    log = made.state.log_history
    return [(row.get("update", 0), row["eval/closings_left"]) for row in log if "eval/closings_left" in row]


def assert_went_back(made: Any, states: Any) -> None:
    rows = held_out(made)
    above = [update for update, left in rows if left >= 0.5]
    assert rows[-1][1] < 0.5 <= rows[-2][1]
    assert 0 < above[-1] < rows[-1][0] < 12, "the test needs a run that collapses, but not at once"
    # Mutations caught: the last policy left in place; the one before the last update put back.
    assert made.published == above[-1]
    assert are(made, states[above[-1]])
    named = re.search(
        r"after update (\d+), .* back to the policy after update (\d+), with ([\d.]+) \((\d+)%\)", made.stopped
    )
    assert named is not None
    assert [int(named[1]), int(named[2])] == [rows[-1][0], above[-1]]
    assert int(named[4]) == round(100 * rows[-2][1])


@pytest.mark.parametrize("keep_best", [False, True])
def test_below_the_floor_the_run_ends_at_the_last_policy_above(keep_best: bool, tmp_path: Path):
    remember = Remember()
    made = trainer(tmp_path, diversity_floor=0.5, keep_best=keep_best, callbacks=[remember], **COLLAPSES)
    made.train()
    # The check only rises, so that the best is the last. Mutation caught: keep_best takes one below the floor.
    assert_went_back(made, remember.states)
    # What was measured on it is so again: on the same prompts, with the same randomness.
    assert made.evaluate_held_out()["eval/closings_left"] == pytest.approx(held_out(made)[-2][1])


def test_the_number_is_that_of_the_closing_sentences(tmp_path: Path):
    from pipeline.texts.diversity import effective_number

    seen: list[list[str]] = []

    def check(samples: Any) -> Any:
        seen.append(samples.completions)
        return likes_seven(samples)

    made = trainer(tmp_path, **{**COLLAPSES, "check": check, "total_episodes": 64})
    made.train()
    logged = [row["eval/closings"] for row in made.state.log_history if "eval/closings" in row]
    # These completions have no end marks: each is one sentence.
    assert logged == pytest.approx([effective_number(Counter(map(str.strip, texts)).values()) for texts in seen])


@pytest.mark.thorough
def test_resumed_with_a_floor(tmp_path: Path):
    more = {**COLLAPSES, "diversity_floor": 0.5, "kl_target": None, "num_mini_batches": 1, "fall_patience": 0}
    more |= {"gradient_accumulation_steps": 1, "scale_score": None, "value_warmup_updates": 0, "num_ppo_epochs": 4}
    whole = build(tmp_path, **more)
    whole.train()
    assert whole.stopped is not None
    assert "diversity_floor" in whole.stopped
    saved = whole.checkpoints.all()
    assert len(saved) > 4
    for path in (saved[0], saved[-3], saved[-1]):
        disturb()
        made = build(tmp_path / "again", **more)
        made.train(path)
        # Mutations caught: first, varied, copies or went_back not in the checkpoint.
        assert_same(made, whole)
        assert (made.published, made.best_policies.went_back) == (whole.published, whole.best_policies.went_back)


def test_what_the_kl_budget_puts_back_is_above_the_floor(tmp_path: Path):
    """Evaluations are rare here: between two of them the policy collapses, and then the budget is exceeded."""
    remember = Remember()
    more = {**COLLAPSES, "eval_steps": 100, "diversity_floor": 0.9, "kl_budget": 6.0}
    made = trainer(tmp_path, callbacks=[remember], **more)
    made.train()
    assert made.state.global_step < 12, "the test needs a budget that ends the run"
    # Mutation caught: only evaluations that were asked for are held against the floor.
    assert "diversity_floor" in made.stopped
    assert made.published == 0
    assert are(made, remember.states[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"diversity_floor": 0.5}, "diversity_floor need held-out figures: set eval_strategy: steps"),
        (
            {"diversity_floor": 50, "eval_strategy": "steps", "eval_steps": 1},
            "diversity_floor = 50 should be in (0, 1)",
        ),
        (
            {"diversity_floor": 0.0, "eval_strategy": "steps", "eval_steps": 1},
            "diversity_floor = 0.0 should be in (0, 1)",
        ),
        ({"num_generations": 3}, "a batch of 8 does not divide into num_generations 3"),
        ({"num_generations": 0}, "num_generations = 0 should be 1 or more"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=re.escape(said)):
        trainer(tmp_path, **settings)
