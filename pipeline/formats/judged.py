"""The judged comparison that a row is read as, and the checks of cells that all formats share."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.records import PERSON_ID, Choice, Comparison, bucket, canonical_json

Row = Mapping[str, Any]

_YES = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}
_TEXT_VERSION = re.compile(r"v?[0-9][0-9A-Za-z._-]*|[0-9a-f]{64}")
TIED_VOTES = ("votes_tie", "votes_ties", "votes_tied", "votes_equal", "votes_same", "votes_draw")
"""Columns that count ties, by the names that people give them."""
MOST_VOTES = 1_000_000
"""That one row may count; a greater number is taken for something else, an id or a time."""
_NOBODY = ("", "nan", "none", "null", "<na>")  # as tables write an empty cell
_WHOLE = re.compile(r"^([0-9]+)\.0$")  # an account's number, in a column with empty cells


@dataclass(frozen=True)
class JudgedRow:
    """A usable row. ``chosen`` and ``rejected`` are merely the first and the second one where ``tie`` is set.

    Attributes:
        both_bad: of a tie: neither is any good.
        annotator: ``p_`` and 10 hex digits, where the row says who chose; see :func:`person`.
        scores: what the annotator gave ``chosen`` and ``rejected``, where that is known.
        votes: how many people the row speaks for, by ``chosen``, ``rejected``, ``tie`` and ``both_bad``; empty
            where it is one judgement.
    """

    prompt: str
    chosen: str
    rejected: str
    tie: bool = False
    margin: float | None = None
    meta: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)
    both_bad: bool = False
    annotator: str | None = None
    scores: tuple[float, float] | None = None
    votes: Mapping[str, int] = field(default_factory=dict[str, int])

    def comparison(self, seed: int) -> tuple[Comparison, Choice]:
        """Blind: which completion is A depends on the two texts and ``seed``, never on which was chosen.

        The same two completions give the same comparison whoever won, so contradicting votes meet in one id.
        """
        first, second = sorted((self.chosen, self.rejected))
        if bucket(canonical_json([self.prompt, first, second]), salt=f"side:{seed}") < 0.5:
            first, second = second, first
        choice: Choice = "a" if first == self.chosen else "b"
        if self.tie:
            choice = "both_bad" if self.both_bad else "tie"
        return Comparison(self.prompt, first, second, self.meta), choice

    def ballots(self, comparison: Comparison, choice: Choice) -> list[tuple[Choice, int]]:
        """(choice, how many made it), in the words of what :meth:`comparison` gave."""
        if not self.votes:
            return [(choice, 1)]
        chosen: Choice = "a" if comparison.completion_a == self.chosen else "b"
        words: dict[str, Choice] = {"chosen": chosen, "rejected": "b" if chosen == "a" else "a"}
        words |= {"tie": "tie", "both_bad": "both_bad"}
        return [(words[word], n) for word, n in self.votes.items() if n]


@dataclass(frozen=True)
class Unusable:
    """A row that is no judged comparison, with the reason it is counted under.

    ``broken`` is False for a row there is nothing wrong with: nobody has answered it, or a filter leaves it out.
    ``detail`` is what the row itself says, for whoever has to mend it; rows are not counted apart by it.
    """

    reason: str
    broken: bool = True
    detail: str = field(default="", compare=False)

    @property
    def line(self) -> str:
        """Reason and detail."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Refused(Exception):
    """Raised by the reader of a format; becomes :class:`Unusable`."""

    def __init__(self, reason: str, broken: bool = True, detail: str = "") -> None:
        self.unusable = Unusable(reason, broken, detail)
        super().__init__(reason)


class Unclear(Refused):
    """Raised where the user has to say how a file is meant: every row of it is in doubt, so none may be skipped.

    Becomes a :class:`pipeline.base.errors.DataError`, whatever ``on_bad_row`` says.
    """

    def __init__(self, fact: str, mend: str) -> None:
        self.fact, self.mend = fact, mend
        super().__init__(fact, detail=mend)


def judged(
    prompt: str,
    completions: tuple[str, str],
    choice: Choice,
    names: tuple[str, str] = ("completion_a", "completion_b"),
    **known: Any,
) -> JudgedRow:
    """The row of a choice between two completions. ``names`` is how a refusal calls them.

    ``scores`` and ``margin`` among ``known`` are those of A and B and of a decided choice; ``votes`` are of chosen
    and rejected.
    """
    check_texts(prompt, *completions, names)
    scores: tuple[float, float] | None = known.pop("scores", None)
    first, second = completions
    if choice == "b":
        first, second = second, first
        scores = scores and (scores[1], scores[0])
    tied = choice in ("tie", "both_bad")
    if tied:
        known.pop("margin", None)
    return JudgedRow(prompt, first, second, tied, both_bad=choice == "both_bad", scores=scores, **known)


def text(value: object, name: str) -> str:
    """``value`` if it is a text. Raises Refused."""
    if not isinstance(value, str):
        raise Refused(f"{name} is not text" if value is not None else f"no {name}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} is not valid Unicode") from None  # half a surrogate pair
    return value


def check_texts(prompt: str, chosen: str, rejected: str, names: tuple[str, str] = ("chosen", "rejected")) -> None:
    """Raises Refused where one of the three is blank, or the completions are equal but for blanks around them."""
    if not (prompt.strip() or chosen.strip() or rejected.strip()):
        raise Refused("empty prompt and completions")
    for name, written in (("prompt", prompt), (names[0], chosen), (names[1], rejected)):
        if not written.strip():
            raise Refused(f"empty {name}")
    if chosen.strip() == rejected.strip():
        raise Refused(f"{names[0]} equals {names[1]}")


def absent(value: object) -> bool:
    """Whether a cell holds nothing; NaN is how pandas writes that."""
    return value is None or value == "" or value != value


def yes(value: object, name: str) -> bool:
    """A cell that says true or false in one of the usual spellings; absent is false. Raises Refused."""
    if absent(value):
        return False
    meaning = _YES.get(str(value).strip().lower())
    if meaning is None:
        raise Refused(f"{name} is not true or false", detail=f'the value is "{str(value)[:60]}"')
    return meaning


def check_consent(row: Row) -> None:
    """Check that the column ``consent`` says yes, or names the version or sha256 of the text agreed to.

    Raises:
        Refused: it says no, or nothing, or something else.
    """
    value = row.get("consent")
    word = str(value).strip()
    if (word in _YES or not _TEXT_VERSION.fullmatch(word)) and not yes(value, "consent"):
        raise Refused("without consent", broken=False)


def number(value: Any, name: str) -> float | None:
    """A finite number, or None where the cell holds nothing. Raises Refused."""
    if absent(value):
        return None
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise Refused(f"{name} is not a number", detail=f'the value is "{str(value)[:60]}"')
    return parsed


def needed_number(row: Row, name: str) -> float:
    """The finite number in the column ``name``. Raises Refused: there is none."""
    value = number(row.get(name), name)
    if value is None:
        raise Refused(f"no {name}")
    return value


def zero_or_one(row: Row, name: str, called: str | None = None) -> bool:
    """Whether the column ``name``, which a refusal calls ``called``, holds 1. Raises Refused: it is not 0 or 1."""
    value = needed_number({called or name: row.get(name)}, called or name)
    if value not in (0, 1):
        raise Refused(f"{called or name} is not 0 or 1")
    return value == 1


def counted_votes(row: Row, said: str, sides: tuple[str, str] = ("chosen", "rejected")) -> dict[str, int]:
    """The votes that a row counts in its columns ``votes_*``, by ``chosen``, ``rejected``, ``tie``, ``both_bad``.

    ``votes_<side>`` for the two sides; ``votes_tie``, ``votes_equal`` and the like; ``votes_both_bad``. Other
    columns of that name (``votes_total``) count nothing.

    Args:
        said: the row's own choice, in these words.
        sides: what the columns call the chosen and the rejected one.
    Returns:
        Nothing where no side was counted, or nobody voted.
    Raises:
        Refused: a cell that is no number of votes; a choice that was outvoted.
    """
    if not any(column.startswith("votes_") for column in row):
        return {}
    named = {f"votes_{sides[0]}": "chosen", f"votes_{sides[1]}": "rejected", "votes_both_bad": "both_bad"}
    named |= dict.fromkeys(TIED_VOTES, "tie")
    counts = {"chosen": 0, "rejected": 0, "tie": 0, "both_bad": 0}
    for column, word in named.items():
        n = number(row.get(column), column) or 0.0
        if not n.is_integer() or not 0 <= n <= MOST_VOTES:
            raise Refused(f"{column} is {n:g}, which is no number of votes")
        counts[word] += int(n)
    if all(absent(row.get(column)) for column in list(named)[:2]) or not any(counts.values()):
        return {}
    first, second = sorted(counts, key=lambda word: -counts[word])[:2]
    if counts[first] > counts[second] and first != said:
        raise Refused(f"its own votes outvote it ({_spelled(counts)})")
    return {word: n for word, n in counts.items() if n}


def _spelled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word.replace('_', ' ')} {n}" for word, n in counts.items() if n)


def is_person(annotator: object) -> bool:
    """Whether this is an id of ours for a person: ``p_`` and 10 hex digits."""
    return isinstance(annotator, str) and PERSON_ID.fullmatch(annotator) is not None


def person(name: Any, salt: str) -> str | None:
    """The pseudonymous id of a name or account; an id of ours stays. None where the cell is empty.

    Blanks around a name do not count, and 7, 7.0 and "7" are one account.

    A pseudonym: who has the names and the salt can compute it.
    """
    if absent(name) or (isinstance(name, str) and name.strip().lower() in _NOBODY):
        return None
    if is_person(name):
        return name
    name = _WHOLE.sub(r"\1", str(name).strip())
    return "p_" + hashlib.sha256(f"{salt}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()[:10]
