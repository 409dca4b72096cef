"""Read your own completions to label (``label.dataset``) and items with a known answer (``label.gold``).

A choice in these rows is only read as a known answer; the annotator ``replay`` imports judgements.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.base.errors import DataError
from pipeline.formats.cells import listed
from pipeline.formats.detect import (
    Columns,
    JudgedRow,
    Notices,
    Reading,
    Unusable,
    our_names,
    parse_rows,
    render_plain,
    split_columns,
)
from pipeline.formats.judged import Refused
from pipeline.formats.reading import as_given
from pipeline.labelling.items import Item, Mode, parse_choice
from pipeline.sources.row_sources import located_rows, require_columns

_OURS = ("prompt", "completion_a", "completion_b", "completion", "completions")
_SHAPES = "completion_a and completion_b; chosen and rejected; completions (a list); or completion"


def own_groups(
    source: str, columns: Columns, where: str, key: str = "label.dataset", notices: Notices | None = None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(prompt, completions) of each row.

    Args:
        source: a file, a directory or a Hub id, see :func:`pipeline.sources.row_sources.located_rows`.
        notices: collects unused columns and changes made to rows.
    Raises:
        DataError: a row without a prompt or completions, with its place.
    """
    how = _reading(columns, notices)
    for place, row in _rows(source, columns, f"{where}: {key}"):
        yield _group(row, place, how)[:2]


def _rows(source: str, columns: Columns, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of ``source``. Raises DataError where the first one misses a column that ``columns`` names."""
    located = located_rows(source, where=where)
    place, first = next(located)
    mapped, joined = split_columns(columns)
    names = [*mapped.values(), *itertools.chain.from_iterable(joined.values())]
    require_columns(first, names, place, "Correct the right-hand side in  columns: {...}.")
    return itertools.chain([(place, first)], located)


def gold_items(source: str, columns: Columns, mode: Mode, where: str) -> list[Item]:
    """Items with their known answer in the column ``choice`` (:func:`pipeline.labelling.items.parse_choice`).

    Of rows with ``chosen`` and ``rejected`` it is ``a`` by default.

    Raises:
        DataError: a row without completions or answer of this mode, with its place.
    """
    golds: list[Item] = []
    how = _reading(columns, None)
    for place, row in _rows(source, columns, f"{where}: label.gold"):
        prompt, completions, row = _group(row, place, how)
        wanted = {"pairwise": 2, "thumbs": 1, "rating": 1}.get(mode)
        if (wanted or max(2, len(completions))) != len(completions):
            raise DataError(place, f"{len(completions)} completions do not fit mode {mode}.")
        choice = row.get("choice", "a" if "chosen" in row and mode == "pairwise" else None)
        if choice is None:
            raise DataError(place, 'no column "choice" with the known answer.', "Such as a, b, like or 2>0>1.")
        try:
            gold = parse_choice(str(choice), mode, len(completions))
        except ValueError as err:
            raise DataError(place, f"{err}.") from err
        golds.append(Item(prompt, completions, mode, "train", gold))
    return golds


def _reading(columns: Columns, notices: Notices | None) -> Reading:
    mapped, joined = split_columns(columns)
    return Reading(render_plain, mapped, joined=joined, notices=notices or Notices())


def _group(row: Mapping[str, Any], place: str, how: Reading) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """The prompt, the completions, and the row with our column names."""
    try:
        ours, own = our_names(row, how)
    except Refused as refused:
        raise DataError(place, f"{refused}.", "Correct the row or the columns.") from None
    if "chosen" in ours and "rejected" in ours:
        parsed = parse_rows(row, "auto", place, how)
        judged = next((r for r in parsed if isinstance(r, JudgedRow)), parsed[0])
        if isinstance(judged, Unusable):
            raise DataError(place, f"{judged.reason}.", "Correct or remove the row.")
        return judged.prompt, (judged.chosen, judged.rejected), ours
    how.notices.columns(row, {*_OURS, *how.columns.values(), *itertools.chain.from_iterable(how.joined.values())})
    read_as = f"Columns are read as {_SHAPES}; map others by columns."
    try:
        completions = _completions(ours)
        prompt, texts = as_given(ours.get("prompt"), [("a completion", c) for c in completions or [""]], own)
    except Refused as refused:
        raise DataError(place, f"{refused}.", read_as) from None
    if not prompt.strip():
        raise DataError(place, "empty prompt.", "Map it:  columns: {prompt: their_name}.")
    if not completions:
        raise DataError(place, "no completions as text.", read_as)
    if not all(text.strip() for text in texts):
        raise DataError(place, "an empty completion.", "Remove the row.")
    if len({text.strip() for text in texts}) < len(texts):
        raise DataError(place, "the same completion twice.", "Remove the row.")
    return prompt, tuple(texts), ours


def _completions(row: Mapping[str, Any]) -> list[Any]:
    for names in (("completion_a", "completion_b"), ("completion",)):
        if all(row.get(name) is not None for name in names):
            return [row[name] for name in names]
    completions = listed(row.get("completions"), "completions") or []
    if not all(isinstance(c, str) for c in completions):
        raise Refused("no completions as text")
    return completions
