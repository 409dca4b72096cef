"""What a file that is not read may be: said before a column is suggested."""

from __future__ import annotations

import re

from pipeline.core.formats.judged import Row
from pipeline.core.formats.known import FORMATS, Format, Layout
from pipeline.core.formats.reading import plain_word

_COMPLETION = re.compile(
    r"(response|answer|completion|output|generation|candidate|reply|option|text)([0-9]+|[a-z])"
)
_VERDICTS = ("better", "best", "preferred", "preference", "winner", "choice", "verdict", "chosen")


def looks_like(row: Row) -> str:
    """What a row that is not read may be, from the columns it shares with a format: a sentence, or nothing."""
    there = set(row)
    if {"instance_id", "labels"} <= there or {"instance_id", "label_annotations"} <= there:
        return (
            "This looks like Potato's export, which holds answers without the texts: "
            "join it with the data file by instance_id, and map the columns."
        )
    if table := _table_of_choices(row):
        return table
    near = [_shared(name, layout, row) for name, layout in FORMATS.items() if len(layout.needs) > 1]
    share, count, name, missing = max(near, key=lambda n: n[:2])
    if count > 1 and share >= 0.5:
        title = FORMATS[name].title
        return f"This looks like {title} (format: {name}) without {', '.join(missing)}."
    if len(row) <= 3:
        for key, value in row.items():
            if (
                isinstance(value, list)
                and value
                and isinstance(value[0], dict)
                and key not in ("messages", "prompt")
            ):
                return f'This looks like one object that holds the rows under "{key}": save that list alone.'
    if {"messages"} <= there or {"conversations"} <= there or {"instruction", "output"} <= there:
        return "This looks like examples to imitate: one answer to a prompt, and no worse one."
    return ""


def _table_of_choices(row: Row) -> str:
    two = [name for name in row if _COMPLETION.fullmatch(plain_word(name))]
    verdict = [name for name in row if plain_word(name) in _VERDICTS]
    if len(two) != 2 or not verdict:
        return ""
    return (
        "This looks like two answers and a verdict:  columns: "
        f"{{completion_a: {two[0]}, completion_b: {two[1]}, choice: {verdict[0]}}}"
    )


def _shared(name: Format, layout: Layout, row: Row) -> tuple[float, int, Format, list[str]]:
    there = set(layout.named(row))
    missing = [n for n in layout.needs if n not in there]
    count = len(layout.needs) - len(missing)
    # "prompt" alone says little: many have it.
    weight = count - 0.5 * ("prompt" in layout.needs and "prompt" in there)
    return weight / len(layout.needs), count, name, missing
