"""A question and its answers, as a ticket that the page keeps: signed, so that a vote brings them back unchanged.

Nothing is stored of answers on which nobody votes, and a restarted server still takes votes on earlier ones.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.base.errors import DataError
from pipeline.base.records import canonical_json, split_of
from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.new_event import Answerer, Source
from pipeline.labelling.log.people import People

T = TypeVar("T")

TEST_SHARE = 0.1
"""Share of the conversations whose items are held out for measuring a reward model; as ``collect.test_share``."""


class Exchange(BaseModel):
    """One question and what base and policy answered.

    Attributes:
        who: the person who asked, the only one who may vote on it.
        prompt: as the models read it.
        opening: the first message of the conversation: all of one conversation is in one split.
        completions: of base and policy, in the order shown: place ``i`` is ``answerers[order[i]]``.
        answerers: base, policy.
        scores: the reward model's, in the order shown.
        blind: whether the names were hidden.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: str
    who: str
    prompt: str
    opening: str
    completions: tuple[str, str]
    answerers: tuple[Answerer, Answerer]
    scores: tuple[float | None, float | None]
    sampling: dict[str, int | float]
    blind: bool

    @property
    def split(self) -> str:
        return split_of(self.opening, TEST_SHARE)

    @property
    def differs(self) -> bool:
        """Whether there are two answers to choose between."""
        a, b = (completion.strip() for completion in self.completions)
        return bool(a and b and a != b)


@dataclass(frozen=True)
class Shown:
    """An exchange as one person sees it, with the items that votes on it are about."""

    exchange: Exchange
    order: tuple[int, ...]

    @classmethod
    def of(cls, exchange: Exchange, people: People) -> Shown:
        return cls(exchange, shown_order(exchange.id, exchange.who, exchange.blind, people))

    def pair(self) -> Item:
        """Base's answer and policy's, in this order."""
        by_side = self._by_side(self.exchange.completions)
        return Item(self.exchange.prompt, tuple(by_side), "pairwise", self.exchange.split)

    def single(self, place: int) -> Item:
        """One answer, to like or to mend."""
        return Item(self.exchange.prompt, (self.exchange.completions[place],), "thumbs", self.exchange.split)

    def source(self, place: int | None, blind: bool) -> Source:
        """The source of one answer, or of the pair for None."""
        exchange = self.exchange
        answerers = exchange.answerers if place is None else (exchange.answerers[self.order[place]],)
        scores = self._by_side(exchange.scores) if place is None else [exchange.scores[place]]
        return Source(
            exchange=exchange.id,
            answerers=answerers,
            scores=tuple(scores),
            sampling=exchange.sampling,
            blind=blind,
        )

    def _by_side(self, by_place: Sequence[T]) -> list[T]:
        return [by_place[self.order.index(side)] for side in range(len(by_place))]


def shown_order(exchange_id: str, who: str, blind: bool, people: People) -> tuple[int, ...]:
    """The side at each place: base first, unless names are hidden; then by the project's secret."""
    return order_of(exchange_id, who, people.salt, 2) if blind else (0, 1)


def ticket(exchange: Exchange, people: People) -> tuple[str, str]:
    """(text, signature) of an exchange."""
    text = canonical_json(exchange.model_dump(mode="json"))
    return text, people.sign(text)


def read_ticket(text: str, signature: str, who: str, people: People) -> Exchange:
    """The exchange of a ticket.

    Raises:
        DataError: it was not made here, or for somebody else.
    """
    try:
        signed = hmac.compare_digest(people.sign(text).encode(), signature.encode())
        exchange = Exchange.model_validate_json(text) if signed else None
    except (UnicodeEncodeError, ValidationError):
        exchange = None
    if exchange is None or exchange.who != who:
        raise DataError("exchange", "was not made here, or for another person.", "Ask again.")
    return exchange
