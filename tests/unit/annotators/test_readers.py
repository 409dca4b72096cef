"""Simulated readers: who sees what, how often they like it, and that it repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pipeline.annotators import Context, GoldScores, Readers, load_annotator
from pipeline.base.errors import ConfigError

TEXTS = [("prompt", f" text {i}") for i in range(3000)]


def always(score: float) -> GoldScores:
    return lambda prompts, completions: [score] * len(completions)


def no_gold(prompts: Sequence[str], completions: Sequence[str]) -> None:
    return None


def readers(tastes: Mapping[str, GoldScores], seed: int = 0, **options: Any) -> Readers:
    annotator = load_annotator("readers", options, Context(no_gold, seed, "configs/x.yaml", readers=tastes))
    assert isinstance(annotator, Readers)
    return annotator


def test_each_text_is_seen_by_as_many_as_asked_and_readers_see_alike_many() -> None:
    tastes = {name: always(0) for name in "abc"}
    opinions = readers(tastes, each=2).opinions(TEXTS)
    assert [o.number for o in opinions] == sorted(2 * [*range(3000)])
    assert all(len({o.annotator for o in opinions if o.number == i}) == 2 for i in range(50))
    assert all(1900 < sum(o.annotator == name for o in opinions) < 2100 for name in "abc")


@pytest.mark.parametrize(
    ("score", "options", "share"),
    [
        (0.0, {}, 0.5),
        (0.25, {"flip": 0}, 0.731),
        (0.25, {"flip": 0.2}, 0.639),
        (0.5, {"threshold": 0.25, "flip": 0}, 0.731),
        (0.1, {"temperature": 0, "flip": 0}, 1.0),
        (-0.1, {"temperature": 0, "flip": 0.05}, 0.05),
    ],
)
def test_likes_follow_the_score(score: float, options: dict[str, Any], share: float) -> None:
    opinions = readers({"a": always(score)}, **options).opinions(TEXTS)
    assert sum(o.liked for o in opinions) / 3000 == pytest.approx(share, abs=0.035)  # four standard errors


def test_opinions_repeat_and_depend_on_the_text_the_reader_and_the_seed_alone() -> None:
    tastes = {"a": always(0.0), "b": always(0.0)}
    opinions = readers(tastes, each=2).opinions(TEXTS)
    assert readers(tastes, each=2).opinions(TEXTS) == opinions
    # Mutation caught: one stream of random numbers, which other texts before would shift.
    last = {(o.annotator, o.liked) for o in opinions if o.number == 2999}
    assert {(o.annotator, o.liked) for o in readers(tastes, each=2).opinions(TEXTS[-1:])} == last
    assert readers(tastes, seed=1, each=2).opinions(TEXTS) != opinions
    a, b = ([o.liked for o in opinions if o.annotator == name] for name in "ab")
    assert a != b


@pytest.mark.parametrize(
    ("tastes", "options", "said"),
    [
        ({}, {}, "the task has no simulated readers. Choose a task with readers"),
        ({"a": always(0)}, {"each": 2}, "each = 2 should be 1 to 1"),
        ({"a": always(0)}, {"each": 0}, "each = 0 should be 1 to 1"),
    ],
)
def test_what_cannot_be(tastes: Mapping[str, GoldScores], options: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        readers(tastes, **options)
