"""Find telephone numbers: with a + or 00, as in North America, with a trunk 0, or after a word for calling.

Of other countries' numbers without any of these nothing tells them from other numbers: libraries that know the
countries' plans have to be told the country.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.texts.personal_data.checksums import digits_of

Span = tuple[int, int]

_EXTENSION = r"(?:[ ]?(?:x|ext\.?[ ]?|\#)[0-9]{1,6})"
_NUMBER = re.compile(
    rf"""(?<![\w+\#.,/-])(?<![0-9][ :])
    (?P<dialled>(?:\((?=\+?[0-9]{{1,5}}\)))?\+?[0-9][0-9 ().\u2011/-]{{5,22}}[0-9]){_EXTENSION}?
    (?![\w\#%-]|[.,/:][0-9]|[ ][0-9])""",
    re.VERBOSE,
)
_CALLED = re.compile(
    r"(?:\b(?:tel|t[ée]l|phone|telephone|telefon|mobile?|mobil|cell|fax|call|text|ring|dial|reach|whatsapp|sms|handy)"
    r"\b[^0-9\n]{0,16})$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}[./-][0-9]{1,2}[./-][0-9]{1,2}"
)
_NORTH_AMERICA = re.compile(
    r"(?:(?:001|1)[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
)
_NATIONAL = re.compile(r"(?:\(0[1-9][0-9]{0,4}\)|0[1-9][0-9]{0,4}[ ./-])[0-9 ./-]+")


def phones(text: str) -> Iterator[Span]:
    """The places of telephone numbers."""
    for match in _NUMBER.finditer(text):
        if _is_dialled(match["dialled"], text[: match.start()][-28:]):
            yield match.span()


def _is_dialled(number: str, before: str) -> bool:
    digits = digits_of(number)
    if _DATE.search(number) or "  " in number or "--" in number or number.count("(") != number.count(")"):
        return False
    groups = re.findall(r"[0-9]+", number.replace("(0)", ""))
    if number.lstrip("(").startswith("+"):
        most = 13 if len(groups) == 1 else 15
        return 8 <= len(digits) <= most and digits[0] != "0" and len(groups[-1]) > 1
    if _NORTH_AMERICA.fullmatch(number):
        return True
    grouped = 2 <= len(groups) <= 5 and all(len(group) > 1 for group in groups)
    if grouped and (_NATIONAL.fullmatch(number) or number.startswith("00")):
        return (9 if len(groups) < 3 else 8) <= len(digits) <= (12 if digits[1] != "0" else 17)
    return 7 <= len(digits) <= 15 and _CALLED.search(before) is not None
