"""Rows of other tools, read, and what they came to in a few signs."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

from pipeline.formats.detect import Format, JudgedRow, Reading, Unusable, parse_rows


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


def shuffled(value: Any, dice: random.Random) -> Any:
    """The same with the keys of every object in another order; lists stay as they are."""
    if isinstance(value, list):
        return [shuffled(item, dice) for item in value]
    if isinstance(value, dict):
        return {k: shuffled(v, dice) for k, v in dice.sample(list(value.items()), len(value))}
    return value
