"""Tests of the task new_task. Run: python -m unittest my.test_new_task (pytest runs them too)."""

from __future__ import annotations

import unittest

from pipeline.tasks import Task, load_task
from pipeline.workflow.config import load_config


def make_task() -> Task:
    """The task with the options that its config gives."""
    config = load_config("configs/new_task.yaml")
    return load_task(config.task, config.task_args, str(config.path))


class NewTask(unittest.TestCase):
    """What every task has to hold, and what this one's gold score is to say of chosen texts."""

    def test_no_prompt_is_trained_on_and_tested_on(self) -> None:
        train, test = make_task().prompts("train", None, 0), make_task().prompts("test", None, 0)
        assert train
        assert test
        assert not set(train) & set(test)

    def test_the_same_seed_gives_the_same_prompts_and_texts(self) -> None:
        assert make_task().prompts("train", 100, 1) == make_task().prompts("train", 100, 1)
        assert make_task().corpus(1) == make_task().corpus(1)

    def test_the_gold_score_of_texts_that_were_judged_by_hand(self) -> None:
        # 5. Your own: good texts, bad ones, and the worst ones that could pass.
        judged = {
            " for small kitchens.": 1.0,
            " in three colours.": 0.0,
            " for small kitchens": 0.0,  # breaks off
            " for small kitchens for small kitchens.": 0.0,  # says it twice
            "": 0.0,
        }
        prompts = make_task().prompts("test", len(judged), 0)
        assert make_task().gold_scores(prompts, list(judged)) == list(judged.values())


if __name__ == "__main__":
    unittest.main()
