"""Distinct prompts cut into train and test, and drawn from by seed. What a prompt is belongs to each task."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.base.errors import DataError
from pipeline.base.records import bucket, split_of
from pipeline.tasks import Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptPool:
    """The distinct prompts of both splits, neither of them empty; with none in common unless ``shared``."""

    train: list[str]
    test: list[str]

    @property
    def shared(self) -> bool:
        """Whether both splits have the same prompts: it is texts, then, that are on one side of the split only."""
        return self.train == self.test

    def draw(self, split: Split, n: int | None, seed: int) -> list[str]:
        """``n`` prompts in an order that depends on ``seed``; fewer are the start of more.

        None is every prompt once. More than there are repeats them: all once, then all again in another order.
        """
        there = self.train if split == "train" else self.test
        wanted = len(there) if n is None else n
        drawn: list[str] = []
        cycle = 0
        while len(drawn) < wanted:
            salt = f"draw:{seed}:{cycle}"
            drawn += sorted(there, key=lambda prompt: bucket(prompt, salt))
            cycle += 1
        return drawn[:wanted]


def pool_by_hash(prompts: Iterable[str], test_share: float, dataset: str, *, alone: bool = False) -> PromptPool:
    """Split by each prompt's hash.

    Args:
        alone: a set's only prompt is in both splits, which is logged.
    Raises:
        DataError: fewer than 2 distinct prompts (none, if ``alone``), or a split that hashing leaves empty.
    """
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < (1 if alone else 2):
        there = f"one distinct prompt ({_short(distinct[0])})" if distinct else "no prompt"
        mend = "At least 2 distinct prompts are needed, one to train on and one to test on."
        raise DataError(dataset, f"holds {there}.", mend)
    if len(distinct) == 1:
        log.warning(
            "%s: all rows share one prompt (%s): it is sampled from in training and in the test; of preferences, "
            "collect.split_by=completion holds out texts instead.",
            dataset,
            _short(distinct[0]),
        )
        return PromptPool(distinct, distinct)
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for prompt in distinct:
        sides[split_of(prompt, test_share)].append(prompt)
    for split, there in sides.items():
        if not there:
            raise DataError(
                dataset,
                f"holds {len(distinct)} distinct prompts; with test_share {test_share} none falls into {split}.",
                f"{'Raise' if split == 'test' else 'Lower'} task_args.test_share, or add prompts.",
            )
    return PromptPool(sides["train"], sides["test"])


def pool_by_name(train: Iterable[str], test: Iterable[str], dataset: str) -> PromptPool:
    """The splits somebody else made. A prompt in both stays in train, so that test is unseen.

    Raises:
        DataError: a split without prompts, or a test split that is wholly in train.
    """
    seen = dict.fromkeys(train)
    unseen = [prompt for prompt in dict.fromkeys(test) if prompt not in seen]
    if not seen or not unseen:
        fact = "the train split holds no prompt." if not seen else "every prompt of the test split is in train."
        raise DataError(dataset, fact, "Name another test split, or leave it out to split by test_share.")
    return PromptPool(list(seen), unseen)


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 40 else prompt[:40] + "...")
