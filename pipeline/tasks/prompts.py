"""A task of existing prompts: a column of prompts, or the prompts of a preference set.

For a gold score of your own write a task (docs/plugins.md).
"""

from __future__ import annotations

import itertools
import logging
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.process import watched
from pipeline.base.records import split_of
from pipeline.base.stored_texts import StoredTexts
from pipeline.formats.detect import (
    Format,
    JudgedRow,
    Reading,
    Render,
    Unusable,
    detect_format,
    our_names,
    parse_prompt,
    parse_rows,
    split_columns,
)
from pipeline.formats.judged import Refused
from pipeline.formats.reading import plain, without_repeat
from pipeline.sources.row_sources import located_rows, require_columns
from pipeline.tasks import Split
from pipeline.tasks._chat import chat_render
from pipeline.tasks._pool import PromptPool, pool_by_hash, pool_by_name
from pipeline.tasks._vader import VADER_NAME, vader_scores

log = logging.getLogger(__name__)

_SIDES = ("chosen", "rejected")

Example = tuple[str, str | None]
"""A prompt and, where there is a corpus, its full text."""


@dataclass
class Task:
    """Unchanged prompts; no gold score unless ``gold`` is ``vader``.

    Args:
        dataset: a file, a directory, a Hub id, or a URL of files (``s3://``).
        prompt_column: a column of texts or of lists of messages; or several columns of texts, which are joined
            with a blank line.
        format: ``auto`` reads ``prompt_column`` where it exists, else a preference set without it (HH-RLHF,
            conversations); a named format reads the prompts of preference rows and checks them.
        corpus_column: the continuation of the prompt, such as ``chosen``; both together are a text of the corpus.
        completion_tokens: most tokens in a completion.
        gold: ``vader`` is a lexicon's sentiment (VADER), not the truth, of the completion
            alone (a prompt may be a long conversation).
        test_share: share of the prompts that are test prompts, without ``test_split``.
        split: the split to read; by default train, or the only one.
        subset: of the dataset, its configuration on the Hub or a directory.
        revision: of a Hub id.
        test_split: the split of the test prompts; by default they are split off by a hash of the prompt.
        limit: read only the first ``limit`` rows.
        chat_template: ``base``, or a tokenizer (directory or Hub id), whose chat template formats conversations.
        renderer: how pages show the texts: ``abc`` for tunes, ``shapes`` for drawings; as texts by default.
    """

    dataset: str
    prompt_column: str | list[str] = "prompt"
    format: Format = "auto"
    corpus_column: str | None = None
    completion_tokens: int = 64
    gold: Literal["vader", "none"] = "none"
    test_share: float = 0.1
    split: str | None = None
    test_split: str | None = None
    subset: str | None = None
    revision: str | None = None
    limit: int | None = None
    chat_template: str | None = None
    renderer: Literal["abc", "shapes"] | None = None
    gold_name: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.gold_name = VADER_NAME if self.gold == "vader" else None

    def corpus(self, seed: int) -> Sequence[str] | None:
        """Prompt and ``corpus_column`` of the train side, in the order of the set; None without such a column.

        Where all rows share one prompt, completions are split by their hash, as by ``collect.split_by=completion``
        with the same share, so that texts held out there are not in the corpus.

        Raises:
            DataError: see :meth:`prompts`.
        """
        if self.corpus_column is None:
            return None
        pool, texts, lengths = self._whole
        if self.test_split is not None:
            return texts
        if pool.shared:
            parts = (text.removeprefix(pool.train[0]) for text in texts)
        else:
            parts = (text[:length] for text, length in zip(texts, lengths, strict=True))
        of_train = (split_of(part, self.test_share) == "train" for part in parts)
        kept = texts.at(np.flatnonzero(np.fromiter(of_train, bool, len(texts))).astype(np.uint32))
        return None if pool.shared and not kept else kept

    def written(self, seed: int) -> Sequence[str] | None:
        """Prompt and ``corpus_column`` of all rows, those of the test prompts too; None without such a column.

        Raises:
            DataError: see :meth:`prompts`.
        """
        if self.corpus_column is None:
            return None
        texts, _ = self._whole[1:]
        if self.test_split is None:
            return texts
        test = (text for _, text in self._read(self.test_split) if text is not None)
        return StoredTexts(itertools.chain(texts, test))

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`.

        Raises:
            DataError: the set cannot be read, has no such column, or leaves a split without prompts.
        """
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float] | None:
        """VADER's compound score of each completion, or None without a gold score."""
        return None if self.gold == "none" else vader_scores(completions)

    @cached_property
    def _render(self) -> Render:
        return chat_render(self.chat_template)

    @cached_property
    def _pool(self) -> PromptPool:
        # Who asks for the texts first reads the set once; who never does, as collect, keeps none of them.
        if "_whole" in vars(self):
            return self._whole[0]
        return self._pool_of(prompt for prompt, _ in self._read(self.split))

    @cached_property
    def _whole(self) -> tuple[PromptPool, StoredTexts, array[int]]:
        """The prompts; the texts of ``split``; the length of each text's prompt, in characters."""
        texts, lengths = StoredTexts(), array("I")

        def prompts() -> Iterator[str]:
            for prompt, text in self._read(self.split):
                if text is not None:
                    texts.append(text)
                    lengths.append(len(prompt))
                yield prompt

        return self._pool_of(prompts()), texts, lengths

    def _pool_of(self, train: Iterator[str]) -> PromptPool:
        if self.test_split is None:
            return pool_by_hash(train, self.test_share, self.dataset, alone=True)
        return pool_by_name(train, (prompt for prompt, _ in self._read(self.test_split)), self.dataset)

    def _read(self, split: str | None) -> Iterator[Example]:
        """Examples of one split. Rows without a usable prompt are skipped and logged with the reasons."""
        rows = located_rows(
            self.dataset, split=split, subset=self.subset, revision=self.revision, where="task_args.dataset"
        )
        skipped = Counter[str]()
        how = self._reading()
        read = 0
        parse: Callable[[dict[str, Any], str], Example | Unusable] | None = None
        for place, row in itertools.islice(watched(rows, "task", f"rows of {self.dataset} read"), self.limit):
            parse = parse or self._parser(row, place, how)
            read += 1
            example = parse(row, place)
            if isinstance(example, Unusable):
                skipped[example.reason] += 1
            else:
                yield example
        for line in how.notices.lines():
            log.warning("%s: %s", self.dataset, line)
        if skipped:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in skipped.most_common())
            summary = f"{skipped.total()} of {read} rows have no usable prompt: {reasons}."
            if skipped.total() == read:
                raise DataError(self.dataset, summary, "Check task_args.prompt_column and task_args.format.")
            log.warning("%s: %s", self.dataset, summary)

    def _parser(
        self, first: dict[str, Any], place: str, how: Reading
    ) -> Callable[[dict[str, Any], str], Example | Unusable]:
        if self.corpus_column is not None:
            require_columns(first, [self.corpus_column], place, "Set task_args.corpus_column to one of them.")
        preferences = "chosen" in first and "rejected" in first
        of_side = self.corpus_column in ("chosen", "rejected")
        names = [self.prompt_column] if isinstance(self.prompt_column, str) else self.prompt_column
        if self.format == "auto" and not (preferences and (of_side or any(name not in first for name in names))):
            require_columns(first, names, place, "Set task_args.prompt_column to one of them.")
            used = {*names, *(_SIDES if preferences else ())}
            return lambda row, place: self._plain(row, how, used)
        if self.corpus_column is not None and not of_side:
            what = f'corpus_column "{self.corpus_column}" does not fit preference rows.'
            raise DataError(place, what, "Set task_args.corpus_column: chosen")
        columns = {our: name for our, name in self._columns.items() if not isinstance(name, str) or name in first}
        format = detect_format(first, place, self.format, columns)
        return lambda row, place: self._of_preference(row, format, place, how)

    def _plain(self, row: dict[str, Any], how: Reading, used: set[str]) -> Example | Unusable:
        how.notices.columns(row, used | ({self.corpus_column} if self.corpus_column else set()))
        try:
            prompt = parse_prompt(our_names(row, how)[0].get("prompt"), how.render)
            if isinstance(prompt, Unusable):
                return prompt
            if self.corpus_column is None:
                return prompt, None
            rest = plain(row.get(self.corpus_column), self.corpus_column, how)
            return prompt, prompt + without_repeat(prompt, [rest], how)[0]
        except Refused as refused:
            return refused.unusable

    def _of_preference(self, row: dict[str, Any], format: Format, place: str, how: Reading) -> Example | Unusable:
        parsed_rows = parse_rows(row, format, place, how)
        parsed = next((r for r in parsed_rows if isinstance(r, JudgedRow)), parsed_rows[0])
        if isinstance(parsed, Unusable):
            return parsed
        if self.corpus_column is None:
            return parsed.prompt, None
        completion = parsed.chosen if self.corpus_column == "chosen" else parsed.rejected
        return parsed.prompt, parsed.prompt + completion

    @property
    def _columns(self) -> dict[str, str | list[str]]:
        return {} if self.prompt_column == "prompt" else {"prompt": self.prompt_column}

    def _reading(self) -> Reading:
        columns, joined = split_columns(self._columns)
        return Reading(self._render, columns, joined=joined, lists_are_texts=self.format != "auto")
