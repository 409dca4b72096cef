"""Headlines of local news, read by simulated people of different tastes. Needs no download.

The grammar is :mod:`pipeline.tasks.grammars.news`, the tastes are :mod:`pipeline.tasks.truths.news_tastes`.
The gold score is what a reader thinks of a headline, which no stage learns from; without a reader the mean of all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import reader_of, split_of
from pipeline.tasks.grammars.news import all_prompts, article_line
from pipeline.tasks.truths.news_tastes import TASTES, mean_scores, taste_scores


@dataclass
class Task:
    """Headlines; a prompt says where one will stand, and nothing of what it is about.

    Args:
        corpus_size: texts to pretrain on.
        completion_tokens: most tokens in a completion.
        test_share: share of the prompts that are test prompts.
        reader: whose taste the gold score is, as versions call them; by default the mean of all.
    """

    corpus_size: int = 12_000
    completion_tokens: int = 40
    test_share: float = 0.1
    reader: str | None = None
    gold_name: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.gold_name = "mean of the readers' tastes (-1..1)" if self.reader is None else "their taste (-1..1)"
        if self.reader is not None and self.reader not in map(reader_of, TASTES):
            names = ", ".join(f"{reader_of(name)} ({name})" for name in TASTES)
            raise ConfigError("task_args.reader", f"{self.reader} is no simulated reader.", f"There are: {names}.")

    @property
    def readers(self) -> Mapping[str, Callable[[Sequence[str], Sequence[str]], list[float]]]:
        """How much each simulated reader likes texts, by the name they vote under."""
        return {name: partial(taste_scores, taste) for name, taste in TASTES.items()}

    def corpus(self, seed: int) -> list[str]:
        rng = random.Random(f"news corpus {seed}")
        return [article_line(rng) for _ in range(self.corpus_size)]

    def prompts(self, split: Literal["train", "test"], n: int | None, seed: int) -> Sequence[str]:
        pool = [p for p in all_prompts() if split_of(p, self.test_share) == split]
        if not pool:
            raise DataError(f"task news, split {split}", "has no prompt.", "Change task_args.test_share.")
        random.Random(f"news prompts {split} {seed}").shuffle(pool)
        return pool if n is None else (pool * -(-n // len(pool)))[:n]

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """What the reader thinks of each headline, or all of them on average; -1 for what is none."""
        if self.reader is None:
            return mean_scores(prompts, completions)
        taste = next(taste for name, taste in TASTES.items() if reader_of(name) == self.reader)
        return taste_scores(taste, prompts, completions)
