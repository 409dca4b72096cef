"""Plans in an environment: outcomes counted by hand on a corridor, and environments that misbehave."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.tasks import Simulated, load_task
from pipeline.tasks._plans import BEST_OF_EACH, FIRST_TEST_SEED
from pipeline.tasks.environment import EARLY, Task

HERE = "tests.helpers.corridor"


def corridor(name: str = "Corridor", **more: Any) -> Task:
    args = {"actions": ["left", "right"], "horizon": 3, "train_seeds": 10, "test_seeds": 5} | more
    return Task(env=f"{HERE}:{name}", **args)


def prompt_of(task: Task, seed: int) -> str:
    return task._states[seed]


@pytest.mark.parametrize(
    ("seed", "plan", "score", "early"),
    [
        # From field 3: right twice is field 5, -1 each; the third step reaches the goal.
        (2, " right right right", 8.0, False),
        (2, " left left left", -7.0, False),  # -1 -1 -5
        (2, " left right left", -3.0, False),
        (0, " left right right", -5.0, True),  # field 1: into the pit at once. Catches: going on behind the end
        (4, " right left left", 10.0, True),
        (2, "right  right\nright", 8.0, False),  # blanks do not matter
    ],
)
def test_outcomes_by_hand(seed: int, plan: str, score: float, early: bool) -> None:
    task = corridor()
    prompt = prompt_of(task, seed)
    assert task.rewards([prompt], [plan]) == [score]
    assert task.events([prompt], [plan]) == {EARLY: [early], "no plan": [False]}


@pytest.mark.parametrize(
    "text", ["", " right right", " right right right right", " right right up", " Right right right"]
)
def test_what_is_no_plan_is_worth_less_than_any_constant(text: str) -> None:
    # From field 3 the constants earn -7 and 8. Catches: 0 for what cannot be read, which would beat most plans.
    task = corridor()
    prompt = prompt_of(task, 2)
    assert task.rewards([prompt], [text]) == [-8.0]
    assert task.events([prompt], [text])["no plan"] == [True]
    assert corridor(unreadable=-20).rewards([prompt], [text]) == [-20.0]


def test_gold_is_less_the_best_constant_action_of_the_seed() -> None:
    task = corridor(horizon=2)
    # Over the fields right is the better constant, 13 to -17. Field 3: both constants -2; left right -2.
    # Field 5: right +10, left right -2. Field 1: right right -2, left left -5.
    prompts = [prompt_of(task, seed) for seed in (2, 4, 0)]
    assert task.gold_scores(prompts, [" left right", " left right", " left left"]) == [
        0.0,
        -2.0 - 10.0,
        -5.0 + 2.0,
    ]
    assert task.references(prompts)[BEST_OF_EACH] == [" left left", " right right", " right right"]
    assert task.references(prompts)["always right"] == [" right right"] * 3
    assert task.references(prompts) == corridor(horizon=2).references(prompts), "the random plan is drawn by seed"


def test_held_out_prompts_are_held_out_seeds() -> None:
    task = corridor()
    assert set(task.prompts("test", None, 0)) == {task._states[FIRST_TEST_SEED + i] for i in range(5)}
    assert isinstance(task, Simulated)
    assert task.completion_tokens == 13


def test_corpus_is_of_train_prompts_and_plans() -> None:
    task = corridor(corpus_size=50)
    train = set(task.prompts("train", None, 0))
    for text in task.corpus(3):
        prompt, plan = text.split(" Actions:")[0] + " Actions:", text.split(" Actions:")[1]
        assert prompt in train
        assert task._plan(plan) is not None
    assert len({t.split("Actions:")[1] for t in task.corpus(3)}) > 5


def test_state_and_score_of_ones_own() -> None:
    task = corridor(state=f"{HERE}:in_words", score=f"{HERE}:place_reached")
    prompt = "You are on field 3, with 0.5. Go:"
    assert prompt in task.prompts("train", None, 0)
    assert task.rewards([prompt], [" right right right"]) == [6.0]


def test_actions_are_counted_from_the_spaces_start() -> None:
    task = corridor("FromOne")  # catches: sending 0 and 1, which go left
    assert task.rewards([prompt_of(task, 2)], [" right right right"]) == [8.0]


def test_an_outcome_is_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task, ran = corridor(), list[Any]()
    prompt = prompt_of(task, 2)
    task.gold_scores([prompt], [" left left right"])
    monkeypatch.setattr(task._simulation, "run", lambda *args: ran.append(args))
    task.rewards([prompt] * 2, [" left left right"] * 2)
    assert not ran


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Forgetful", "does not begin in the same state twice"),
        ("Moody", "has another outcome for the same plan a second time"),
        ("Old", "gym's old interface"),
        ("Continuous", "no numbered alternatives"),
        ("Broken", "the reward is nan, not a finite number"),
        ("Picture", "an observation (7056 numbers) is no text of its own. Name a function"),
        ("NoSuch", 'tests.helpers.corridor has no "NoSuch"'),
    ],
)
def test_an_environment_that_misbehaves_is_named(name: str, words: str) -> None:
    task = corridor(name)
    with pytest.raises((ConfigError, DataError)) as caught:
        task._outcome(2, (0, 0, 0)), task.prompts("train", None, 0)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_environment_is_one_line() -> None:
    task = corridor("Broken")
    with pytest.raises(DataError, match=r"step raised KeyError: 'no such wheel'"):
        task.rewards([prompt_of(task, 0)], [" left left left"])


def test_a_prompt_of_other_options_is_no_low_score() -> None:
    task = corridor()
    with pytest.raises(DataError, match=r"first state of none of its seeds.*make collect"):
        task.rewards(["State: 9 9. Actions:"], [" left left left"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"actions": ["left"]}, "two or more words"),
        ({"actions": ["left", "left"]}, "two or more words"),
        ({"actions": ["go left", "right"]}, "'go left' is not one word"),
        ({"horizon": 0}, "horizon = 0 should be 1 or more"),
        ({"state": "no_colon"}, "module:function"),
    ],
)
def test_options_that_cannot_be(args: dict[str, Any], words: str) -> None:
    full = {"env": f"{HERE}:Corridor", "actions": ["left", "right"], **args}
    with pytest.raises(ConfigError, match=words):
        load_task("environment", full, "configs/x.yaml")


def test_names_for_other_numbers_of_actions() -> None:
    with pytest.raises(ConfigError, match=r"it has 2 actions, and task_args.actions names 3"):
        corridor(actions=["left", "right", "stay"]).prompts("train", 1, 0)


def test_without_gymnasium_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r"pip install 'rlhf-pipeline\[driving\]'"):
        Task(env="CartPole-v1", actions=["left", "right"]).prompts("train", 1, 0)
