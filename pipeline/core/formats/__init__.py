"""From somebody's row to judged comparisons: which format it is in, and its reader.

The readers, by whose rows they read: ``preference`` (TRL, HH-RLHF), ``sets`` (Arena, UltraFeedback, SHP,
HelpSteer, RewardBench), ``tools`` (Argilla, Label Studio, anybody's pairs), ``unpaired`` (TRL), ``label_page``
(ours). ``writing`` goes the other way.
Finding files is left to :mod:`pipeline.core.rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from pipeline.core.errors import DataError
from pipeline.core.formats import label_page, preference, sets, tools, unpaired
from pipeline.core.formats.judged import JudgedRow, Refused, Row, Unclear, Unusable, text
from pipeline.core.formats.messages import Message, Render, is_conversation, messages, render_plain
from pipeline.core.formats.reading import Reading
from pipeline.core.rows import rename_columns, require_columns

__all__ = [
    "ALONE",
    "COLUMNS",
    "PUBLIC_SETS",
    "Format",
    "JudgedRow",
    "Message",
    "Reading",
    "Render",
    "Unusable",
    "detect_format",
    "parse_prompt",
    "parse_row",
    "parse_rows",
    "read_judged",
    "render_plain",
]

Format = Literal[
    "auto",
    "trl",
    "trl_implicit",
    "conversational",
    "hh",
    "unpaired",
    "arena",
    "ultrafeedback",
    "shp",
    "helpsteer",
    "rewardbench",
    "argilla",
    "label_studio",
    "choices",
    "label_page",
]

COLUMNS = (
    *("prompt", "chosen", "rejected", "tie", "both_bad", "margin", "votes_chosen", "votes_rejected"),
    *("completion", "label", "completion_a", "completion_b", "choice", "annotator"),
    *("votes_a", "votes_b", "votes_tie", "votes_both_bad"),
)
"""The names that ``columns: {ours: theirs}`` may map."""

PUBLIC_SETS: frozenset[Format] = frozenset(("hh", "arena", "ultrafeedback", "shp", "helpsteer", "rewardbench"))
"""Formats of sets that are published with some rows nobody can use."""

_NEEDED: dict[str, tuple[str, ...]] = {
    "trl": ("prompt", "chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "arena": ("conversation_a", "conversation_b", "winner"),
    "ultrafeedback": ("instruction", "completions"),
    "shp": ("history", "human_ref_A", "human_ref_B", "labels"),
    "helpsteer": ("response1", "response2", "overall_preference"),
    "rewardbench": ("prompt", "chosen", "rejected"),
    "argilla": ("fields", "responses"),  # or flat, see tools.tool_of
    "label_studio": ("data", "annotations"),
    "choices": ("prompt", "completion_a", "completion_b", "choice"),
    "label_page": ("item", "mode", "prompt", "completions", "choice", "annotator"),
}
_TELLING: tuple[Format, ...] = ("arena", "ultrafeedback", "shp", "helpsteer", "choices", "unpaired", "label_page")
"""Formats whose columns, all together, mean no other format."""

_MEND = "Mend the right-hand side in  columns: {...}."

ALONE: dict[str, unpaired.Read] = {"unpaired": unpaired.trl_unpaired, "label_page": label_page.answer}
"""Readers of formats that may hold a single completion in a row."""

_READERS: dict[str, Callable[[Row, Reading], list[Any]]] = {
    "trl": preference.trl,
    "trl_implicit": preference.trl_implicit,
    "conversational": preference.conversational,
    "hh": preference.hh,
    "arena": sets.arena,
    "ultrafeedback": sets.ultrafeedback,
    "shp": sets.shp,
    "helpsteer": sets.helpsteer,
    "rewardbench": sets.rewardbench,
    "choices": tools.choices,
}


def detect_format(
    row: Mapping[str, Any], place: str, told: Format = "auto", columns: Mapping[str, str] | None = None
) -> Format:
    """The format of a set, from its first row, unless the user ``told`` it.

    Args:
        columns: ``{our name: their name}``; None where the row's columns have our names already.
    Raises:
        DataError: a column is missing that the format needs or ``columns`` names, or texts come without a prompt.
    """
    columns = columns or {}
    tool = told if told != "auto" else tools.tool_of(row)
    if tool in ("argilla", "label_studio"):
        if tools.tool_of(row) != tool:
            require_columns(dict(row), _NEEDED[tool], place, f"Is this an export of {tool}?")
        named = [theirs for ours, theirs in columns.items() if ours != "choice"]
        require_columns(tools.fields_of(row, tool), named, place, _MEND)
        return tool
    require_columns(dict(row), columns.values(), place, _MEND)
    row = rename_columns(dict(row), columns)
    same = sets.helpsteer_names(row)
    if told == "auto" and not ("chosen" in row and "rejected" in row):
        for format in _TELLING:
            if all(name in same for name in _NEEDED[format]):
                return format
    if told == "auto" and sets.is_rewardbench(row):
        return "rewardbench"
    needed = _NEEDED.get(told, ("chosen", "rejected"))
    require_columns(same if told == "helpsteer" else dict(row), needed, place)
    return told if told != "auto" else _by_sides(row, place)


def _by_sides(row: Row, place: str) -> Format:
    if all(is_conversation(row[name]) for name in ("chosen", "rejected")):
        return "conversational"
    if "prompt" in row:
        return "trl"
    if all(isinstance(row[name], str) and "\n\nHuman:" in row[name] for name in ("chosen", "rejected")):
        return "hh"
    there = ", ".join(row)
    raise DataError(
        place,
        f'no column "prompt"; the columns are: {there}.',
        "Map it (columns: {prompt: question}), or say  format: trl_implicit  "
        "to take what chosen and rejected both start with.",
    )


def read_judged(
    rows: Iterable[tuple[str, Row]], format: Format, how: Reading
) -> Iterator[tuple[str, JudgedRow | Unusable]]:
    """Everything in ``rows``, which are (place, row) with their own column names; several for one row, or none."""
    if format in ALONE:
        renamed = ((place, rename_columns(dict(row), how.columns)) for place, row in rows)
        yield from unpaired.pair_up(renamed, how, ALONE[format])
        return
    for place, row in rows:
        for found in parse_rows(row, format, place, how):
            yield place, found


def parse_rows(row: Row, format: Format, place: str, how: Reading) -> list[JudgedRow | Unusable]:
    """One row, checked: a rating of several completions or several people's answers give several.

    Raises:
        DataError: only the user can say what the rows mean (a coding of sides, what stood on the left), which
            leaves none of them usable; or, for ``auto``, the format cannot be told.
    """
    if format == "auto":
        format = detect_format(row, place, columns=how.columns)
    try:
        if format in ("argilla", "label_studio"):
            return tools.answers(row, format, how)
        if format in ALONE:
            found = ALONE[format](rename_columns(dict(row), how.columns), how)
            if isinstance(found, unpaired.Opinion):
                raise Refused("a single completion: it becomes a pair only among others")
            return found
        return _READERS[format](rename_columns(dict(row), how.columns), how)
    except Unclear as unclear:
        raise DataError(place, unclear.fact, unclear.mend) from None
    except Refused as refused:
        return [refused.unusable]


def parse_row(
    row: Mapping[str, Any], format: Format, place: str, render: Render = render_plain
) -> JudgedRow | Unusable:
    """The first judged comparison in one row, or why there is none.

    Args:
        row: its columns under our names (:func:`pipeline.core.rows.rename_columns`).
        format: see :func:`detect_format`; ``auto`` detects anew for this row.
        render: turns messages into text; pass one that uses a tokenizer's chat template.
    Raises:
        DataError: only for ``auto``, when the format cannot be told.
    """
    # Those who ask for one comparison want its texts: whether an answer was submitted is of no account.
    found = parse_rows(row, format, place, Reading(render, drafts="count"))
    return next((one for one in found if isinstance(one, JudgedRow)), found[0])


def parse_prompt(value: Any, render: Render = render_plain) -> str | Unusable:
    """The prompt in a prompt column: a text as it is, or messages rendered."""
    try:
        prompt = text(render(messages(value, "prompt"), "")[0] if is_conversation(value) else value, "prompt")
        return prompt if prompt.strip() else Unusable("empty prompt")
    except Refused as refused:
        return refused.unusable
