"""Options that say where a set of judged rows is and how to read it."""

from __future__ import annotations

import itertools
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pipeline.base.key_numbers import KeyNumbers
from pipeline.base.records import CHOICES, Annotation, Choice, Comparison, short_hash, turned
from pipeline.formats.choices import Meaning, spelled
from pipeline.formats.detect import (
    ALONE,
    COLUMNS,
    Format,
    JudgedRow,
    Reading,
    Render,
    detect_format,
    split_columns,
)
from pipeline.formats.families.label_config import read_label_config
from pipeline.sources.row_sources import Row, located_rows

Aggregation = Literal["majority", "dawid_skene", "bradley_terry"]
"""How several votes on one comparison become one outcome: :mod:`pipeline.labelling.aggregate`."""

Margin = Literal["none", "strength", "share"]
"""By how much a pair was won: not said, what those who chose the winner said, or the winner's lead in votes."""


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
        dataset: a file, a directory, a Hub id, or a URL of files (``s3://``).
        format: told from the first row by default.
        columns: ``{our name: their name}``. Our names: prompt, chosen, rejected, tie, both_bad, margin,
            votes_chosen, votes_rejected, completion, label, completion_a, completion_b, choice, annotator, system,
            votes_a, votes_b, votes_tie, votes_both_bad, consent (rows without it are left out). In exports of
            Argilla and Label Studio theirs are fields, and ``choice`` is the question. ``prompt`` may be a
            list of theirs, whose texts are joined with a blank line; ``system`` is a turn before the conversation,
            and before a prompt of plain text a text with a blank line after it.
        split: read this one; by default train, or the only one.
        subset: of the dataset, its configuration on the Hub or a directory.
        revision: of a Hub id.
        limit: read no more than this many.
        chat_template: a tokenizer (directory or Hub id) whose chat template writes conversations out.
        pairs: of several completions with scores or ranks: every pair, or only the best against the worst one.
        min_score_ratio: of SHP, leave out pairs whose ``score_ratio`` is lower.
        choices: what the values of a verdict mean, ``{0: a, 1: b, 2: tie}``: ``a``, ``b``, ``tie``, ``both_bad``,
            or ``skip`` for a row to leave out and count. Values that are not in it are refused.
        label_config: the XML of a Label Studio project, which says what was shown on the left.
        drafts: of Argilla, ``count`` answers that nobody submitted, or of which the file does not say it.
        no_choice: what somebody meant who submitted without choosing: ``tie``, or nothing (``skip``: counted).
        aggregate: how several votes on one comparison become one outcome, as in the section ``label``.
        margin: of a pair, as in the section ``label``: ``none``; ``strength``, the mean of the margins that the
            votes for the choice have in the rows; ``share``, the winner's lead in votes.
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
    choices: dict[str | int | float | bool, Meaning] = field(
        default_factory=dict[str | int | float | bool, Meaning]
    )
    label_config: str | None = None
    drafts: Literal["refuse", "count"] = "refuse"
    no_choice: Literal["skip", "tie"] = "skip"
    aggregate: Aggregation = "majority"
    margin: Margin = "strength"

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
        """How its rows are read, see :class:`pipeline.formats.detect.Reading`.

        Raises:
            DataError: ``label_config`` cannot be read.
        """
        columns, joined = split_columns(self.columns)
        return Reading(
            render,
            columns,
            salt,
            self.pairs,
            self.min_score_ratio,
            choices={spelled(value): meaning for value, meaning in self.choices.items()},
            label_config=read_label_config(Path(self.label_config).expanduser()) if self.label_config else None,
            drafts=self.drafts,
            no_choice=self.no_choice,
            joined=joined,
            lists_are_texts=self.format != "auto",
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
        format = detect_format(first, place, self.format, self.columns)
        return format, first, place, itertools.chain([(place, first)], located)


@dataclass(frozen=True)
class Judged:
    """One row's judgement.

    Attributes:
        times: how often it was given.
        within: votes count together only where this is the same too.
    """

    row: JudgedRow
    comparison: Comparison
    choice: Choice
    within: str | None = None
    times: int = 1

    def votes(self, nobody: str) -> Iterator[Annotation]:
        """The votes it stands for, equal ones together. ``nobody``: their annotator where none is named."""
        row, comparison = self.row, self.comparison
        score_a = score_b = None
        if row.scores is not None:
            on_a = comparison.completion_a == row.chosen
            score_a, score_b = row.scores if on_a else row.scores[::-1]
        for choice, n in row.ballots(comparison, self.choice):
            margin = row.margin if choice == self.choice else None
            who = row.annotator or nobody
            yield Annotation(comparison.id, who, choice, score_a, score_b, margin, n * self.times)


class Repeats:
    """Tells further votes on a comparison from repetitions of one, in a single pass; only hashes are held.

    - The same choice of the same person is one vote; another choice of theirs is another.
    - Where nobody is named, each row is a vote, but for one that equals an earlier row in every column: a copy.
      Copies are votes after all (:meth:`copies`) where the set itself shows it: rows disagree on a comparison that
      has a copy. Then each row stands for a person, and 4 to 1 must not become 1 to 1.

    Attributes:
        duplicates: judgements that are left out.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        # A row's key begins with half of its comparison's; of each: the choice of nobody's row, or _NAMED.
        self._said, self._choices = KeyNumbers(), array("B")
        self._copies: dict[int, tuple[bytes, Judged]] = {}
        self._times = Counter[int]()

    def is_vote(self, judged: Judged, origin: bytes) -> bool:
        """Whether it counts now.

        Args:
            origin: see :class:`Origins`.
        """
        key, in_order = judged.comparison.alike()
        choice = judged.choice if in_order else turned(judged.choice)
        named = judged.row.annotator is not None
        if judged.within is not None:
            key = short_hash(key.hex(), judged.within)
        row = short_hash(choice, judged.row.annotator or "", "" if named else origin.hex())
        number, is_new = self._said.add(key[:8] + row[:8])
        if is_new:
            self._choices.append(_NAMED if named else CHOICES.index(choice))
            return True
        if named:
            self.duplicates += 1
        else:
            self._copies.setdefault(number, (key, judged))
            self._times[number] += 1
        return False

    def copies(self) -> Iterator[Judged]:
        """The copies that are votes after all, when all rows are read; the others are counted as duplicates."""
        votes = bool(self._copies) and self._disagree({key for key, _ in self._copies.values()})
        for copy, (_, judged) in self._copies.items():
            if votes:
                yield replace(judged, times=self._times[copy])
            else:
                self.duplicates += self._times[copy]

    def _disagree(self, keys: set[bytes]) -> bool:
        """Whether rows of nobody's differ on one of these comparisons."""
        import numpy as np

        halves, choices = self._said.first_halves(), np.frombuffer(self._choices, np.uint8)
        of_copies = np.isin(halves, np.array([int.from_bytes(key[:8]) for key in keys], np.uint64))
        of_copies &= choices != _NAMED
        both = np.stack([halves[of_copies], choices[of_copies].astype(np.uint64)])
        different = np.unique(both, axis=1)[0]
        return len(np.unique(different)) < len(different)


_NAMED = 255
_SPELL = json.JSONEncoder(sort_keys=True, default=repr, ensure_ascii=False).encode


class Origins:
    """The origin of each judgement while its rows are read: its row, and its place among the judgements in it.

    So the answers of three people in one record are three, and the same record once more is a copy of each. Of
    formats whose judgements are made of several rows, nothing but the judgement itself is its origin.
    """

    def __init__(self, format: Format) -> None:
        self._alone = format in ALONE
        self._row, self._number = b"", 0

    def watched(self, rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
        """``rows``, unchanged; each is the origin of what is read until the next."""
        for place, row in rows:
            self.start(row)
            yield place, row

    def start(self, row: Row) -> None:
        """Make ``row`` the origin of the judgements that follow."""
        if not self._alone:
            self._row = short_hash(_SPELL(row))
            self._number = 0

    def next(self) -> bytes:
        """Of the next judgement in the row."""
        self._number += not self._alone
        return self._row + self._number.to_bytes(4)
