"""Split a text into the words that metrics count, in any script, without stemming or stop words.

Scripts that put no blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese ...) are split into
characters: that needs no dictionary, and every count goes on meaning something. Up to the next blank, whole
clauses of theirs would be single words, each of them seen once.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise

# Of the Unicode line breaking algorithm (UAX #14, revision 53) the classes ID, CJ (ideographs, kana) and SA
# (scripts of South East Asia, whose words a dictionary has to find): letters and digits, no punctuation.
_NO_BLANKS = (
    *((0x2E80, 0x2FD5), (0x3005, 0x3007), (0x3021, 0x302F), (0x3031, 0x3035), (0x3038, 0x303C)),  # Han
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAD9), (0x20000, 0x323AF)),
    *((0x3041, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),  # kana
    *((0x1AFF0, 0x1B16F), (0x3105, 0x312F), (0x31A0, 0x31BF)),  # kana for phonetics and old books, Bopomofo
    *((0x0E01, 0x0E3A), (0x0E40, 0x0E4E), (0x0E50, 0x0E59), (0x0E81, 0x0EDF)),  # Thai, Lao
    *((0x1000, 0x1049), (0x1050, 0x109F), (0xA9E0, 0xA9FE), (0xAA60, 0xAA7F)),  # Burmese
    *((0x1780, 0x17D3), (0x17D7, 0x17D7), (0x17DC, 0x17E9)),  # Khmer
    *((0x1950, 0x19DA), (0x1A20, 0x1A99), (0xAA80, 0xAADD)),  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
)
_JOINERS = "\u200c\u200d"  # inside words of Persian and Indic scripts, and inside emoji

# Below this share the split into characters is not reported: a name may be in another script.
WORTH_TELLING = 0.01


def words(text: str) -> list[str]:
    """Lower-cased words and punctuation marks in their order; of scripts without blanks, single characters.

    An accent, vowel sign or joiner belongs to the letter before it, and texts that differ only in how Unicode
    composes their letters have the same words (NFC).
    """
    return _pattern().findall(unicodedata.normalize("NFC", text.lower()))


def bag_of_words(text: str) -> list[str]:
    """:func:`words`, and of scripts without blanks also the pairs of neighbours.

    Most words of Chinese are one or two characters long; for retrieval the two together do as well as a
    dictionary's words (Nie et al. 2000, "On the use of words and n-grams for Chinese information retrieval").
    """
    tokens = words(text)
    if text.isascii():
        return tokens
    return tokens + [a + b for a, b in pairwise(tokens) if is_character(a) and is_character(b)]


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All runs of ``n`` :func:`words`."""
    tokens = words(text)
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def repetition(sequences: Iterable[Sequence[Hashable]], n: int = 4) -> float | None:
    """Mean over sequences of the share of their n-grams that repeat an earlier one; None where all are shorter.

    seq-rep-n of Welleck et al. 2019 (arXiv:1908.04319).
    """
    grams = [list(zip(*(sequence[i:] for i in range(n)), strict=False)) for sequence in sequences]
    shares = [1 - len(set(of_one)) / len(of_one) for of_one in grams if of_one]
    return sum(shares) / len(shares) if shares else None


def units(text: str) -> list[str]:
    """Pieces between blanks, and single characters of scripts without blanks: the unit of a length in words."""
    return _units().findall(text)


def opening(text: str, n: int) -> str:
    """The first ``n`` :func:`units` of a text, with all white space between them; "" of a blank text."""
    ends = [match.end() for match, _ in zip(_units().finditer(text), range(n), strict=False)]
    return text[: ends[-1]].lstrip() if ends else ""


def is_character(word: str) -> bool:
    """Whether a word is a character of a script without blanks."""
    return not word.isascii() and _character().match(word) is not None


def character_share(texts: Iterable[str]) -> float:
    """The share of words, marks left out, that are single characters of scripts without blanks; 0 of no words."""
    split, total = 0, 0
    for text in texts:
        tokens = [word for word in words(text) if word[0].isalnum()]
        total += len(tokens)
        split += 0 if text.isascii() else sum(map(is_character, tokens))
    return split / total if total else 0.0


def how_split(texts: Sequence[str]) -> str | None:
    """A sentence for a report if texts were split into characters, else None."""
    share = character_share(texts)
    if share < WORTH_TELLING:
        return None
    amount = "Words" if share > 1 - WORTH_TELLING else f"Of the words, {100 * share:.0f} %"
    return f"{amount} are single characters here: their script puts no blanks between words."


@functools.cache
def _pattern() -> re.Pattern[str]:
    """A character without blanks, a word of other letters and digits, or any other mark, each with its signs."""
    scripts, signs = _scripts(), _signs()
    letters, after = rf"[^\W{scripts}]", rf"[{signs}{_JOINERS}]"
    return re.compile(
        rf"[{scripts}][{signs}]*"
        rf"|{letters}+(?:{after}+{letters}*)*"
        rf"|[^\w\s](?:[{signs}]|\u200d[^\w\s])*"
    )


@functools.cache
def _units() -> re.Pattern[str]:
    return re.compile(rf"[{_scripts()}][{_signs()}]*[^\w\s]*|[^\s{_scripts()}]+")


@functools.cache
def _character() -> re.Pattern[str]:
    return re.compile(f"[{_scripts()}]")


def _scripts() -> str:
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in _NO_BLANKS)


@functools.cache
def _signs() -> str:
    """Combining marks, as ranges of a character class: :mod:`re` knows no Unicode categories."""
    # Past the symbols of plane 1 there are only the variation selectors of plane 14.
    codes = [*range(0x300, 0x1F000), *range(0xE0100, min(0xE01F0, sys.maxunicode))]
    marks = [code for code in codes if unicodedata.category(chr(code)).startswith("M")]
    begins = [code for i, code in enumerate(marks) if i == 0 or marks[i - 1] != code - 1]
    ends = [code for i, code in enumerate(marks) if i + 1 == len(marks) or marks[i + 1] != code + 1]
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in zip(begins, ends, strict=True))
