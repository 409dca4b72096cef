"""Generated parts of Markdown files, between two comments."""

from __future__ import annotations

from pipeline.base.errors import DataError


def replace_between(text: str, name: str, content: str, where: str) -> str:
    """``text`` with ``content`` between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``. Idempotent.

    Raises:
        DataError: a marker is missing, doubled, or they stand in the wrong order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    for marker in (begin, end):
        if text.count(marker) != 1:
            raise DataError(where, f"holds {marker} {text.count(marker)} times.", "It belongs there once.")
    head, rest = text.split(begin)
    if end not in rest:
        raise DataError(where, f"{end} stands before {begin}.", "Swap the two lines.")
    return f"{head}{begin}\n{content.strip()}\n{end}{rest.split(end)[1]}"
