"""Where a set of judged rows is and how to read it: the options that all who read one have in common.

What the formats are is left to :mod:`pipeline.core.formats`, what becomes of the rows to who asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.core.formats import COLUMNS, Format, Reading, Render, detect_format
from pipeline.core.formats.choices import Meaning, spelled
from pipeline.core.formats.label_config import read_label_config
from pipeline.core.rows import Row, located_rows


@dataclass(frozen=True)
class JudgedSet:
    """Where the rows are and how to read them.

    Args:
        dataset: a file, a directory or a Hub id, see :func:`pipeline.core.rows.located_rows`.
        format: told from the first row by default.
        columns: ``{our name: their name}``; the names are :data:`pipeline.core.formats.COLUMNS`. In exports of
            Argilla and Label Studio theirs are names of fields, and ``choice`` is the question.
        limit: read no more than this many.
        chat_template: a tokenizer (directory or Hub id) whose chat template writes conversations out.
        pairs: of several completions with scores or ranks: every pair, or only the best against the worst one.
        min_score_ratio: of SHP, leave out pairs whose ``score_ratio`` is lower.
        choices: what the values of a verdict mean, ``{0: a, 1: b, 2: tie}``: ``a``, ``b``, ``tie``, ``both_bad``,
            or ``skip`` for a row to leave out and count. Values that are not in it are refused.
        label_config: the XML of a Label Studio project, which says what was shown on the left.
        drafts: of Argilla, ``count`` answers that nobody submitted, or of which the file does not say it.
        no_choice: what somebody meant who submitted without choosing: ``tie``, or nothing (``skip``: counted).
    """

    dataset: str
    format: Format = "auto"
    columns: dict[str, str] = field(default_factory=dict[str, str])
    split: str | None = None
    subset: str | None = None
    revision: str | None = None
    limit: int | None = None
    chat_template: str | None = None
    pairs: Literal["all", "best_worst"] = "all"
    min_score_ratio: float | None = None
    choices: dict[str | int | float | bool, Meaning] = field(
        default_factory=dict[str | int | float | bool, Meaning]
    )
    label_config: str | None = None
    drafts: Literal["refuse", "count"] = "refuse"
    no_choice: Literal["skip", "tie"] = "skip"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(COLUMNS))
        if unknown:
            raise ValueError(
                f'columns names "{unknown[0]}", which is none of ours: {", ".join(COLUMNS)}. '
                "It is written {ours: theirs}."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit = {self.limit} should be 1 or more.")

    def reading(self, render: Render, salt: str = "") -> Reading:
        """How its rows are read, see :class:`pipeline.core.formats.Reading`.

        Raises:
            DataError: ``label_config`` cannot be read.
        """
        return Reading(
            render,
            self.columns,
            salt,
            self.pairs,
            self.min_score_ratio,
            choices={spelled(value): meaning for value, meaning in self.choices.items()},
            label_config=read_label_config(Path(self.label_config).expanduser()) if self.label_config else None,
            drafts=self.drafts,
            no_choice=self.no_choice,
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
