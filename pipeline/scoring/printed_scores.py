"""Print a score's course over a completion, and attributions, as lines with what they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.base.terminal_text import columns, cut, escape_for_terminal
from pipeline.scoring.attribution import Attribution
from pipeline.scoring.token_scores import TokenScores

WIDTH = 28
BAR = 12
"""Characters of the longest bar."""

NOT_CAUSES = (
    "A token's change is what the score did there: the model was trained on whole texts, and a cut text is none. "
    "It is not why the text got its score, and what a later token undoes is in none of the changes."
)
REFERENCE = (
    "An attribution is relative to the reference text, which is no text that anybody writes: another reference "
    "gives other numbers. It says what the model reacts to, not whether it should."
)


def lines(model: str, course: TokenScores, attribution: Attribution | None = None) -> Iterator[str]:
    """The scores as lines of a terminal."""
    yield f"{model}: score {course.score:.3f}; of the prompt alone {course.before:.3f}"
    yield ""
    yield from course_lines(course)
    if attribution is not None:
        yield ""
        yield from attribution_lines(attribution)


def course_lines(course: TokenScores) -> Iterator[str]:
    """A table of the tokens, and what it is not."""
    yield f"{'token':{WIDTH}}{'score':>9}{'change':>9}"
    yield from _table(course.pieces, course.scores, course.changes)
    yield ""
    yield NOT_CAUSES


def attribution_lines(attribution: Attribution) -> Iterator[str]:
    """A table of the tokens, their sum, and what it is not."""
    tokens = [*attribution.prompt, *attribution.completion]
    yield f"{'token':{WIDTH}}{'attribution':>18}"
    yield from _table([piece for piece, _ in tokens], None, [value for _, value in tokens])
    yield ""
    yield from about(attribution)


def about(attribution: Attribution) -> Iterator[str]:
    """The sum of attributions beside what it should be, and what they are not."""
    total = attribution.score - attribution.reference + attribution.residual
    yield (
        f"sum {total:+.4f}; score {attribution.score:.4f} less {attribution.reference:.4f}, that of the reference "
        f"text (padding for every token): {attribution.score - attribution.reference:+.4f}; "
        f"residual {attribution.residual:+.4f} with {attribution.steps} steps"
    )
    if not attribution.adds_up:
        yield "The attributions do not add up to the difference: do not read them."
    yield REFERENCE


def _table(pieces: Sequence[str], scores: Sequence[float] | None, changes: Sequence[float]) -> Iterator[str]:
    largest = max((abs(change) for change in changes), default=0.0) or 1.0
    shown_scores = [""] * len(changes) if scores is None else [f"{score:.3f}" for score in scores]
    for piece, score, change in zip(pieces, shown_scores, changes, strict=True):
        # Tokens come from texts: they may hold control characters, or be long.
        shown = cut(escape_for_terminal(repr(piece)[1:-1]), WIDTH - 2)
        bar = ("+" if change > 0 else "-") * round(BAR * abs(change) / largest)
        yield f"{shown}{' ' * (WIDTH - columns(shown))}{score:>9}{change:>+9.3f}  {bar}".rstrip()
