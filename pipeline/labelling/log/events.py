"""What the log of labelling holds and gives, as plain values, and what event is well-formed; it leaves out SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipeline.base.errors import PipelineError, StoreError
from pipeline.labelling.items import Item, parse_choice
from pipeline.labelling.settings import LabelSection

EventType = Literal["vote", "skip", "flag", "undo", "edit", "consent", "adjudicate"]
TYPES: tuple[EventType, ...] = get_args(EventType)
OPERATOR = "operator"
"""The ``annotator`` of an ``adjudicate`` event; no person has this id."""

_KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
_STRENGTHS = (None, "much", "slightly")


class Refused(PipelineError):
    """A well-formed event that cannot be, or a person that is not known: nothing was recorded."""


class LogFull(StoreError):
    """The log cannot be written: a full or read-only disk, or another process that never lets go.

    Nothing was recorded. (When the disk fails in the very act of flushing, nobody can tell; sending the event
    again with the same key is right in every case.)
    """


@dataclass(frozen=True)
class NewEvent:
    """An event that somebody wants recorded.

    Attributes:
        key: idempotency key, 8 to 64 of ``A-Za-z0-9_-``. The sender draws one per action, keeps it over retries.
        annotator: a person's id; :data:`OPERATOR` for ``adjudicate``.
        item: an item's id; None for ``consent`` and ``undo``.
        payload: in canonical words. vote: ``choice``, ``order``, and if wanted ``strength`` (much, slightly),
            ``tags``, ``note``. skip: ``reason``, ``note``. flag: ``on``, ``reason``, ``note``. edit:
            ``completion`` (index), ``text``. consent: ``version``, ``sha256``. adjudicate: ``choice``.
            undo: nothing.
        ms: milliseconds the person spent.
    """

    key: str
    type: EventType
    annotator: str
    item: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ms: int | None = None


@dataclass(frozen=True)
class Event:
    """An event of the log. Order is ``seq``; ``at`` (ISO 8601, UTC, this machine's clock) is only for people.

    ``payload`` is complete (see :func:`checked`); that of an ``undo`` is ``{"undoes": seq}``, and its ``item`` and
    ``round`` are those of what it undoes.
    """

    seq: int
    key: str
    type: EventType
    annotator: str
    item: str | None
    payload: dict[str, Any]
    ms: int | None
    at: str
    round: int


@dataclass(frozen=True)
class Receipt:
    """What :meth:`Log.append` did. ``item``: the event's; of an undo, the one that is open again."""

    seq: int
    duplicate: bool
    item: str | None


@dataclass(frozen=True)
class Vote:
    """A current vote: one that is not undone.

    Attributes:
        order: what stood where on the page: place ``i`` showed ``completions[order[i]]``.
        round: 0, or 1 for a planned repeat.
        consent: sha256 of the newest text that the person had agreed to before voting; None without consent.
    """

    seq: int
    item: str
    annotator: str
    choice: str
    order: tuple[int, ...]
    strength: Literal["much", "slightly"] | None
    tags: tuple[str, ...]
    note: str
    ms: int | None
    at: str
    round: int
    consent: str | None


@dataclass(frozen=True)
class Person:
    """An annotator. ``token`` makes the link; the name is for the operator alone."""

    id: str
    name: str
    token: str
    active: bool


@dataclass(frozen=True)
class PersonCounts:
    """What one person did on the current batch; gold items and repeats included.

    Attributes:
        answered, skipped: current votes and skips.
        flagged: items whose flag is on.
        undone: how often they took something back.
        pace_ms: median milliseconds of the newest 50 answers that say; None without any.
        last_at: time of the newest event of any kind, in any batch.
    """

    annotator: str
    answered: int
    skipped: int
    flagged: int
    undone: int
    pace_ms: float | None
    last_at: str | None


@dataclass(frozen=True)
class Plan:
    """By which rules :meth:`Log.next` chooses. Shares are of the items shown."""

    votes: int = 1
    gold_share: float = 0.0
    repeat_share: float = 0.0
    repeat_after: int = 20
    lease_seconds: float = 900.0

    @classmethod
    def of(cls, settings: LabelSection) -> Plan:
        return cls(
            settings.votes,
            settings.gold_share,
            settings.repeat_share,
            settings.repeat_after,
            settings.lease_minutes * 60,
        )


@dataclass(frozen=True)
class Assignment:
    """What a person is to answer now.

    Attributes:
        round: 0, or 1 for a planned repeat.
        until: until when nobody else is given it, in seconds since the epoch.
        undone: the vote or skip that the person took back, where the item is open again because of that.
    """

    item: Item
    round: int
    until: float
    undone: Event | None = None


def checked(event: NewEvent, item: Item | None) -> dict[str, Any]:
    """The payload, complete and in its one spelling.

    Args:
        item: what ``event.item`` names; None where it names nothing.
    Raises:
        ValueError: the event is malformed; the message says how.
    """
    if not _KEY.fullmatch(event.key):
        raise ValueError("key should be 8 to 64 letters, digits, _ or -")
    if event.type not in TYPES:
        raise ValueError(f"type {event.type!r:.50} is none of {', '.join(TYPES)}")
    if event.ms is not None and not (_is_int(event.ms) and 0 <= event.ms < 10**10):
        raise ValueError(f"ms = {event.ms!r} should be milliseconds")
    if (event.annotator == OPERATOR) != (event.type == "adjudicate"):
        raise ValueError(f"{event.type} is not for {event.annotator}")
    if (item is None) != (event.type in ("consent", "undo")):
        raise ValueError(f"{event.type} {'needs an item' if item is None else 'has no item'}")
    fields = _Fields(event.type, dict(event.payload))
    n = 0 if item is None else len(item.completions)
    match event.type:
        case "vote" | "adjudicate":
            assert item is not None
            out: dict[str, Any] = {"choice": parse_choice(fields.text("choice", None), item.mode, n)}
            if event.type == "vote":
                out["order"] = fields.permutation("order", n)
                out["strength"] = fields.one_of("strength", _STRENGTHS)
                out["tags"] = fields.texts("tags")
                out["note"] = fields.text("note")
        case "skip":
            out = {"reason": fields.text("reason"), "note": fields.text("note")}
        case "flag":
            out = {"on": fields.one_of("on", (True, False)), "reason": fields.text("reason")}
            out["note"] = fields.text("note")
        case "edit":
            out = {"completion": fields.one_of("completion", range(n)), "text": fields.text("text", None)}
        case "consent":
            out = {"version": fields.text("version", None), "sha256": fields.text("sha256", None)}
        case "undo":
            out = {}
    fields.no_others()
    return out


class _Fields:
    """The payload of a malformed event may be anything that JSON can be."""

    def __init__(self, kind: str, payload: dict[str, Any]) -> None:
        self._kind = kind
        self._left = payload

    def _wrong(self, name: str, value: Any, wanted: str) -> ValueError:
        return ValueError(f"{self._kind}: {name} = {value!r:.50} should be {wanted}")

    def text(self, name: str, default: str | None = "") -> str:
        value = self._left.pop(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._left.pop(name, [])
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise self._wrong(name, value, "a list of texts")
        return list(value)

    def one_of(self, name: str, values: Iterable[Any]) -> Any:
        value = self._left.pop(name, None)
        # 1 == True in Python, and a log that holds 1 for "on" reads differently elsewhere.
        if not any(value == v and type(value) is type(v) for v in values):
            raise self._wrong(name, value, f"one of {', '.join(map(str, values))}")
        return value

    def permutation(self, name: str, n: int) -> list[int]:
        value = self._left.pop(name, None)
        if not isinstance(value, list | tuple) or not all(map(_is_int, value)) or sorted(value) != list(range(n)):
            raise self._wrong(name, value, f"the numbers 0 to {n - 1} in the order shown")
        return list(value)

    def no_others(self) -> None:
        if self._left:
            raise ValueError(f"{self._kind}: nothing is known of {', '.join(map(repr, self._left))}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
