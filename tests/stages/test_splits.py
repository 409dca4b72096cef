"""Which prompts train, select and test."""

from __future__ import annotations

import pytest

from pipeline.base.records import selection_bucket
from pipeline.stages.collect.prompt_splits import draw_prompts, prompts_by_split, train_and_select
from pipeline.tasks.reviews import Task
from pipeline.workflow.sections.collect import CollectSection

PROMPTS = [f"prompt {i}" for i in range(500)]


# Catches: a salt shared with the cut into train and test, a side chosen by order instead of by hash.
def test_a_prompt_is_on_one_side_whatever_else_there_is() -> None:
    whole, half = (train_and_select(prompts, 0.2) for prompts in (PROMPTS, PROMPTS[::2]))
    assert set(half["select"]) == set(whole["select"]) & set(PROMPTS[::2])
    assert len(whole["select"]) == pytest.approx(100, abs=30)
    assert [*whole["train"], *whole["select"]] != PROMPTS
    assert sorted([*whole["train"], *whole["select"]]) == sorted(PROMPTS)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_neither_side_is_left_empty(share: float) -> None:
    for n in (4, 5, 9):
        cut = train_and_select(PROMPTS[:n], share)
        assert cut["train"]
        assert cut["select"]
    assert min(PROMPTS[:5], key=selection_bucket) in train_and_select(PROMPTS[:5], 0.001)["select"]


def test_of_few_prompts_and_without_a_share_all_are_trained_on() -> None:
    assert train_and_select(PROMPTS[:3], 0.5) == {"train": PROMPTS[:3], "select": []}
    assert train_and_select(PROMPTS, 0.0)["select"] == []


def test_drawn_prompts_keep_the_tasks_order_and_number() -> None:
    task = Task()
    apart = set(prompts_by_split(task, CollectSection(select_share=0.5), 0)["select"])
    drawn = draw_prompts(task, "train", 5000, 0, apart)
    assert len(drawn) == 5000
    assert not apart & set(drawn)
    assert drawn[:40] == draw_prompts(task, "train", 40, 0, apart)
    everything = task.prompts("train", 200, 0)
    assert [p for p in everything if p not in apart] == drawn[: sum(p not in apart for p in everything)]
