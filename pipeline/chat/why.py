"""Answer "Why this score?" of an answer that its signed ticket names, as far as the asker may see the score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.base.errors import DataError
from pipeline.chat.asking import Talk
from pipeline.chat.exchange import Shown, read_ticket
from pipeline.chat.explanations import NAME, Explanation
from pipeline.chat.votes import has_chosen, malformed
from pipeline.labelling.log.log import Log
from pipeline.scoring.attribution import Attribution
from pipeline.scoring.printed_scores import NOT_CAUSES, about, attribution_lines, course_lines
from pipeline.scoring.token_scores import TokenScores
from pipeline.texts.score_course import course_of, mark_of


class _Why(BaseModel):
    """What a page sends; see :class:`pipeline.chat.votes._Opinion`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    exchange: str
    signature: str
    place: Literal[0, 1]
    attribution: bool = False


def ask_why(talk: Talk, log: Log, who: str, values: Mapping[str, Any]) -> Explanation:
    """Ask how the score of one answer came about. The texts are those of the ticket.

    Raises:
        DataError: malformed, a forged exchange, one of other models, a score that is hidden or that is not there;
            or as :meth:`pipeline.chat.engine.Engine.explain`.
    """
    try:
        why = _Why.model_validate(values)
    except ValidationError as err:
        raise malformed(NAME, err) from None
    exchange = read_ticket(why.exchange, why.signature, who, log.people)
    if exchange.blind and not has_chosen(log, who, Shown.of(exchange, log.people)):
        raise DataError(NAME, "is hidden until you have chosen between the two answers.", "Choose first.")
    score = exchange.scores[why.place]
    if score is None:
        raise DataError(NAME, "this answer has none.")
    answered, served = exchange.answerers[1], talk.served.answerers[1]
    if answered.id != served.id:
        raise DataError(NAME, f"it is by {answered.ref}, and {served.ref} is served now.", "Ask again.")
    completion = exchange.completions[why.place]
    return talk.engine.explain(who, exchange.prompt, completion, score, why.attribution)


def printed(result: TokenScores | Attribution) -> Iterator[str]:
    """An explanation as lines of a terminal."""
    return course_lines(result) if isinstance(result, TokenScores) else attribution_lines(result)


def drawn(result: TokenScores | Attribution) -> dict[str, Any]:
    """An explanation as a page draws it: tokens with their marks, and sentences.

    Tokens are (text, score after it, change, mark); of attributions there is no score.
    """
    if isinstance(result, TokenScores):
        course = course_of(result)
        pieces = [] if course is None else [(p.text, p.score, p.change, p.mark) for p in course.pieces]
        line = {} if course is None else {"points": course.points, "level": course.level, "label": course.label}
        return {"completion": pieces, **line, "sentences": [NOT_CAUSES]}
    largest = max((abs(value) for _, value in (*result.prompt, *result.completion)), default=0.0)

    def marked(tokens: Sequence[tuple[str, float]]) -> list[tuple[str, None, float, str]]:
        return [(text, None, value, mark_of(value, largest)) for text, value in tokens]

    return {
        "prompt": marked(result.prompt),
        "completion": marked(result.completion),
        "sentences": list(about(result)),
    }
