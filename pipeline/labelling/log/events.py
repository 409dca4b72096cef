"""The append-only events of the log: append one, read all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.labelling.log import counters
from pipeline.labelling.log.database import Connection, Database, Refused
from pipeline.labelling.log.new_event import (
    NewAdjudication,
    NewConsent,
    NewEvent,
    NewRetraction,
    NewSkip,
    NewSourcedVote,
    NewUndo,
    NewVote,
    SourcedEvent,
)
from pipeline.labelling.log.people import require_active

EventType = Literal["vote", "skip", "flag", "undo", "edit", "consent", "adjudicate"]

NOT_SHOWN = 0.0
"""``until`` of an assignment that an undo reopened and no page has shown yet."""

_CHUNK = 1000


@dataclass(frozen=True)
class Event:
    """An event of the log. ``seq`` is the order; ``at`` (ISO 8601, UTC, this machine's clock) is informative.

    ``payload`` is that of a :data:`~pipeline.labelling.log.new_event.NewEvent`. An ``undo`` has
    ``{"undoes": seq}`` and the ``item`` and ``round`` of the answer it undoes.
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
    """The result of :meth:`Events.append`. ``item``: the event's; of an undo, the reopened one."""

    seq: int
    duplicate: bool
    item: str | None


class Events:
    """Table ``events`` and its counters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, event: NewEvent) -> Receipt:
        """Record an event; it is durable when this returns.

        A repeated key with the same content (``ms`` may differ) records nothing and returns the first receipt. A
        vote or a skip is of the first round, or of the planned repeat if one is assigned.

        Raises:
            Refused: unknown item or annotator, withdrawn annotator, answered already, nothing to undo, or a key
                of another event.
            LogFull: the log cannot be written.
        """
        with self._database.write() as db:
            return append_in(db, event)

    def read(self, since: int = 0) -> Iterator[Event]:
        """All events with ``seq`` above ``since``, of all batches, undone ones and undos included."""
        sql = f"{select_events()} WHERE e.seq > ? ORDER BY e.seq LIMIT {_CHUNK}"
        while rows := self._database.rows(sql, (since,)):
            yield from map(event_of, rows)
            since = rows[-1][0]


def append_in(db: Connection, event: NewEvent) -> Receipt:
    """:meth:`Events.append` inside a transaction."""
    item_id = None if isinstance(event, NewUndo | NewConsent) else event.item
    item = None if item_id is None else _number(db, item_id)
    # ASCII: an older log may hold a lone surrogate, which SQLite rejects.
    payload = json.dumps(event.payload, sort_keys=True)
    if (earlier := _receipt(db, event, item_id, payload)) is not None:
        return earlier
    if not isinstance(event, NewAdjudication):
        require_active(db, event.annotator)
    if isinstance(event, NewUndo):
        return _undo(db, event)
    if item is None or not isinstance(event, NewVote | NewSkip):
        seq = _insert(db, event, payload, item)
        if item is not None and isinstance(event, NewAdjudication):
            counters.add_adjudication(db, item)
        return Receipt(seq, False, item_id)
    round_ = _round(db, event, item)
    seq = _insert(db, event, payload, item, round_)
    own = (event.annotator, item, round_)
    db.execute("DELETE FROM leases WHERE annotator = ? AND item = ? AND round = ?", own)
    counters.add_answer(db, *own, seq, event.type == "vote")
    return Receipt(seq, False, item_id)


def _undo(db: Connection, event: NewUndo) -> Receipt:
    answer = last_answer(db, event.annotator)
    if answer is None:
        raise Refused("undo", "there is no answer to undo.")
    item = db.execute("SELECT n FROM items WHERE id = ?", (answer.item,)).fetchone()[0]
    seq = _insert(db, event, "{}", item, answer.round, answer.seq)
    counters.take_back_answer(db, event.annotator, item, answer.round, answer.type == "vote")
    # The planned repeat of a reopened item would not be a repeat.
    db.execute("DELETE FROM leases WHERE annotator = ? AND item = ?", (event.annotator, item))
    db.execute(
        "INSERT INTO leases (annotator, item, round, until) VALUES (?, ?, ?, ?)",
        (event.annotator, item, answer.round, NOT_SHOWN),
    )
    return Receipt(seq, False, answer.item)


def replace_in(db: Connection, event: SourcedEvent) -> Receipt:
    """Record a new event inside a transaction; a vote replaces the person's current vote on its item.

    Raises:
        Refused: as :meth:`Events.append`; a retraction where there is no vote.
    """
    require_active(db, event.annotator)
    if isinstance(event, NewRetraction):
        if (seq := _take_back(db, event.key, event.annotator, event.item)) is None:
            raise Refused("undo", "there is no vote to take back.")
        return Receipt(seq, False, event.item)
    if isinstance(event, NewSourcedVote):
        _take_back(db, f"{event.key}:undo", event.annotator, event.item)  # no sender's key has a colon
    return append_in(db, event)


def receipt_in(db: Connection, event: SourcedEvent) -> Receipt | None:
    """The receipt of an event that is recorded already. Raises Refused where its key is another's."""
    return _receipt(db, event, event.item, json.dumps(event.payload, sort_keys=True))


def _take_back(db: Connection, key: str, annotator: str, item_id: str) -> int | None:
    """Undo a person's current first-round vote on an item; the undo's number, None where there is no vote."""
    item = _number(db, item_id)
    sql = "SELECT seq FROM answers WHERE annotator = ? AND item = ? AND round = 0 AND vote = 1"
    row = db.execute(sql, (annotator, item)).fetchone()
    if row is None:
        return None
    undo = NewUndo.model_construct(key=key, annotator=annotator)
    seq = _insert(db, undo, "{}", item, 0, row[0])
    counters.take_back_answer(db, annotator, item, 0, True)
    return seq


def last_answer(db: Connection, annotator: str) -> Event | None:
    """A person's newest current vote or skip, which an undo takes back; None if not in the current batch."""
    row = db.execute(
        f"{select_events()} {IN_BATCH} WHERE e.seq = (SELECT max(seq) FROM ("
        "SELECT max(seq) AS seq FROM answers WHERE annotator = ? AND vote = 0"
        " UNION ALL SELECT max(seq) FROM answers WHERE annotator = ? AND vote = 1) newest)",
        (annotator, annotator),
    ).fetchone()
    return event_of(row) if row else None


def select_events(source: str = "events") -> str:
    """The start of a query for :func:`event_of`; ``e`` are the events."""
    return (
        "SELECT e.seq, e.key, e.type, e.annotator, i.id, e.payload, e.undoes, e.ms, e.at, e.round"
        f" FROM {source} e LEFT JOIN items i ON i.n = e.item"
    )


IN_BATCH = "JOIN places p ON p.item = e.item JOIN batches b ON b.n = p.batch AND b.current = 1"
"""Restricts :func:`select_events` to items of the current batch."""


def event_of(row: Sequence[Any]) -> Event:
    """The event in a row of :func:`select_events`."""
    seq, key, kind, annotator, item, payload, undoes, ms, at, round_ = row
    content = {"undoes": undoes} if kind == "undo" else json.loads(payload)
    return Event(seq, key, kind, annotator, item, content, ms, at, round_)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _receipt(db: Connection, event: NewEvent | NewRetraction, item_id: str | None, payload: str) -> Receipt | None:
    """The receipt of the event recorded under this key. Raises Refused where its content differs."""
    row = db.execute(
        "SELECT e.seq, i.id, e.type, e.annotator, e.payload FROM events e LEFT JOIN items i ON i.n = e.item"
        " WHERE e.key = ?",
        (event.key,),
    ).fetchone()
    if row is None:
        return None
    seq, item, *content = row
    if content != [event.type, event.annotator, payload] or (event.type != "undo" and item != item_id):
        raise Refused(f"key {event.key}", "belongs to another event.", "Reload the page.")
    return Receipt(seq, True, item)


def _number(db: Connection, item: str) -> int:
    row = db.execute("SELECT n FROM items WHERE id = ?", (item,)).fetchone()
    if row is None:
        raise Refused(f"item {item:.12}", "is not known.", "Reload the page.")
    return row[0]


def _round(db: Connection, event: NewVote | NewSkip, item: int) -> int:
    """The round of a new vote or skip. Raises Refused where the person has answered already."""
    own = (event.annotator, item)
    if not db.execute("SELECT 1 FROM answers WHERE annotator = ? AND item = ? AND round = 0", own).fetchone():
        return 0
    if db.execute("SELECT 1 FROM leases WHERE annotator = ? AND item = ? AND round = 1", own).fetchone():
        return 1
    raise Refused(f"item {event.item:.12}", "was answered by this person already.", "Reload the page.")


def _insert(
    db: Connection,
    event: NewEvent,
    payload: str,
    item: int | None,
    round_: int = 0,
    undoes: int | None = None,
) -> int:
    ms = event.ms if isinstance(event, NewVote | NewSkip) else None
    row = db.execute(
        "INSERT INTO events (key, at, annotator, type, item, round, payload, undoes, ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        (event.key, now(), event.annotator, event.type, item, round_, payload, undoes, ms),
    ).fetchone()
    assert row is not None
    return row[0]
