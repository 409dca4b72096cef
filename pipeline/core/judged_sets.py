"""Where a set of judged rows is and how to read it: the options that all who read one have in common.

What the formats are is left to :mod:`pipeline.core.formats`, what becomes of the rows to who asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.core.formats import COLUMNS, Format, Reading, Render, detect_format, split_columns
from pipeline.core.rows import Row, located_rows


def check_joined(columns: Mapping[str, str | list[str]]) -> None:
    """Check that only a prompt is made of several columns.

    Raises:
        ValueError: another name is mapped to several, or the prompt to none.
    """
    for ours, theirs in columns.items():
        if not isinstance(theirs, str) and (ours != "prompt" or not theirs):
            raise ValueError(
                f"columns.{ours} = {theirs!r}: only prompt can be joined of several columns, such as "
                "{prompt: [context, question]}."
            )


@dataclass(frozen=True)
class JudgedSet:
    """Where the rows are and how to read them.

    Args:
        dataset: a file, a directory or a Hub id, see :func:`pipeline.core.rows.located_rows`.
        format: told from the first row by default.
        columns: ``{our name: their name}``; the names are :data:`pipeline.core.formats.COLUMNS`. In exports of
            Argilla and Label Studio theirs are names of fields, and ``choice`` is the question. ``prompt`` may be
            a list of theirs, whose texts are joined with a blank line; ``system`` is a turn before the
            conversation, and before a prompt of plain text a text with a blank line after it.
        limit: read no more than this many.
        chat_template: a tokenizer (directory or Hub id) whose chat template writes conversations out.
        pairs: of several completions with scores or ranks: every pair, or only the best against the worst one.
        min_score_ratio: of SHP, leave out pairs whose ``score_ratio`` is lower.
    """

    dataset: str
    format: Format = "auto"
    columns: dict[str, str | list[str]] = field(default_factory=dict[str, "str | list[str]"])
    split: str | None = None
    subset: str | None = None
    revision: str | None = None
    limit: int | None = None
    chat_template: str | None = None
    pairs: Literal["all", "best_worst"] = "all"
    min_score_ratio: float | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(COLUMNS))
        if unknown:
            raise ValueError(
                f'columns names "{unknown[0]}", which is none of ours: {", ".join(COLUMNS)}. '
                "It is written {ours: theirs}."
            )
        check_joined(self.columns)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit = {self.limit} should be 1 or more.")

    def reading(self, render: Render, salt: str = "") -> Reading:
        """How its rows are read, see :class:`pipeline.core.formats.Reading`."""
        columns, joined = split_columns(self.columns)
        return Reading(
            render, columns, salt, self.pairs, self.min_score_ratio, joined, lists_are_texts=self.format != "auto"
        )

    def rows(self, where: str) -> tuple[Format, Row, str, Iterator[tuple[str, Row]]]:
        """(format, first row, its place, (place, row) of every row, the first one too).

        Args:
            where: who asked, for messages.
        Raises:
            DataError: nothing to read, or a format that cannot be told.
        """
        located = located_rows(
            self.dataset, split=self.split, subset=self.subset, revision=self.revision, where=where
        )
        place, first = next(located)
        found = detect_format(first, place, self.format, self.columns)
        return found, first, place, itertools.chain([(place, first)], located)
