"""The course of a reward model's score over a completion, as marked text and a small line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FOLDED = 320
"""Characters of a long text that are shown at first."""
WIDTH, HEIGHT = 150.0, 34.0
WEAK, STRONG = 0.25, 0.6
"""From these shares of the largest change on, a change is marked weakly or strongly."""

_MARKS = {0: "", 1: "up", 2: "up strong", -1: "down", -2: "down strong"}


@dataclass(frozen=True)
class Piece:
    """A token as text, the score of the text up to its end, and how its change is marked."""

    text: str
    score: float
    change: float
    mark: str

    @property
    def word(self) -> str:
        """The text without the space before it."""
        return self.text.lstrip() or self.text

    @property
    def space(self) -> str:
        return self.text[: len(self.text) - len(self.word)]


@dataclass(frozen=True)
class Course:
    """What is drawn: the marked tokens, and a line from the prompt alone to the whole text.

    Attributes:
        points, level: of the line, and the height of the score of the prompt alone, in WIDTH x HEIGHT.
        label: the line in words.
    """

    pieces: Sequence[Piece]
    points: str
    level: float
    label: str

    @property
    def shown(self) -> Sequence[Piece]:
        """The pieces that are shown at first; the rest is folded."""
        return self.pieces[: self._fold]

    @property
    def rest(self) -> Sequence[Piece]:
        return self.pieces[self._fold :]

    @property
    def length(self) -> int:
        """Characters."""
        return sum(len(piece.text) for piece in self.pieces)

    @property
    def _fold(self) -> int:
        if self.length <= 1.25 * FOLDED:
            return len(self.pieces)
        length, last = 0, 0
        for number, piece in enumerate(self.pieces):
            if length and piece.text[:1].isspace():
                last = number
            length += len(piece.text)
            if length > FOLDED:
                return last or number
        return len(self.pieces)


@dataclass(frozen=True)
class Scores:
    """The score of the prompt alone, and after every token; see :mod:`pipeline.scoring.token_scores`."""

    before: float
    pieces: Sequence[str]
    scores: Sequence[float]


def changes_of(scores: Scores) -> list[float]:
    """What each piece added to the score before it."""
    return [after - before for after, before in zip(scores.scores, [scores.before, *scores.scores], strict=False)]


def course_of(scores: Scores, beside: Scores | None = None) -> Course | None:
    """The course of a score, drawn in one scale with the one ``beside`` it; None of a text without tokens."""
    if not scores.scores:
        return None
    both = [scores, *([] if beside is None else [beside])]
    every = [value for each in both for value in (each.before, *each.scores)]
    low, high = min(every), max(every)
    largest = max(abs(change) for each in both for change in changes_of(each))
    span = high - low or 1.0

    def height(score: float) -> float:
        return round(2 + (HEIGHT - 4) * (1 - (score - low) / span), 1)

    step = WIDTH / len(scores.scores)
    values = [scores.before, *scores.scores]
    points = " ".join(f"{i * step:.1f},{height(value)}" for i, value in enumerate(values))
    columns = zip(scores.pieces, scores.scores, changes_of(scores), strict=True)
    pieces = [Piece(text, score, change, mark_of(change, largest)) for text, score, change in columns]
    label = (
        f"score from {scores.before:.2f} for the prompt alone to {scores.scores[-1]:.2f}, "
        f"lowest {min(values):.2f}, highest {max(values):.2f}"
    )
    return Course(pieces, points, height(scores.before), label)


def mark_of(change: float, largest: float) -> str:
    """``up``, ``down``, each also with ``strong``, or nothing, by the share of the largest change."""
    share = abs(change) / largest if largest else 0.0
    strength = 2 if share >= STRONG else int(share >= WEAK)
    return _MARKS[strength if change > 0 else -strength]
