"""A pool of distinct prompts, split into train and test and sampled by seed; as many as the disk holds."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.key_numbers import KeyNumbers
from pipeline.base.records import bucket, short_hash, split_of
from pipeline.base.stored_texts import SelectedTexts, StoredTexts, in_order
from pipeline.tasks import Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptPool:
    """The distinct prompts of two non-empty splits, disjoint unless ``shared``."""

    train: Sequence[str]
    test: Sequence[str]

    @property
    def shared(self) -> bool:
        """Whether both splits have the same prompt, and only completions are split."""
        return len(self.train) == len(self.test) == 1 and self.train[0] == self.test[0]

    def draw(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """``n`` prompts in an order that depends on ``seed``; a smaller ``n`` gives a prefix.

        None is every prompt once. More prompts than the pool has are drawn in further orders of all of them.
        """
        prompts = self.train if split == "train" else self.test
        wanted = len(prompts) if n is None else n
        orders = [_order(prompts, f"draw:{seed}:{cycle}") for cycle in range(-(-wanted // len(prompts)))]
        return in_order(prompts, np.concatenate(orders)[:wanted]) if orders else []


def _order(prompts: Sequence[str], salt: str) -> np.ndarray:
    """The places of the prompts, by the hash of each."""
    buckets = np.fromiter((bucket(prompt, salt) for prompt in prompts), np.float64, len(prompts))
    return np.argsort(buckets, kind="stable").astype(np.uint32)


def distinct_texts(texts: Sequence[str]) -> Sequence[str]:
    """Each text once, in the order of their first occurrences."""
    if isinstance(texts, StoredTexts | SelectedTexts) and texts.distinct:
        return texts
    seen = KeyNumbers()
    firsts = array("I", (place for place, text in enumerate(texts) if seen.add(short_hash(text))[1]))
    return texts if len(firsts) == len(texts) else in_order(texts, np.asarray(firsts))


def _stored_once(texts: Iterable[str], stored: StoredTexts, seen: KeyNumbers) -> int:
    """Append the texts that are not there yet; returns how many are there then."""
    for text in texts:
        if seen.add(short_hash(text))[1]:
            stored.append(text)
    return len(stored)


def pool_by_hash(prompts: Iterable[str], test_share: float, dataset: str, *, alone: bool = False) -> PromptPool:
    """Split by each prompt's hash.

    Args:
        alone: allow a single prompt, which is then in both splits, and log it.
    Raises:
        DataError: fewer than 2 distinct prompts (none, if ``alone``), or a split that hashing leaves empty.
    """
    distinct = StoredTexts(distinct=True)
    _stored_once(prompts, distinct, KeyNumbers())
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
    sides = {"train": array("I"), "test": array("I")}
    for place, prompt in enumerate(distinct):
        sides[split_of(prompt, test_share)].append(place)
    for split, side in sides.items():
        if not side:
            what = f"has {len(distinct)} distinct prompts; with test_share {test_share} none falls into {split}."
            change = "Raise" if split == "test" else "Lower"
            raise DataError(dataset, what, f"{change} task_args.test_share, or add prompts.")
    return PromptPool(distinct.at(sides["train"]), distinct.at(sides["test"]))


def pool_by_name(train: Iterable[str], test: Iterable[str], dataset: str) -> PromptPool:
    """The data set's own splits. A prompt in both stays in train only, so that test is unseen.

    Raises:
        DataError: a split without prompts, or a test split that is wholly in train.
    """
    both, seen = StoredTexts(distinct=True), KeyNumbers()
    end = _stored_once(train, both, seen)
    if _stored_once(test, both, seen) == end or not end:
        what = "every prompt of the test split is in train." if end else "the train split has no prompt."
        raise DataError(dataset, what, "Name another test split, or leave it out to split by test_share.")
    places = np.arange(len(both), dtype=np.uint32)
    return PromptPool(both.at(places[:end]), both.at(places[end:]))


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 40 else prompt[:40] + "...")
