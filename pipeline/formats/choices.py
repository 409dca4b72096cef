"""Which side a verdict means: by the columns' own names first, then by the words that people use for sides.

A word is never read by its last character alone: ``response_1`` is the second of ``response_0`` and
``response_1``, and the first of ``answer_1`` and ``answer_2``. Where names and words disagree, nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from pipeline.base.records import Choice
from pipeline.formats.judged import Refused, Unclear, absent

Meaning = Literal["a", "b", "tie", "both_bad", "skip"]
"""What ``choices: {their value: ...}`` may map a value to; ``skip`` leaves the row out, and counts it."""

_TIE = {
    *("tie", "ties", "tied", "draw", "equal", "same", "thesame", "aboutthesame", "nopreference"),
    *("bothequal", "equallygood", "bothgood", "tiebothgood"),
}
_TIE_OF_MT_BENCH = re.compile(r"\s*\[\[\s*[cC]\s*\]\]\s*")
_BOTH_BAD = {"bothbad", "tiebothbad", "botharebad", "equallybad"}
_KIND = "(?:model|completion|response|answer|output|candidate|option|text|assistant|summary|side)"
_WINS = "(?:(?:is)?(?:much|slightly|significantly|clearly)?(?:better|best|preferred)|wins|won|win)?"
_SIDE = re.compile(
    rf"(?:{_KIND}(?P<kind>a|b|left|right|first|second|1|2)|(?P<bare>a|b|left|right|first|second)){_WINS}"
)
_SIDES = {"a": 0, "left": 0, "first": 0, "1": 0, "b": 1, "right": 1, "second": 1, "2": 1}
_NUMBERED = re.compile(rf"{_KIND}(0)")
_COMPARED = re.compile(r"([^<>=~≈]+?)\s*(>+|<+|={1,2}|~=?|≈)\s*([^<>=~≈]+)")
_DOUBTED = re.compile(r"\W*[!~¬−–—-].*|.*([-−–—]\W*|\?.*)")
"""A word with a sign that may turn it round (``!A``, ``-A``, ``A-``) or puts it in doubt (``A?``)."""
_TOKEN = re.compile(r"[0-9]+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
_ORDERED = (("0", "1"), ("1", "2"), ("a", "b"), ("left", "right"), ("first", "second"))
_CLASSES = ({"0", "1", "2"}, {"a", "b"}, {"left", "right"}, {"first", "second"})
_ASCII_PUNCTUATION = bytes(c for c in range(128) if not chr(c).isalnum())
_LONGEST = 60
_AB: tuple[Choice, Choice] = ("a", "b")
_WORDS = "a/b, left/right, first/second, model_a/model_b, response_1/response_2, A>B, tie, both_bad"
_MAP = "Say what the values mean:  choices: {%s: a, ...: b}  (a, b, tie, both_bad, or skip)."


def verdict(
    value: object, name: str, names: tuple[str, str], choices: Mapping[str, str], ordered: bool = True
) -> Choice:
    """The side that a cell means.

    Args:
        name: of the column, for messages.
        names: what the two completions are called in the file, A's first.
        choices: the user's own meanings; where there are any, no other value is taken.
        ordered: whether it is known which of ``names`` is the first (or left) one. Where it is not, a value has
            to name a column.
    Raises:
        Refused: a word that is no side.
        Unclear: a number or a word that contradicts the names, so that other rows are in doubt too.
    """
    if absent(value) or (isinstance(value, str) and not value.strip()):
        if "" in choices:
            return _mapped("", name, choices)
        raise Refused(f"no {name}")
    if not isinstance(value, (str, int, float, Decimal)):
        raise Refused(f"{name} is not text", detail=f"it is {shown(value)}")
    word = spelled(value)
    if choices:
        return _mapped(word, name, choices)
    if re.fullmatch(r"[+-]?[0-9.]+(?:e[+-]?[0-9]+)?", word):
        return _numbered(word, name, names)
    choice = _of_word(word, name, names, ordered)
    if choice is None:
        raise Refused(f"unknown {name}", detail=f"the value is {shown(value)}; {accepted(names, choices)}")
    return choice


def accepted(names: tuple[str, str], choices: Mapping[str, str]) -> str:
    """The values that are accepted as a verdict, as a sentence."""
    if choices:
        return "choices names " + ", ".join(choices)
    return (
        f"accepted are {names[0]}, {names[1]}; {_WORDS}; or map the values, as in  choices: {{0: a, 1: b, 2: tie}}"
    )


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    said = str(value)
    return f'"{said[:_LONGEST]}{"..." if len(said) > _LONGEST else ""}"'


def spelled(value: object) -> str:
    """One spelling of a value: 1, +1, 1.0 and "1.0" are ``1``, True is ``true``; a word stays, less blanks.

    Unicode's ways to write one letter (``ü`` as one character or as two, the wide ``Ａ``) are one.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    word = unicodedata.normalize("NFKC", str(value)).strip()
    if word.lower() in ("true", "false"):
        return word.lower()
    return re.sub(r"^\+?(-?[0-9]+)(\.0*)?$", r"\1", word)


def plain_word(word: str) -> str:
    """A word without case, blanks and punctuation: ``Response-1`` and ``response_1`` are the same."""
    if word.isascii():  # the same in a tenth of the time
        return word.lower().encode("ascii").translate(None, _ASCII_PUNCTUATION).decode("ascii")
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", word).casefold())


def known_side(said: str) -> Choice | None:
    """A, B, a tie or both bad, from the words people use for them; None for any other.

    A bare ``1`` is none of them: where others write 0 and 1 it would be the second one.
    """
    word = plain_word(said)
    if word in _TIE or (word == "c" and _TIE_OF_MT_BENCH.fullmatch(said)):
        return "tie"
    if word in _BOTH_BAD:
        return "both_bad"
    match = _SIDE.fullmatch(word)
    return None if match is None else _AB[_SIDES[match["kind"] or match["bare"]]]


def tokens(name: str) -> list[str]:
    """A name's words and numbers, small: ``responseA_1`` has response, a and 1."""
    return [token.lower() for token in _TOKEN.findall(name)]


def apart(one: str, other: str) -> tuple[str, str] | None:
    """The only difference of two names, where it is a number, a letter, or first, left ...: (0, 1), (a, b).

    ``None`` where they differ in more than that: ``gpt2`` and ``tuned``.
    """
    first, second = tokens(one), tokens(other)
    if len(first) != len(second):
        return None
    differing = [(x, y) for x, y in zip(first, second, strict=True) if x != y]
    if len(differing) != 1:
        return None
    x, y = differing[0]
    if len(x) > 1 and x[:-1] == y[:-1] and re.fullmatch(_KIND, x[:-1]):  # responsea, responseb
        x, y = x[-1], y[-1]
    telling = (x.isdigit() and y.isdigit()) or (len(x) == len(y) == 1) or (x, y) in _ORDERED or (y, x) in _ORDERED
    return (x, y) if telling else None


def in_order(one: str, other: str) -> bool | None:
    """Whether ``one`` comes before ``other``, which differ in 0/1, 1/2, a/b, left/right or first/second alone.

    None where the names do not say.
    """
    found = apart(one, other)
    if found in _ORDERED:
        return True
    return False if found is not None and found[::-1] in _ORDERED else None


def _mapped(word: str, name: str, choices: Mapping[str, str]) -> Choice:
    aliases = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # YAML reads a bare yes as true
    meanings = {spelled(theirs): meaning for theirs, meaning in choices.items()}
    folded = {theirs.casefold(): meaning for theirs, meaning in meanings.items()}
    low = word.casefold()
    meaning = meanings.get(word) or folded.get(low) or folded.get(aliases.get(low, low))
    if meaning is None:
        raise Refused(f"unknown {name}", detail=f"the value is {shown(word)}; {accepted(('', ''), choices)}")
    if meaning == "skip":
        raise Refused(f"{name} is {shown(word)}, which choices leaves out", broken=False)
    if meaning == "a":
        return "a"
    return "b" if meaning == "b" else "tie" if meaning == "tie" else "both_bad"


def _numbered(word: str, name: str, names: tuple[str, str]) -> Choice:
    """0 and 1, or 1 and 2, where the columns bear these numbers."""
    numbers = apart(*names)
    if numbers is None or set(numbers) not in ({"0", "1"}, {"1", "2"}):
        raise Refused(f"unknown {name}", detail=f"the value is {word}; {accepted(names, {})}")
    if word in numbers:
        return "a" if word == numbers[0] else "b"
    # Were the row merely left out, the others would be read by numbers that mean something else.
    raise Unclear(
        f'{name} is {word}, which is no number of the columns "{names[0]}" and "{names[1]}".', _MAP % word
    )


def _of_word(word: str, name: str, names: tuple[str, str], ordered: bool) -> Choice | None:
    named = _named(word, names)
    if named is not None:
        return _AB[named]
    if _DOUBTED.fullmatch(word):
        return None
    compared = _COMPARED.fullmatch(word.strip("[] "))
    if compared is not None:
        return _compared(compared, name, names, ordered)
    found = known_side(word)
    if found in ("tie", "both_bad"):
        return found
    if found is None and not _NUMBERED.fullmatch(plain_word(word)):
        return None
    if not ordered:
        raise Unclear(
            f'{name} is {shown(word)}, and nothing says which of "{names[0]}" and "{names[1]}" that is.',
            f"Say which comes first:  columns: {{completion_a: {names[0]}, completion_b: {names[1]}}}  "
            "(of a Label Studio project also  label_config: project.xml).",
        )
    if found is None or _contradicted(word, found, names):
        raise Unclear(
            f'{name} is {shown(word)}, but the columns are "{names[0]}" (A) and "{names[1]}" (B): which is meant?',
            _MAP % word,
        )
    return found


def _named(word: str, names: tuple[str, str]) -> int | None:
    """0 or 1 where the word is the name of one of the two, as it stands or but for case and punctuation."""
    for spell in (spelled, _folded, *(() if _DOUBTED.fullmatch(word) else (plain_word,))):
        meant = [i for i, name in enumerate(names) if spell(name) == spell(word) != ""]
        if len(meant) == 1:
            return meant[0]
    return None


def _folded(word: str) -> str:
    return spelled(word).casefold()


def _compared(match: re.Match[str], name: str, names: tuple[str, str], ordered: bool) -> Choice | None:
    first: Choice | None = _of_word(match[1], name, names, ordered)
    second: Choice | None = _of_word(match[3], name, names, ordered)
    if {first, second} != {"a", "b"}:
        return None
    if match[2][0] in "=~≈":
        return "tie"
    return first if match[2][0] == ">" else second


def _contradicted(word: str, side: Choice, names: tuple[str, str]) -> bool:
    """Whether the difference of the columns' names contradicts a word for the first or the second one."""
    marks = apart(*names)
    if marks is None:
        return False
    if in_order(*names) is False:
        return True  # A is the second by its name: what "first" means is anybody's guess
    match = _SIDE.fullmatch(plain_word(word))
    mark = (match["kind"] or match["bare"]) if match else ""
    for kind in _CLASSES:
        if mark in kind and kind & set(marks):
            return mark not in marks or _AB[marks.index(mark)] != side
    return False
