"""What people say of answers, as events of the labelling log: thumbs, choices, better answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.base.errors import DataError
from pipeline.chat.exchange import Shown, read_ticket
from pipeline.labelling.items import Item, as_meant
from pipeline.labelling.log.event_checks import EDIT_BYTES
from pipeline.labelling.log.events import Receipt
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import (
    Key,
    Milliseconds,
    NewRetraction,
    NewSourcedEdit,
    NewSourcedVote,
    SourcedEvent,
)

Place = Literal[0, 1]


class _Opinion(BaseModel):
    """What a page sends; ``exchange`` and ``signature`` are a ticket as the server made it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    key: Key
    exchange: str
    signature: str


class Thumb(_Opinion):
    """Up or down for one answer; None takes it back."""

    type: Literal["thumb"]
    place: Place
    choice: Literal["like", "dislike"] | None
    ms: Milliseconds = 0


class Better(_Opinion):
    """The better of the two, by place; None takes it back."""

    type: Literal["better"]
    choice: Literal["a", "b", "tie", "both_bad"] | None
    ms: Milliseconds = 0


class Mended(_Opinion):
    """A better text for one answer; the answer itself takes it back."""

    type: Literal["edit"]
    place: Place
    text: str


_OPINION: TypeAdapter[Thumb | Better | Mended] = TypeAdapter(
    Annotated[Thumb | Better | Mended, Field(discriminator="type")]
)


@dataclass(frozen=True)
class Recorded:
    """The receipt of an opinion, and the exchange that it is about."""

    receipt: Receipt
    shown: Shown


def record(log: Log, who: str, values: Mapping[str, Any]) -> Recorded:
    """Record an opinion; it is on the disk when this returns.

    Raises:
        DataError: malformed, on a forged exchange, or one that cannot be voted on.
        Refused, LogFull: see :meth:`pipeline.labelling.log.log.Log.answer`.
    """
    try:
        opinion = _OPINION.validate_python(values)
    except ValidationError as err:
        raise malformed("opinion", err) from None
    shown = Shown.of(read_ticket(opinion.exchange, opinion.signature, who, log.people), log.people)
    return Recorded(log.answer(*_event(log, who, shown, opinion)), shown)


def malformed(what: str, err: ValidationError) -> DataError:
    """The first thing that is wrong with what a page sent."""
    first = err.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    return DataError(what, f"{field or 'type'}: {first['msg']}.")


def _event(log: Log, who: str, shown: Shown, opinion: Thumb | Better | Mended) -> tuple[Item, SourcedEvent]:
    exchange = shown.exchange
    if isinstance(opinion, Better):
        if not exchange.differs:
            fact = "both wrote the same, or one wrote nothing: there is nothing to choose between."
            raise DataError("opinion", fact, "Ask again.")
        item = shown.pair()
        choice = None if opinion.choice is None else as_meant(opinion.choice, "pairwise", shown.order)
    else:
        item, choice = shown.single(opinion.place), None
        if not item.completions[0].strip():
            raise DataError("opinion", "this answer is empty.", "Ask again.")
    # Names are shown once the pair is decided.
    blind = exchange.blind and not has_chosen(log, who, shown)
    common: dict[str, Any] = {"key": opinion.key, "annotator": who, "item": item.id}
    if isinstance(opinion, Mended):
        text = mended(item.completions[0], opinion.text)
        source = shown.source(opinion.place, blind)
        return item, NewSourcedEdit(**common, completion=0, text=text, source=source)
    if isinstance(opinion, Thumb):
        choice, order, source = opinion.choice, (0,), shown.source(opinion.place, blind)
    else:
        order, source = shown.order, shown.source(None, blind)
    if choice is None:
        return item, NewRetraction(**common)
    return item, NewSourcedVote(**common, choice=choice, order=order, ms=opinion.ms, source=source)


def mended(original: str, text: str) -> str:
    """A better text, beginning with the blank that the original begins with, as a model's tokens do.

    Raises:
        DataError: it is empty, or too long.
    """
    if not text.strip():
        raise DataError("opinion", "the better answer is empty.")
    if "\0" in text or len(text.encode("utf-8", "surrogatepass")) > EDIT_BYTES:
        raise DataError("opinion", f"the better answer has a NUL character, or more than {EDIT_BYTES:,} bytes.")
    return f" {text}" if original.startswith(" ") and not text[0].isspace() else text


def has_chosen(log: Log, who: str, shown: Shown) -> bool:
    """Whether this person has a current choice between the two answers."""
    sql = "SELECT 1 FROM answers a JOIN items i ON i.n = a.item WHERE a.annotator = ? AND i.id = ? AND a.vote = 1"
    return log.database.row(sql, (who, shown.pair().id)) is not None


@dataclass
class Standing:
    """What the current votes come to.

    Attributes:
        chosen: choices between base and policy: ``base``, ``policy``, ``tie``, ``both_bad``.
        liked, disliked: thumbs by side.
        edits: better answers.
        agreed, scored: choices that the reward model's scores agree with, of those with two different scores.
    """

    chosen: Counter[str]
    liked: Counter[str]
    disliked: Counter[str]
    edits: int
    agreed: int = 0
    scored: int = 0

    def lines(self) -> list[str]:
        """In words."""
        lines: list[str] = []
        if self.chosen:
            both = [f"{self.chosen[k]} {words}" for k, words in _OUTCOMES.items() if self.chosen[k]]
            n = self.chosen.total()
            lines.append(f"{n} {'choice' if n == 1 else 'choices'}: {', '.join(both)}")
        for side in ("base", "policy"):
            if thumbs := self.liked[side] + self.disliked[side]:
                lines.append(f"{side}: {self.liked[side]} of {thumbs} thumbs up")
        if self.edits:
            lines.append(f"{self.edits} better {'answer' if self.edits == 1 else 'answers'} written")
        if self.scored:
            lines.append(f"the reward model agrees with {self.agreed} of {self.scored} choices")
        return lines


_OUTCOMES = {"policy": "for the policy", "base": "for the base", "tie": "even", "both_bad": "both bad"}


def standing(log: Log) -> Standing:
    """Count the current votes of everybody."""
    sources = {e.seq: e.payload.get("source") for e in log.events.read() if e.type == "vote"}
    counted = Standing(Counter(), Counter(), Counter(), len(log.answers.edits()))
    for vote in log.answers.votes():
        source = sources.get(vote.seq)
        if source is None:
            continue
        roles = [answerer["role"] for answerer in source["answerers"]]
        if len(roles) == 1:
            (counted.liked if vote.choice == "like" else counted.disliked)[roles[0]] += 1
            continue
        counted.chosen[roles["ab".index(vote.choice)] if vote.choice in ("a", "b") else vote.choice] += 1
        a, b = source["scores"]
        if vote.choice in ("a", "b") and None not in (a, b) and a != b:
            counted.scored += 1
            counted.agreed += (a > b) == (vote.choice == "a")
    return counted
