"""Rows of other tools, read, and what they came to in a few signs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from pipeline.formats.detect import Format, JudgedRow, Reading, Unusable, detect_format, parse_rows
from pipeline.sources.row_sources import located_rows

Row = dict[str, Any]


def rows_of(source: str, **how: Any) -> Iterator[Row]:
    """The rows of a file, a directory or a set on the Hub, without their places."""
    return (row for _, row in located_rows(source, **how))


def said(role: str, text: str) -> Row:
    """One turn of a conversation."""
    return {"role": role, "content": text}


def user(text: str) -> Row:
    return said("user", text)


def bot(text: str) -> Row:
    return said("assistant", text)


def who(name: Any, salt: str = "set") -> str:
    """The id of somebody in a file."""
    return "p_" + sha256(f"{salt}\0{name}".encode()).hexdigest()[:10]


def read(row: dict[str, Any], format: Format = "auto", **how: Any) -> list[JudgedRow | Unusable]:
    return parse_rows(row, format, "a.json:1", Reading(**{"salt": "set", **how}))


def short(found: list[JudgedRow | Unusable], people: bool = False) -> list[str]:
    """``chosen > rejected``, ``=`` for a tie, ``x`` for both bad; or the reason."""
    signs = {(False, False): ">", (True, False): "=", (True, True): "x"}
    return [
        f.reason
        if isinstance(f, Unusable)
        else f"{f.chosen} {signs[f.tie, f.both_bad]} {f.rejected}" + (f" {f.annotator}" if people else "")
        for f in found
    ]


def parsed(row: Row, **how: Any) -> list[JudgedRow | Unusable]:
    """A row read in the format that it is found to have."""
    return parse_rows(row, detect_format(row, "x"), "x", Reading(**how))


def short_stripped(row: Row, **how: Any) -> list[str]:
    """As :func:`short`, of a row, without the space that an answer begins with."""
    return [
        f"{f.chosen.strip()} {'=' if f.tie else '>'} {f.rejected.strip()}"
        if isinstance(f, JudgedRow)
        else f.reason
        for f in parsed(row, **how)
    ]


def first(row: Row, **how: Any) -> JudgedRow:
    found = parsed(row, **how)[0]
    assert isinstance(found, JudgedRow), found
    return found


def shuffled(value: Any, dice: random.Random) -> Any:
    """The same with the keys of every object in another order; lists stay as they are."""
    if isinstance(value, list):
        return [shuffled(item, dice) for item in value]
    if isinstance(value, dict):
        return {k: shuffled(v, dice) for k, v in dice.sample(list(value.items()), len(value))}
    return value
