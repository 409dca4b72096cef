"""Guess the format of rows that match none, and suggest how to map their columns."""

from __future__ import annotations

import re

from pipeline.formats.judged import Row
from pipeline.formats.known import FORMATS, Format, Layout
from pipeline.formats.reading import plain_word

_COMPLETION = re.compile(
    r"(response|answer|completion|output|generation|candidate|reply|option|text)([0-9]+|[a-z])"
)
_VERDICTS = {
    *("better", "best", "preferred", "preference", "winner", "choice", "verdict", "chosen", "label", "labels"),
    *(
        "preferredresponse",
        "winnerid",
        "wina",
        "awins",
        "win",
        "wins",
        "won",
        "decision",
        "judgement",
        "judgment",
        "vote",
        "selected",
    ),
}
_PROMPTS = (
    *("prompt", "instruction", "question", "query", "input", "context", "text", "messages", "conversations"),
    *("conversation", "history", "post", "request"),
)
_PAIRS = (
    *(("better", "worse"), ("best", "worst"), ("win", "lose"), ("winner", "loser"), ("winning", "losing")),
    *(("preferred", "dispreferred"), ("preferred", "rejected"), ("preferred", "nonpreferred")),
    *(("accepted", "rejected"), ("positive", "negative"), ("pos", "neg"), ("good", "bad"), ("chosen", "rejected")),
    *(("chosen", "reject"), ("accept", "reject"), ("w", "l")),
)
_NOUN = re.compile(
    r"^(?:response|answer|completion|output|text|y)(?=.)|(?<=.)(?:response|answer|completion|output|text)$"
)


def looks_like(row: Row) -> str:
    """The format that a row resembles, by the columns they share, as a sentence; empty where there is none."""
    there = set(row)
    if {"instance_id", "labels"} <= there or {"instance_id", "label_annotations"} <= there:
        return (
            "This looks like Potato's export, which holds answers without the texts: "
            "join it with the data file by instance_id, and map the columns."
        )
    if {"chat_id", "model_id", "sibling_model_ids", "rating"} <= there:
        return "This looks like Open WebUI's CSV, which holds ratings without the texts: export JSON there."
    if table := _table_of_choices(row) or _better_and_worse(row):
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
                and key not in ("messages", "prompt", "conversations", "conversation")
            ):
                return f'This looks like one object that holds the rows under "{key}": save that list alone.'
    two = _two_answers(row)
    if len(two) == 2:
        return f"This looks like two answers ({two[0]}, {two[1]}) and a verdict that no name tells: map all three."
    if {"messages"} <= there or {"conversations"} <= there or {"instruction", "output"} <= there:
        return "This looks like examples to imitate: one answer to a prompt, and no worse one."
    return ""


def _table_of_choices(row: Row) -> str:
    two = _two_answers(row)
    verdict = [name for name in row if plain_word(name) in _VERDICTS]
    if len(two) != 2 or not verdict:
        return ""
    return (
        f"This looks like two answers and a verdict:  columns: {{{_prompt_as(row)}"
        f"completion_a: {two[0]}, completion_b: {two[1]}, choice: {verdict[0]}}}"
    )


def _two_answers(row: Row) -> list[str]:
    return [name for name in row if _COMPLETION.fullmatch(plain_word(name))]


def _better_and_worse(row: Row) -> str:
    """Names that mean chosen and rejected: better and worse, response_chosen and response_rejected, Chosen ..."""
    plain = {_NOUN.sub("", plain_word(name)): name for name in row}
    for good, bad in _PAIRS:
        if good in plain and bad in plain:
            return (
                f"This looks like a better and a worse answer:  columns: {{{_prompt_as(row)}"
                f"chosen: {plain[good]}, rejected: {plain[bad]}}}"
            )
    return ""


def prompt_in(row: Row) -> str | None:
    """The column that is most likely the prompt, by its name."""
    plain: dict[str, str] = {}
    for name in row:
        plain.setdefault(plain_word(name), name)
    return next((plain[name] for name in _PROMPTS if name in plain), None)


def _prompt_as(row: Row) -> str:
    name = prompt_in(row)
    return "" if name in (None, "prompt") else f"prompt: {name}, "


def _shared(name: Format, layout: Layout, row: Row) -> tuple[float, int, Format, list[str]]:
    there = set(layout.named(row))
    missing = [n for n in layout.needs if n not in there]
    count = len(layout.needs) - len(missing)
    # "prompt" alone says little: many have it.
    weight = count - 0.5 * ("prompt" in layout.needs and "prompt" in there)
    return weight / len(layout.needs), count, name, missing
