"""The embedded default task: short product and film reviews from a grammar. Needs no download.

The grammar is in :mod:`pipeline.tasks.grammars.reviews`, the gold score in :mod:`pipeline.tasks.truths.reviews`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.base.errors import DataError
from pipeline.base.records import split_of
from pipeline.tasks._vader import VADER_NAME, vader_scores
from pipeline.tasks.grammars.reviews import all_prompts, review
from pipeline.tasks.truths.reviews import TRUTH_NAME, truths


@dataclass
class Task:
    """Short reviews; prompts are openings that stop before the opinion.

    Args:
        corpus_size: texts to pretrain on.
        completion_tokens: most tokens in a completion.
        test_share: share of the prompts that are test prompts.
        parts_again: whether a review may mention one part twice.
        gold: ``truth`` parses the text; ``vader`` uses a lexicon's sentiment of the completion as the truth, which
            shows what a judge with the annotator's own blind spots misses (configs/collapsed.yaml).
    """

    corpus_size: int = 12_000
    completion_tokens: int = 32
    test_share: float = 0.1
    parts_again: bool = False
    gold: Literal["truth", "vader"] = "truth"
    gold_name: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.gold_name = TRUTH_NAME if self.gold == "truth" else VADER_NAME

    def corpus(self, seed: int) -> list[str]:
        rng = random.Random(f"corpus {seed}")
        return [review(rng, self.parts_again) for _ in range(self.corpus_size)]

    def written(self, seed: int) -> list[str]:
        """As many further reviews, which no base is trained on."""
        rng = random.Random(f"written {seed}")
        return [review(rng, self.parts_again) for _ in range(self.corpus_size)]

    def prompts(self, split: Literal["train", "test"], n: int | None, seed: int) -> Sequence[str]:
        pool = [p for p in all_prompts() if split_of(p, self.test_share) == split]
        if not pool:
            raise DataError(f"task reviews, split {split}", "has no prompt.", "Change task_args.test_share.")
        rng = random.Random(f"prompts {split} {seed}")
        rng.shuffle(pool)
        return pool if n is None else (pool * -(-n // len(pool)))[:n]

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """See :func:`pipeline.tasks.truths.reviews.truth`; with ``gold: vader`` VADER's score."""
        return truths(prompts, completions) if self.gold == "truth" else vader_scores(completions)
