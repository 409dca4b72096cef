"""A task of any set of texts: continue the opening words. (For a column of prompts see prompts.py.)"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.process import watched
from pipeline.base.records import bucket, split_of
from pipeline.base.stored_texts import StoredTexts
from pipeline.formats.cells import no_list
from pipeline.formats.judged import Refused, absent
from pipeline.sources.row_sources import located_rows, require_columns
from pipeline.tasks import Split
from pipeline.tasks._pool import PromptPool, pool_by_hash, pool_by_name
from pipeline.tasks._vader import VADER_NAME, vader_scores
from pipeline.texts.words import opening, units


@dataclass
class Task:
    """Openings of real texts as prompts, the texts of the train side as corpus.

    Args:
        dataset: a file, a directory, a Hub id, or a URL of files (``s3://``).
        text_column: the column of the text.
        split: the split to read; by default train, or the only one.
        subset: of the dataset, its configuration on the Hub or a directory.
        revision: of a Hub id.
        test_split: the split of the test prompts; by default they are split off by a hash of the prompt.
        prompt_words: opening words of a text that are its prompt; in scripts without spaces, characters.
        completion_tokens: most tokens in a completion.
        gold: ``vader`` is a lexicon's sentiment (VADER), not the truth, of prompt and
            completion together.
        min_words: shorter texts are left out; counted in the same way.
        max_texts: use this many, a uniform sample by hash (sets are often sorted by label).
        test_share: share of the prompts that are test prompts, without ``test_split``.
    """

    dataset: str
    text_column: str = "text"
    split: str | None = None
    test_split: str | None = None
    subset: str | None = None
    revision: str | None = None
    prompt_words: int = 4
    completion_tokens: int = 24
    gold: Literal["vader", "none"] = "none"
    min_words: int = 8
    max_texts: int | None = None
    test_share: float = 0.1
    gold_name: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.min_words <= self.prompt_words:
            raise ValueError(
                f"min_words = {self.min_words} should be more than prompt_words = {self.prompt_words}: "
                "a text as short as its prompt has nothing to continue with."
            )
        self.gold_name = VADER_NAME if self.gold == "vader" else None

    def corpus(self, seed: int) -> Sequence[str]:
        """The texts whose prompt is a train prompt, in the order of the set.

        Raises:
            DataError: see :meth:`prompts`.
        """
        texts, _ = self._train_texts, self._pool  # which refuses a split without prompts
        if self.test_split is not None:
            return texts
        kept = (split_of(self._opening(text), self.test_share) == "train" for text in texts)
        return texts.at(np.flatnonzero(np.fromiter(kept, bool, len(texts))).astype(np.uint32))

    def written(self, seed: int) -> Sequence[str]:
        """All texts, those of the test prompts too.

        Raises:
            DataError: see :meth:`prompts`.
        """
        if self.test_split is None:
            return self._train_texts
        return StoredTexts(itertools.chain(self._train_texts, self._read(self.test_split)))

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`.

        Raises:
            DataError: the set cannot be read, has no such column, or leaves a split without prompts.
        """
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float] | None:
        """VADER's compound score of each text, or None without a gold score."""
        if self.gold == "none":
            return None
        return vader_scores(p + c for p, c in zip(prompts, completions, strict=True))

    @cached_property
    def _train_texts(self) -> StoredTexts:
        return self._read(self.split)

    @cached_property
    def _pool(self) -> PromptPool:
        openings = (self._opening(text) for text in self._train_texts)
        if self.test_split is None:
            return pool_by_hash(openings, self.test_share, self.dataset)
        return pool_by_name(openings, map(self._opening, self._read(self.test_split)), self.dataset)

    def _opening(self, text: str) -> str:
        # White space between words is kept: a line break in a poem is part of the prompt.
        return opening(text, self.prompt_words)

    def _read(self, split: str | None) -> StoredTexts:
        texts = self._texts(split)
        if self.max_texts is not None:
            texts = heapq.nsmallest(self.max_texts, texts, key=lambda text: bucket(text, "max_texts"))
        kept = StoredTexts(texts)
        if not kept:
            remedy = "Lower task_args.min_words (and prompt_words), or check task_args.text_column."
            raise DataError(self.dataset, f"no text has {self.min_words} words or more.", remedy)
        return kept

    def _texts(self, split: str | None) -> Iterator[str]:
        column = self.text_column
        rows = located_rows(
            self.dataset, split=split, subset=self.subset, revision=self.revision, where="task_args.dataset"
        )
        for place, row in watched(rows, "task", f"rows of {self.dataset} read"):
            require_columns(row, [column], place, "Set task_args.text_column to one of them.")
            text = row[column]
            if absent(text):
                continue
            if not isinstance(text, str):
                what = f'"{column}" is {type(text).__name__}, not text.'
                raise DataError(place, what, "Set task_args.text_column.")
            try:
                no_list(text, column)
            except Refused as refused:
                raise DataError(place, f"{refused}.", "Export JSON lines, or set task_args.text_column.") from None
            text = text.strip()
            if len(units(text)) >= self.min_words:
                yield text
