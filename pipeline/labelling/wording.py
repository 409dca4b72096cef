"""Format choices, numbers and times for the operator's page."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.labelling.items import Mode, ranking
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import UNKNOWN, interval

LETTERS = "ABCDEFGHI"
"""Names of an item's completions on the operator's page."""

CHOICE_WORDS = {
    "a": "A is better",
    "b": "B is better",
    "tie": "equally good",
    "both_bad": "both bad",
    "like": "good",
    "dislike": "bad",
}


def choice_words(choice: str, mode: Mode) -> str:
    """A canonical choice in words: ``A is better``, ``4 of 5``, ``C > A = B``."""
    if mode == "ranking":
        return to_letters(choice)
    return f"{choice} of 5" if mode == "rating" else CHOICE_WORDS[choice]


def to_letters(choice: str) -> str:
    """``2>0=1`` as ``C > A = B``."""
    return " > ".join(" = ".join(LETTERS[i] for i in rank) for rank in ranking(choice))


def from_letters(text: str) -> str:
    """The reverse of :func:`to_letters`; accepts spaces and lower case. Raises ValueError for any other text."""
    letters = "".join(text.upper().split())
    if not letters or any(c not in f"{LETTERS}>=" for c in letters):
        raise ValueError("a ranking is written like B > A = C")
    return "".join(str(LETTERS.index(c)) if c in LETTERS else c for c in letters)


def estimate(share: Estimate | None) -> tuple[str, str]:
    """(value, interval): a dash for no value, empty for no interval."""
    value, _, limits = interval(share).partition(" ")
    return value, limits


def percent(share: Estimate | None) -> str:
    return f"{100 * share.value:.0f} %" if has_value(share) else UNKNOWN


def seconds(ms: float | None) -> str:
    """The time of an answer, in seconds or minutes."""
    if ms is None:
        return UNKNOWN
    return f"{ms / 1000:.1f} s" if ms < 9950 else f"{ms / 1000:.0f} s" if ms < 119_500 else f"{ms / 60000:.0f} min"


def ago(at: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 time was, in one unit."""
    if at is None:
        return "never"
    gone = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if gone >= size:
            return f"{gone // size:.0f} {unit} ago"
    return "now"


def excludes(share: Estimate | None, value: float) -> bool:
    return share is not None and share.has_limits and not share.low <= value <= share.high
