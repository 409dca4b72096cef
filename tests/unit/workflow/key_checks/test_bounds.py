"""Every number of a config has bounds, and one outside them is named before anything runs."""

from __future__ import annotations

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.errors import ConfigError
from pipeline.base.plugins import label_section
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import SECTIONS as KEYS
from pipeline.workflow.judges import JudgeOptions
from pipeline.workflow.key_checks.bounds import (
    ANNOTATORS,
    JUDGE,
    PAIRS,
    SECTIONS,
    STOP,
    TASKS,
    Bound,
    check_numbers,
)
from pipeline.workflow.named_sets import PairSet
from pipeline.workflow.sections.governance import GovernanceSection
from pipeline.workflow.sections.loop import StopOptions

DERIVED = {
    *("world_size", "num_total_batches", "micro_batch_size", "local_batch_size", "batch_size"),
    *("local_mini_batch_size", "mini_batch_size"),
}
"""What TRL's PPOConfig computes; given by hand they are refused, see test_trl_keys."""


def numbers(cls: Any) -> set[str]:
    """Fields of a dataclass that a number may be given for."""
    hints = typing.get_type_hints(cls)
    return {f.name for f in dataclasses.fields(cls) if f.init and is_number(hints[f.name])}


def is_number(hint: Any) -> bool:
    args = typing.get_args(hint)
    if typing.get_origin(hint) is dict or typing.get_origin(hint) is typing.Literal:
        return False
    return hint in (int, float) or any(map(is_number, args))


def sections() -> dict[str, Any]:
    return {**KEYS, "label": label_section(), "governance": GovernanceSection}


# Fails when a section, or TRL or transformers, gets a number that nobody has thought about.
@pytest.mark.parametrize("section", SECTIONS)
def test_every_number_has_bounds(section: str):
    missing = numbers(sections()[section]) - set(SECTIONS[section])
    assert missing <= (DERIVED if section == "ppo" else set())
    assert set(SECTIONS[section]) <= {f.name for f in dataclasses.fields(sections()[section])}


def test_every_number_of_tasks_and_annotators_has_bounds():
    import importlib

    for name, bounds in TASKS.items():
        assert set(bounds) == numbers(importlib.import_module(f"pipeline.tasks.{name}").Task), name
    for name, bounds in ANNOTATORS.items():
        options = importlib.import_module(f"pipeline.annotators.{name}").Options
        assert set(bounds) == numbers(options), name
    assert set(JUDGE) == numbers(JudgeOptions)
    assert set(PAIRS) == numbers(PairSet)
    assert set(STOP) == numbers(StopOptions)


def outside(bound: Bound) -> list[float]:
    """Values that ``bound`` does not allow: the nearest ones, and those that are no number."""
    found = [math.nan, math.inf, -math.inf]
    if bound.low is not None:
        found += [bound.low - 1, bound.low - 2] + ([bound.low] if bound.above else [])
    if bound.high is not None:
        found += [bound.high + 1] + ([bound.high] if bound.below else [])
    return [v for v in found if bound.special is None or v != bound.special[0]]


def inside(bound: Bound) -> list[float]:
    low = -10.0 if bound.low is None else bound.low
    high = low + 10 if bound.high is None else bound.high
    ends = ([] if bound.above else [low]) + ([] if bound.below else [high])
    return [*ends, (low + high) / 2, *([] if bound.special is None else [bound.special[0]])]


def config(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "task": "reviews", **content}))
    return path


TABLE = [
    *((f"{s}.{k}", b, {}) for s, bounds in SECTIONS.items() for k, b in bounds.items()),
    *(
        (f"task_args.{k}", b, {"task": package + t})
        for t, bounds in TASKS.items()
        for k, b in bounds.items()
        for package in ("", "pipeline.tasks.")
    ),
    *(
        (f"collect.annotator_args.{k}", b, {"collect": {"annotator": package + a}})
        for a, bounds in ANNOTATORS.items()
        for k, b in bounds.items()
        for package in ("", "pipeline.annotators.")
    ),
]


# Seen failing with: sft.weight_decay: .nan, which published weights of NaN; ppo.total_episodes: 0, which published
# the base as a policy; sft.max_steps: 0, which trained three epochs; learning_rate: -1e-3. Options of tasks and
# annotators check no range themselves: this is what holds theirs, by their short name and by their dotted path.
@pytest.mark.parametrize(("key", "bound", "about"), TABLE, ids=[f"{k} {a or ''}" for k, _, a in TABLE])
def test_a_number_outside_its_bounds(key: str, bound: Bound, about: dict[str, Any], tmp_path: Path):
    path = config(tmp_path, **about)
    for value in outside(bound):
        with pytest.raises(ConfigError) as err:
            load_config(path, [f"{key}={spelled(value)}"])
        assert err.value.what == f"{key} = {yaml.safe_load(spelled(value))} should be {bound}."
        assert err.value.where in ("command line", str(path))
    for value in inside(bound):
        section, _, last = key.rpartition(".")
        nested: Any = {last: yaml.safe_load(spelled(value))}
        for part in reversed(section.split(".") if section else []):
            nested = {part: nested}
        check_numbers({**about, **nested}, "x")


def spelled(value: float) -> str:
    special = {math.inf: ".inf", -math.inf: "-.inf"}
    return ".nan" if math.isnan(value) else special.get(value, repr(value))


def test_what_a_bound_says(tmp_path: Path):
    path = config(tmp_path)
    for override, said in {
        "sft.weight_decay=.nan": "sft.weight_decay = nan should be 0 to 1.",
        "ppo.total_episodes=0": "ppo.total_episodes = 0 should be 1 or more.",
        "reward.max_steps=0": "reward.max_steps = 0 should be 1 or more, or -1: as many as the epochs have.",
        "ppo.learning_rate=-1e-3": "ppo.learning_rate = -1e-3 should be in (0, 1].",
        "collect.temperature=0": "collect.temperature = 0 should be a number above 0.",
        "evaluate.best_of=[4, 1]": "evaluate.best_of = 1 should be 2 or more, or 0: off.",
        "collect.annotator_args.length_bias=.inf": "length_bias = inf should be a finite number.",
        "seed=-1": "seed = -1 should be 0 to 4294967295.",
        "evaluate.judges=[{llm: m, url: 'http://h', timeout: .nan}]": "judges[0].timeout = nan should be a number",
        "reward.test_sets={a: {dataset: d, limit: 0}}": "reward.test_sets.a.limit = 0 should be 1 or more.",
        "sft.lr_scheduler_kwargs={power: [.inf]}": "kwargs.power[0] = inf should be a finite number.",
        f"ppo.eval_steps='{'9' * 400}'": "should be a number above 0.",
    }.items():
        with pytest.raises(ConfigError) as err:
            load_config(path, [override])
        assert said in str(err.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sft.learning_rate=fast", "sft.learning_rate = 'fast' should be a number"),
        ("sft.max_steps=true", "sft.max_steps = True should be a whole number."),
        ("evaluate.best_of={}", "evaluate.best_of = {} should be a whole number or a list"),
        ("evaluate.best_of=[true]", "evaluate.best_of = [True] should be a whole number or a list."),
        ("task_args.corpus_size=two", "task_args.corpus_size = 'two' should be a whole number"),
        ("label.lease_minutes=[]", "label.lease_minutes = [] should be a number"),
    ],
)
def test_what_is_no_number(override: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigError) as err:
        load_config(config(tmp_path), [override])
    assert said in str(err.value)
