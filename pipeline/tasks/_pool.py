"""A pool of distinct prompts, split into train and test and sampled by seed."""

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
    """The distinct prompts of two non-empty splits, disjoint unless ``shared``."""

    train: list[str]
    test: list[str]

    @property
    def shared(self) -> bool:
        """Whether both splits have the same prompt, and only completions are split."""
        return self.train == self.test

    def draw(self, split: Split, n: int | None, seed: int) -> list[str]:
        """``n`` prompts in an order that depends on ``seed``; a smaller ``n`` gives a prefix.

        None is every prompt once. More prompts than the pool has are drawn in further orders of all of them.
        """
        prompts = self.train if split == "train" else self.test
        wanted = len(prompts) if n is None else n
        drawn: list[str] = []
        for cycle in range(-(-wanted // len(prompts))):
            salt = f"draw:{seed}:{cycle}"
            drawn += sorted(prompts, key=lambda prompt: bucket(prompt, salt))
        return drawn[:wanted]


def pool_by_hash(prompts: Iterable[str], test_share: float, dataset: str, *, alone: bool = False) -> PromptPool:
    """Split by each prompt's hash.

    Args:
        alone: allow a single prompt, which is then in both splits, and log it.
    Raises:
        DataError: fewer than 2 distinct prompts (none, if ``alone``), or a split that hashing leaves empty.
    """
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < (1 if alone else 2):
        number = f"one distinct prompt ({_short(distinct[0])})" if distinct else "no prompt"
        remedy = "At least 2 distinct prompts are needed, one to train on and one to test on."
        raise DataError(dataset, f"has {number}.", remedy)
    if len(distinct) == 1:
        log.warning(
            "%s: all rows share one prompt (%s): training and test sample from it; for preferences, "
            "collect.split_by=completion holds out completions instead.",
            dataset,
            _short(distinct[0]),
        )
        return PromptPool(distinct, distinct)
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for prompt in distinct:
        sides[split_of(prompt, test_share)].append(prompt)
    for split, side in sides.items():
        if not side:
            what = f"has {len(distinct)} distinct prompts; with test_share {test_share} none falls into {split}."
            change = "Raise" if split == "test" else "Lower"
            raise DataError(dataset, what, f"{change} task_args.test_share, or add prompts.")
    return PromptPool(sides["train"], sides["test"])


def pool_by_name(train: Iterable[str], test: Iterable[str], dataset: str) -> PromptPool:
    """The data set's own splits. A prompt in both stays in train only, so that test is unseen.

    Raises:
        DataError: a split without prompts, or a test split that is wholly in train.
    """
    seen = dict.fromkeys(train)
    unseen = [prompt for prompt in dict.fromkeys(test) if prompt not in seen]
    if not seen or not unseen:
        what = "the train split has no prompt." if not seen else "every prompt of the test split is in train."
        raise DataError(dataset, what, "Name another test split, or leave it out to split by test_share.")
    return PromptPool(list(seen), unseen)


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 40 else prompt[:40] + "...")
