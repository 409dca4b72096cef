"""Text that others wrote, on one line of a terminal: it keeps to its columns, and nothing in it is obeyed.

Colours, keys and pages of text are left out.
"""

from __future__ import annotations

import sys
import unicodedata

# Joiners stay: Persian, Indic scripts and emoji are written with them.
_KEPT = frozenset("\u200c\u200d")
# Controls, formats (which reorder text and hide it), lone surrogates, line and paragraph separators.
_OBEYED = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])


def visible(text: str) -> str:
    """``text`` on one line, with a sign for whatever a terminal would obey: ``␊`` for a newline, ``<U+202E>``."""
    return "".join(map(sign, text))


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


def show(line: str) -> None:
    """Print ``line``; what the terminal's encoding lacks becomes ``?``, as a sample must not end a training."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), flush=True)


def obeyed(char: str) -> bool:
    """Whether a terminal would obey ``char``, or would hide or reorder text by it."""
    return char not in _KEPT and unicodedata.category(char) in _OBEYED


def sign(char: str) -> str:
    """``char``, or what is shown in its place."""
    if not obeyed(char):
        return char
    code = ord(char)
    return chr(0x2400 + code) if code < 32 else "␡" if code == 127 else f"<U+{code:04X}>"


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
