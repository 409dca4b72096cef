"""Completions that somebody brings to be labelled, and items whose answer is known.

Rows that carry a choice somebody made already are ``replay``'s; here such a choice is read only as a known answer.
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
    source: str,
    columns: Columns,
    where: str,
    key: str = "label.dataset",
    notices: Notices | None = None,
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(prompt, completions that stand together) of each row.

    Args:
        source: a file, a directory or a Hub id, see :func:`pipeline.sources.row_sources.located_rows`.
        notices: collects the columns that were not used, and what was done to rows.
    Raises:
        DataError: a row without a prompt or completions, with its place.
    """
    how = _reading(columns, notices)
    for place, row in _rows(source, columns, f"{where}: {key}"):
        yield _group(row, place, how)[:2]


def _rows(source: str, columns: Columns, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of ``source``, of which the first one has every column that ``columns`` names. Raises DataError."""
    located = located_rows(source, where=where)
    place, first = next(located)
    mapped, joined = split_columns(columns)
    theirs = [*mapped.values(), *(name for several in joined.values() for name in several)]
    require_columns(first, theirs, place, "Mend the right-hand side in  columns: {...}.")
    return itertools.chain([(place, first)], located)


def gold_items(source: str, columns: Columns, mode: Mode, where: str) -> list[Item]:
    """Items with their known answer, the column ``choice`` (:func:`pipeline.labelling.items.parse_choice`).

    Rows of ``chosen`` and ``rejected`` need none: there it is ``a``.

    Raises:
        DataError: a row is no item of this mode or has no answer of this mode, with its place.
    """
    found: list[Item] = []
    how = _reading(columns, None)
    for place, row in _rows(source, columns, f"{where}: label.gold"):
        prompt, completions, row = _group(row, place, how)
        wanted = {"pairwise": 2, "thumbs": 1, "rating": 1}.get(mode)
        if (wanted or max(2, len(completions))) != len(completions):
            raise DataError(place, f"{len(completions)} completions are no item of mode {mode}.")
        choice = row.get("choice", "a" if "chosen" in row and mode == "pairwise" else None)
        if choice is None:
            raise DataError(place, 'no column "choice" with the known answer.', "Such as a, b, like or 2>0>1.")
        try:
            gold = parse_choice(str(choice), mode, len(completions))
        except ValueError as err:
            raise DataError(place, f"{err}.") from err
        found.append(Item(prompt, completions, mode, "train", gold))
    return found


def _reading(columns: Columns, notices: Notices | None) -> Reading:
    mapped, joined = split_columns(columns)
    return Reading(render_plain, mapped, joined=joined, notices=notices or Notices())


def _group(row: Mapping[str, Any], place: str, how: Reading) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """The prompt, the completions, and the row under our names."""
    try:
        ours, own = our_names(row, how)
    except Refused as refused:
        raise DataError(place, f"{refused}.", "Mend the row or the columns.") from None
    if "chosen" in ours and "rejected" in ours:
        found = parse_rows(row, "auto", place, how)
        judged = next((one for one in found if isinstance(one, JudgedRow)), found[0])
        if isinstance(judged, Unusable):
            raise DataError(place, f"{judged.reason}.", "Mend or remove the row.")
        return judged.prompt, (judged.chosen, judged.rejected), ours
    theirs = {*how.columns.values(), *(name for several in how.joined.values() for name in several)}
    how.notices.columns(row, {*_OURS, *theirs})
    try:
        completions = _completions(ours)
        prompt, texts = as_given(ours.get("prompt"), [("a completion", c) for c in completions or [""]], own)
    except Refused as refused:
        raise DataError(place, f"{refused}.", f"Columns are read as {_SHAPES}; map others by columns.") from None
    if not prompt.strip():
        raise DataError(place, "empty prompt.", "Map it:  columns: {prompt: their_name}.")
    if not completions:
        raise DataError(place, "no completions as text.", f"Columns are read as {_SHAPES}; map others by columns.")
    if not all(said.strip() for said in texts):
        raise DataError(place, "an empty completion.", "Remove the row: an answer without words is none.")
    if len({said.strip() for said in texts}) < len(texts):
        raise DataError(place, "the same completion twice.", "Remove the row.")
    return prompt, tuple(texts), ours


def _completions(row: Mapping[str, Any]) -> list[Any]:
    for names in (("completion_a", "completion_b"), ("completion",)):
        if all(row.get(name) is not None for name in names):
            return [row[name] for name in names]
    some = listed(row.get("completions"), "completions") or []
    if not all(isinstance(c, str) for c in some):
        raise Refused("no completions as text")
    return some
