"""Detect the format of rows, and read them as judged comparisons.

``known`` is the table of formats and their columns; ``families/`` has the readers; ``cells`` parses lists that are
stored as text; ``notices`` collects what the user should hear about the rows; ``writing`` writes rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.base.errors import DataError
from pipeline.formats.cells import no_list
from pipeline.formats.families import chat_comparisons, labelling_tools, unpaired
from pipeline.formats.judged import JudgedRow, Refused, Row, Unclear, Unusable, text
from pipeline.formats.known import ALONE, FORMATS, PUBLIC_SETS, Format, Layout, telling
from pipeline.formats.likeness import looks_like, prompt_in
from pipeline.formats.messages import Message, Render, is_conversation, messages, render_plain
from pipeline.formats.notices import Notices
from pipeline.formats.reading import Reading, our_names
from pipeline.sources.row_sources import rename_columns, require_columns

__all__ = [
    "ALONE",
    "COLUMNS",
    "PUBLIC_SETS",
    "Columns",
    "Format",
    "JudgedRow",
    "Message",
    "Notices",
    "Reading",
    "Render",
    "Unusable",
    "detect_format",
    "our_names",
    "parse_prompt",
    "parse_row",
    "parse_rows",
    "read_judged",
    "render_plain",
    "split_columns",
]

COLUMNS = (
    *("prompt", "chosen", "rejected", "tie", "both_bad", "margin", "votes_chosen", "votes_rejected"),
    *("completion", "label", "completion_a", "completion_b", "choice", "annotator", "system"),
    *("votes_a", "votes_b", "votes_tie", "votes_both_bad", "consent"),
)
"""The names that ``columns: {ours: theirs}`` may map."""

Columns = Mapping[str, "str | Sequence[str]"]
"""``{our name: their name}``; of a prompt also several of theirs, to be joined."""

_HH = re.compile(r"\n\nHuman:|\A\s*Human:.*\n\nAssistant:", re.DOTALL)
_MEND = "Mend the right-hand side in  columns: {...}."


def split_columns(columns: Columns) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The names that are mapped to one of theirs, and those to several."""
    several = {ours: list(theirs) for ours, theirs in columns.items() if not isinstance(theirs, str)}
    return {ours: theirs for ours, theirs in columns.items() if isinstance(theirs, str)}, several


def detect_format(
    row: Mapping[str, Any], place: str, told: Format = "auto", columns: Columns | None = None
) -> Format:
    """Detect the format of a set from its first row, unless the user named it (``told``).

    Args:
        columns: ``{our name: their name}``; None where the row's columns have our names already.
    Raises:
        DataError: a column is missing that the format needs or ``columns`` names, or texts come without a prompt.
    """
    mapped, joined = split_columns(columns or {})
    theirs = [*mapped.values(), *(name for several in joined.values() for name in several)]
    tool = told if told != "auto" else labelling_tools.tool_of(row)
    if tool in ("argilla", "label_studio"):
        if labelling_tools.tool_of(row) != tool:
            require_columns(dict(row), FORMATS[tool].needs, place, f"Is this an export of {tool}?")
        named = [name for name in theirs if name != mapped.get("choice")]
        require_columns(labelling_tools.fields_of(row, tool), named, place, _MEND)
        return tool
    require_columns(dict(row), theirs, place, _MEND)
    row = rename_columns(dict(row), mapped) | {ours: row[several[0]] for ours, several in joined.items()}
    format = told if told != "auto" else _by_columns(row, place)
    if "system" in {*mapped, *joined} and format in ("hh", "trl_implicit", "label_page"):
        raise DataError(place, f"a system column does not go with format {format}.", "Write it into the prompt.")
    if FORMATS[format].all is not None and theirs:
        raise DataError(place, f"columns do not go with format {format}.", "Its own names are read.")
    require_columns(dict(FORMATS[format].named(row)), FORMATS[format].needs, place)
    return format


def _by_columns(row: Row, place: str) -> Format:
    try:
        if "chosen" in row and "rejected" in row:
            return "rewardbench" if chat_comparisons.is_rewardbench(row) else _by_sides(row, place)
        format = telling(row)
    except Refused as refused:
        raise DataError(place, f"{refused}.", "Mend the row, or name the format.") from None
    if format is None:
        there = ", ".join(row) or "none"
        missing = next(name for name in ("chosen", "rejected") if name not in row)
        likely = looks_like(row)
        mend = "Map what is there, such as  columns: {prompt: ..., chosen: ..., rejected: ...}"
        fact, _, mapping = likely.partition(":  columns")
        if mapping:
            likely, mend = f"{fact}.", f"Map it:  columns{mapping}"
        raise DataError(place, f'no column "{missing}"; the columns are: {there}. {likely}', mend)
    return format


def _by_sides(row: Row, place: str) -> Format:
    sides = [row[name] for name in ("chosen", "rejected")]
    if "prompt" not in row:
        if is_conversation(row.get("conversations")) and not any(_whole(side) for side in sides):
            return "sharegpt"
        if {"system", "question"} <= set(row) or {"instruction", "input"} <= set(row):
            return "instructed"
    if any(is_conversation(row[name], name) or isinstance(row[name], dict) for name in ("chosen", "rejected")):
        if "prompt" in row or any(_whole(side) for side in sides):
            return "conversational"
    elif "prompt" in row:
        return "conversational" if is_conversation(row["prompt"], "prompt") else "trl"
    elif all(isinstance(side, str) and _HH.search(side) for side in sides):
        return "hh"
    raise _no_prompt(row, place)


def _no_prompt(row: Row, place: str) -> DataError:
    return DataError(
        place,
        f'no column "prompt"; the columns are: {", ".join(row)}.',
        f"Map it (columns: {{prompt: {prompt_in(row) or 'question'}}}), or say  format: trl_implicit  "
        "to take what chosen and rejected both start with.",
    )


def _whole(side: object) -> bool:
    """Whether this is a conversation from its beginning, not an answer."""
    return is_conversation(side) and messages(side, "chosen")[0]["role"] != "assistant"


def read_judged(
    rows: Iterable[tuple[str, Row]], format: Format, how: Reading
) -> Iterator[tuple[str, JudgedRow | Unusable]]:
    """The judgements in ``rows``, which are (place, row) with their own column names; several a row, or none."""
    layout = FORMATS.get(format)
    if layout is not None and (alone := layout.alone) is not None:

        def read(row: Row, how: Reading) -> unpaired.Opinion | list[JudgedRow | Unusable]:
            return alone(*_named(row, layout, how))

        yield from unpaired.pair_up(rows, how, read)
    elif layout is not None and layout.all is not None:
        yield from layout.all(((place, _named(row, layout, how)[0]) for place, row in rows), how)
    else:
        for place, row in rows:
            for judgement in parse_rows(row, format, place, how):
                yield place, judgement


def _named(row: Row, layout: Layout, how: Reading) -> tuple[Row, Reading]:
    """A row under our names and the format's, and how to read it; unused columns are noted."""
    if not layout.record and not how.notices.looked_at(row):
        theirs = {*how.columns.values(), *(name for several in how.joined.values() for name in several)}
        aliases = {theirs for theirs, ours in layout.aliases.items() if ours not in row}
        how.notices.columns(row, {*layout.used(), *theirs, *aliases})
    renamed, how = our_names(row, how)
    return layout.named(renamed), how


def parse_rows(row: Row, format: Format, place: str, how: Reading) -> list[JudgedRow | Unusable]:
    """One row, checked: a rating of several completions or several people's answers give several.

    Raises:
        DataError: only the user can say what the rows mean (a coding of sides, what stood on the left), which
            leaves none of them usable; or, for ``auto``, the format cannot be told.
    """
    if format == "auto":
        format = detect_format(row, place, columns={**how.columns, **how.joined})
    layout = FORMATS[format]
    try:
        if layout.all is not None:
            return [judgements for _, judgements in layout.all([(place, _named(row, layout, how)[0])], how)] or [
                Unusable("a single message: it becomes a pair only among others")
            ]
        if layout.record and layout.row is not None:
            return layout.row(row, how)
        renamed, how = _named(row, layout, how)
        if layout.row is not None:
            return layout.row(renamed, how)
        assert layout.alone is not None
        judgements = layout.alone(renamed, how)
        if isinstance(judgements, unpaired.Opinion):
            raise Refused("a single completion: it becomes a pair only among others")
        return judgements
    except Unclear as unclear:
        raise DataError(place, unclear.fact, unclear.mend) from None
    except Refused as refused:
        return [refused.unusable]


def parse_row(
    row: Mapping[str, Any], format: Format, place: str, render: Render = render_plain
) -> JudgedRow | Unusable:
    """The first judged comparison in one row, or why there is none.

    Args:
        row: its columns under our names (:func:`pipeline.sources.row_sources.rename_columns`).
        format: see :func:`detect_format`; ``auto`` detects it again for this row.
        render: turns messages into text; pass one that uses a tokenizer's chat template.
    Raises:
        DataError: only for ``auto``, when the format cannot be told.
    """
    # Those who ask for one comparison want its texts: whether an answer was submitted is of no account.
    judgements = parse_rows(row, format, place, Reading(render, drafts="count"))
    return next((judgement for judgement in judgements if isinstance(judgement, JudgedRow)), judgements[0])


def parse_prompt(value: object, render: Render = render_plain) -> str | Unusable:
    """The prompt in a prompt column: a text as it is, or messages rendered."""
    try:
        if is_conversation(value, "prompt"):
            turns = messages(value, "prompt")
            if turns[-1]["role"] == "assistant":
                raise Refused("the prompt ends with an answer of the assistant")
            prompt = text(render(turns, "")[0], "prompt")
        else:
            prompt = text(value, "prompt")
            no_list(prompt, "prompt")
        return prompt if prompt.strip() else Unusable("empty prompt")
    except Refused as refused:
        return refused.unusable
