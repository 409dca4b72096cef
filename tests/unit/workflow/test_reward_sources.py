"""The value of ``ppo.reward``: what it may be, and what each mistake is told."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.workflow.reward_sources import RewardSource, check_combine, parse_sources, uses_adapter

OWN = RewardSource("adapter", "own")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, [OWN]),
        ("adapter", [OWN]),
        ({"adapter": "own"}, [OWN]),
        ("task", [RewardSource("task", "task")]),
        ({"task": "own", "weight": 2}, [RewardSource("task", "task", 2.0)]),
        ({"adapter": "own", "weight": 2}, [RewardSource("adapter", "own", 2.0)]),
        ("my_rewards:length", [RewardSource("function", "my_rewards:length")]),
        ({"function": "pkg.mod:fn", "weight": "1e-3"}, [RewardSource("function", "pkg.mod:fn", 0.001)]),
        ("demo-reward@v000001", [RewardSource("model", "demo-reward@v000001")]),
        ("./some/dir", [RewardSource("model", "./some/dir")]),
        # A directory may be called like the word, or have a colon.
        ({"model": "adapter"}, [RewardSource("model", "adapter")]),
        ({"model": "a:b"}, [RewardSource("model", "a:b")]),
        (
            {"model": "org/name", "label": "POSITIVE", "revision": "abc", "weight": -1},
            [RewardSource("model", "org/name", -1.0, "POSITIVE", "abc")],
        ),
        (["adapter", {"model": "x", "weight": 0}], [OWN, RewardSource("model", "x", 0.0)]),
    ],
)
def test_what_it_may_be(value: Any, expected: list[RewardSource]):
    # Mutation caught: a weight of 0 read as none given.
    assert parse_sources(value, "c.yaml") == expected


def test_entries_know_where_they_stand():
    assert [s.key for s in parse_sources(["adapter", "m:f"], "c.yaml")] == ["ppo.reward[0]", "ppo.reward[1]"]
    assert parse_sources("m:f", "c.yaml")[0].key == "ppo.reward"


def test_uses_adapter():
    assert uses_adapter(parse_sources(None, "c.yaml"))
    assert uses_adapter(parse_sources(["m:f", "adapter"], "c.yaml"))
    assert not uses_adapter(parse_sources(["m:f", {"model": "adapter"}], "c.yaml"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "ppo.reward is an empty list. Remove it"),
        ("", "ppo.reward is empty. Write adapter, task, module:function"),
        (3, "ppo.reward = 3 is neither a text nor a mapping."),
        ([["m:f"]], "ppo.reward[0] = ['m:f'] is neither a text nor a mapping."),
        ({}, "ppo.reward names no source. Give one of: adapter, task, function, model."),
        ({"weight": 1}, "ppo.reward names no source."),
        ({"functoin": "m:f"}, 'ppo.reward: unknown key "functoin". Did you mean "function"?'),
        ({"function": "m:f", "wieght": 1}, 'ppo.reward: unknown key "wieght". Did you mean "weight"?'),
        ({"function": "m:f", "label": "x"}, 'ppo.reward: unknown key "label". Known: function, weight'),
        (["adapter", {"model": "x", "function": "m:f"}], "ppo.reward[1] names function and model."),
        ({"adapter": "demo-reward"}, "Write {adapter: own}, or {model: ...} for another one."),
        ({"task": "driving"}, "ppo.reward.task = 'driving' is not known. Write {task: own}"),
        ({"model": None}, "ppo.reward.model = None is not known."),
        ({"model": ["x"]}, "ppo.reward.model = ['x'] should be a text."),
        ({"model": "x", "label": True}, "ppo.reward.label = True should be a text. Write it in quotes."),
        (
            {"model": "x", "revision": 1234567},
            "ppo.reward.revision = 1234567 should be a text. Write it in quotes.",
        ),
        ({"model": "x", "weight": "much"}, "ppo.reward.weight = 'much' should be a number."),
        ({"model": "x", "weight": True}, "ppo.reward.weight = True should be a number."),
        ({"model": "x", "weight": float("nan")}, "ppo.reward.weight = nan should be a number."),
        (["m:f", {"function": "m:f"}], 'ppo.reward[1]: "m:f" is there twice.'),
    ],
)
def test_mistakes_in_one_line(value: Any, said: str):
    with pytest.raises(ConfigError) as caught:
        parse_sources(value, "c.yaml")
    assert str(caught.value).startswith("c.yaml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("combine", "weights", "expected"),
    [
        (None, [None], "sum"),
        (None, [None, 0.5], "sum"),
        ("mean", [None, 0.5], "mean"),
        ("min", [None, None], "min"),
        ("mean_minus_std", [None, None], "mean_minus_std"),
        ("sum", [0.0, -1.0], "sum"),
    ],
)
def test_ways_to_combine(combine: str | None, weights: list[float | None], expected: str):
    assert check_combine(combine, weights, 1.0, "c.yaml") == expected


@pytest.mark.parametrize(
    ("combine", "weights", "std_coef", "said"),
    [
        ("maen", [None, None], 1.0, 'ppo.reward_combine "maen" is not known. Did you mean "mean"?'),
        ("min", [None], 1.0, "ppo.reward_combine: min compares scorers, and there is 1."),
        ("min", [None, 2.0], 1.0, "ppo.reward_combine: min takes no weights, and 2 is given."),
        ("mean_minus_std", [1.0, None], 1.0, "combine: mean_minus_std takes no weights"),
        ("mean", [None, -1.0], 1.0, "combine: mean has no use for a weight of -1. Use sum for a penalty."),
        ("sum", [0.0, 0.0], 1.0, "ppo.reward: every one has weight 0"),
        ("mean", [0.0, 0.0], 1.0, "ppo.reward: every one has weight 0"),
        ("mean_minus_std", [None, None], -1.0, "ppo.reward_std_coef -1.0 should be 0 or more."),
        ("mean_minus_std", [None, None], float("nan"), "ppo.reward_std_coef = nan should be a number."),
    ],
)
def test_combinations_without_sense(combine: str, weights: list[float | None], std_coef: float, said: str):
    with pytest.raises(ConfigError, match=r"c\.yaml: ") as caught:
        check_combine(combine, weights, std_coef, "c.yaml")
    assert said in str(caught.value)


def test_reading_needs_no_torch():
    code = (
        "import sys, pipeline.workflow.reward_sources; sys.exit('torch' in sys.modules or 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
