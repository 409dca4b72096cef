"""Print text that others wrote on a terminal: cut to a width in columns, its control characters escaped.

Whatever a command prints goes through :func:`put`. Colours, keys and pages of text are left out.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import TextIO

# Joiners stay: Persian, Indic scripts and emoji are written with them.
_KEPT = frozenset("\u200c\u200d")
# Controls, formats (which reorder text and hide it), lone surrogates, line and paragraph separators.
_OBEYED = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])


def escape_for_terminal(text: str) -> str:
    """``text`` on one line, with a sign for whatever a terminal would obey: ``␊`` for a newline, ``<U+202E>``."""
    return "".join(map(sign, text))


def escape_lines(text: str) -> str:
    """``text`` of several lines with a sign for whatever else a terminal would obey, or hide or reorder text by.

    Tabs become four blanks. More than three of one such character are counted, as they would bury the text.
    """
    escaped: list[str] = []
    for char, run in groupby(text.replace("\r\n", "\n").replace("\t", "    ")):
        shown, times = char if char == "\n" else sign(char), len(list(run))
        escaped.append(f"{shown}×{times}" if times > 3 and shown != char else shown * times)
    return "".join(escaped)


def columns(text: str) -> int:
    """How many columns ``text`` takes: East Asian characters and emoji two, marks on the character before none."""
    return len(text) if text.isascii() else sum(map(_width, text))


def cut(text: str, width: int, end: bool = False) -> str:
    """``text`` in at most ``width`` columns, with ``…`` where something is missing.

    Args:
        end: keep the end of it rather than the beginning.
    """
    if columns(text) <= width:
        return text
    kept, used = "", 1
    for char in reversed(text) if end else text:
        if (used := used + _width(char)) > width:
            break
        kept = char + kept if end else kept + char
    if end:
        while kept and not _width(kept[0]):  # a mark whose letter is cut off
            kept = kept[1:]
    return f"…{kept}" if end else f"{kept}…"


def put(text: str = "", file: TextIO | None = None) -> None:
    """Print lines, with a sign for whatever else in them a terminal would obey.

    What the encoding of ``file`` (default: stdout) lacks becomes ``?``, as a sample must not end a training.
    """
    out = sys.stdout if file is None else file
    encoding = getattr(out, "encoding", None) or "utf-8"
    shown = "\n".join(map(escape_for_terminal, text.split("\n")))
    print(shown.encode(encoding, "replace").decode(encoding), file=out, flush=True)


def put_json(value: object) -> None:
    """Print JSON; what a terminal would obey is escaped, so that it reads back as it was."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    put("".join(_escaped(c) if c != "\n" and is_control(c) else c for c in text))


def put_table(rows: Iterable[Sequence[str]], right: Collection[int] = (), indent: str = "") -> None:
    """Print columns, each as wide as its widest cell.

    Args:
        right: columns that are aligned at their right end.
    """
    cells = [[escape_for_terminal(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            " " * (width - columns(cell)) + cell if i in right else cell + " " * (width - columns(cell))
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        put((indent + "  ".join(padded)).rstrip())


def in_size(count: int) -> str:
    """Bytes in words: ``12.3 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def is_control(char: str) -> bool:
    """Whether a terminal would obey ``char``, or would hide or reorder text by it."""
    return char not in _KEPT and unicodedata.category(char) in _OBEYED


def sign(char: str) -> str:
    """``char``, or what is shown in its place."""
    if not is_control(char):
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 32 else "␡" if code == 127 else f"<U+{code:04X}>"


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _escaped(char: str) -> str:
    """As JSON spells it: beyond 16 bits in two halves."""
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
