"""Decide which prompts and completions are in which split: train, select or test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.base.records import selection_bucket, split_of
from pipeline.base.stored_texts import in_order
from pipeline.tasks import Split, Task
from pipeline.tasks._pool import distinct_texts
from pipeline.workflow.sections.collect import CollectSection

Prompts = dict[str, Sequence[str]]
"""The prompts of each split."""
FEWEST_TO_SELECT = 4
"""Training prompts, below which none is kept for selection."""


def prompts_by_split(task: Task, options: CollectSection, seed: int) -> Prompts:
    """Those of the splits ``train``, ``select`` (where PPO is checked and its best policy chosen) and ``test``."""
    splits = train_and_select(distinct_texts(task.prompts("train", None, seed)), options.select_share)
    return {**splits, "test": distinct_texts(task.prompts("test", None, seed))}


def train_and_select(distinct: Sequence[str], share: float) -> Prompts:
    """Split distinct prompts in two by their hashes, at least one in each; fewer than 4 are all trained on."""
    if not share or len(distinct) < FEWEST_TO_SELECT:
        return {"train": distinct, "select": []}
    buckets = np.fromiter(map(selection_bucket, distinct), np.float64, len(distinct))
    kept = buckets < share
    first, last = int(buckets.argmin()), len(buckets) - 1 - int(buckets[::-1].argmax())
    kept[first], kept[last] = True, False
    return {
        "train": in_order(distinct, np.flatnonzero(~kept).astype(np.uint32)),
        "select": in_order(distinct, np.flatnonzero(kept).astype(np.uint32)),
    }


def side(prompt: str, completions: Sequence[str], options: CollectSection) -> str | None:
    """The split of completions that were not sampled here.

    Split by completion, texts of different splits are in none: training on them would show the reward model a text
    of the test split.
    """
    if options.split_by == "prompt":
        return split_of(prompt, options.test_share)
    sides = {split_of(c, options.test_share) for c in completions}
    return sides.pop() if len(sides) == 1 else None


def draw_prompts(task: Task, split: Split, n: int, seed: int, apart: set[str], round: int = 1) -> list[str]:
    """``n`` prompts in the task's order, without those in ``apart``; of a later round those that come next."""
    count = end = n * round
    while len(drawn := [p for p in task.prompts(split, count, seed) if p not in apart]) < end:
        count += end - len(drawn)
    return drawn[end - n : end]
