"""Split a text into sentences, in any script and without punctuation too.

Rules on marks and blanks alone, the same for all texts: for counting it matters more that equal sentences are cut
alike than that a rare abbreviation is seen through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# A line is a unit of its own: an item of a list, a line of code or verse, a turn of a conversation.
_LINES = re.compile(r"(?:[\n\r\v\f\x85\u2028\u2029]|<br\s*/?>)+", re.IGNORECASE)
_CLOSING = "\"'”’»›)\\]}」』）】〉》"
# Marks that end a sentence by themselves (of East and South Asia, Khmer and Ethiopic), and those that need a blank
# after them, for "3.5", "a.b" and "v2!=v3" are no ends.
_END = re.compile(
    rf"[。！？｡．।॥။៕።]+[。！？｡!?…{_CLOSING}]*"
    rf"|[.!?…؟۔։‼⁇⁈⁉]+[.!?…{_CLOSING}]*(?=\s)"
)
_NEVER = frozenset(
    {"mr", "mrs", "ms", "dr", "prof", "st", "vs", "cf", "fig", "approx", "ca", "e.g", "i.e", "z.b", "d.h", "bzw"}
)
_SELDOM = frozenset(
    {"etc", "inc", "ltd", "co", "corp", "jr", "sr", "al", "a.m", "p.m", "u.s", "u.k", "no", "vol", "usw"}
)
_LAST_WORD = re.compile(r"(?:^|[\s(\"'“‘«])([^\W\d_](?:[\w.]*\w)?)\.$")
_MARKER = re.compile(r"^(?:\(?\d{1,3}[.):]|[-*•–—>#]+)\s+")
_NUMBER = re.compile(r"\(?\d{1,3}[.)]")
_TRIM = re.compile(rf"^[\"'“‘«‹(\[{{「『（【]+|[.!?…؟۔։‼⁇⁈⁉。！？｡．।॥။៕።{_CLOSING}]+$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order; without any end mark its lines are. Empty of a blank text.

    A piece without a letter or digit of its own ("1.", "-", "!!") stays with its neighbour.
    """
    return [sentence for line in _LINES.split(text) for sentence in _of_line(line.strip())]


def closing(text: str, ended: bool = True) -> str:
    """The last sentence; "" of a blank text.

    Args:
        ended: False if the length limit cut the text; the last whole sentence is then taken, if there is one, as
            cuts leave different parts of the same sentence.
    """
    return last_of(sentences(text), ended)


def last_of(pieces: Sequence[str], ended: bool = True) -> str:
    """:func:`closing` of a text whose :func:`sentences` are ``pieces``."""
    if not ended and len(pieces) > 1 and not _END.search(pieces[-1] + " "):
        return pieces[-2]
    return pieces[-1] if pieces else ""


def same(sentence: str) -> str:
    """The key under which sentences that a reader would call the same are equal.

    Case, blanks, surrounding quotes, end marks and the number or dash of a list do not count.
    """
    plain = " ".join(unicodedata.normalize("NFC", sentence).casefold().split())
    bare = _TRIM.sub("", _MARKER.sub("", plain)).strip()
    return bare or plain


def _of_line(line: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for match in _END.finditer(line):
        if _is_end(line[start : match.end()], line[match.end() :].lstrip(), match[0]):
            pieces.append(line[start : match.end()].strip())
            start = match.end()
    pieces.append(line[start:].strip())
    return _joined([piece for piece in pieces if piece])


def _is_end(piece: str, rest: str, mark: str) -> bool:
    """Whether a mark ends a sentence: an abbreviation's dot does not, nor do dots that a small letter follows."""
    if not rest:
        return True
    if mark in ("...", "…") and rest[0].islower():
        return False
    last = _LAST_WORD.search(piece)
    if last is None:
        return True
    word = last[1]
    if word.lower() in _NEVER or (len(word) == 1 and word.isupper() and word != "I" and rest[0].isupper()):
        return False
    return not (word.lower() in _SELDOM and not rest[0].isupper())


def _joined(pieces: list[str]) -> list[str]:
    """Pieces without letters and digits, and bare list numbers, put to the next one, or to the last."""
    joined: list[str] = []
    held = ""
    for piece in pieces:
        whole = f"{held} {piece}" if held else piece
        held = ""
        if not any(c.isalnum() for c in piece) or _NUMBER.fullmatch(whole):
            held = whole
        else:
            joined.append(whole)
    if held:
        joined[-1:] = [f"{joined[-1]} {held}"] if joined else [held]
    return joined
