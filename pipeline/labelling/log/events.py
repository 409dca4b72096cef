"""The append-only events of the log: recording one, and reading all of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.labelling.log import counters
from pipeline.labelling.log.database import Database, Refused
from pipeline.labelling.log.new_event import NewAdjudication, NewConsent, NewEvent, NewSkip, NewUndo, NewVote
from pipeline.labelling.log.people import require_active

EventType = Literal["vote", "skip", "flag", "undo", "edit", "consent", "adjudicate"]

NOT_SHOWN = 0.0
"""``until`` of an assignment that no page has shown yet: one that an undo opened again."""

_CHUNK = 1000


@dataclass(frozen=True)
class Event:
    """An event of the log. Order is ``seq``; ``at`` (ISO 8601, UTC, this machine's clock) is only for people.

    ``payload`` is that of a :data:`~pipeline.labelling.log.new_event.NewEvent`; of an ``undo`` it is
    ``{"undoes": seq}``, and its ``item`` and ``round`` are those of the answer it undoes.
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
    """What :meth:`Events.append` did. ``item``: the event's; of an undo, the one that is open again."""

    seq: int
    duplicate: bool
    item: str | None


class Events:
    """Table ``events``, and the counters that follow from it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, event: NewEvent) -> Receipt:
        """Record an event; it is durable when this returns.

        A key that was seen before with the same content (the time spent apart) gives the receipt of the first, and
        nothing is recorded. A vote or a skip is of the first round, or of the planned repeat if one is assigned.

        Raises:
            Refused: unknown item or annotator, withdrawn annotator, answered already, nothing to undo, or a key
                that was used for something else.
            LogFull: cannot be written; nothing was recorded.
        """
        with self._database.write() as db:
            return append_in(db, event)

    def read(self, since: int = 0) -> Iterator[Event]:
        """Every event with ``seq`` above ``since``, of all batches, undone ones and undos included."""
        sql = f"{select_events()} WHERE e.seq > ? ORDER BY e.seq LIMIT {_CHUNK}"
        while rows := self._database.rows(sql, (since,)):
            yield from map(event_of, rows)
            since = rows[-1][0]


def append_in(db: sqlite3.Connection, event: NewEvent) -> Receipt:
    """:meth:`Events.append` inside a transaction."""
    item_id = None if isinstance(event, NewUndo | NewConsent) else event.item
    item = None if item_id is None else _number(db, item_id)
    # ASCII: an older log may hold half a surrogate pair, which SQLite does not take.
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


def _undo(db: sqlite3.Connection, event: NewUndo) -> Receipt:
    answer = last_answer(db, event.annotator)
    if answer is None:
        raise Refused("undo", "there is nothing to take back.")
    item = db.execute("SELECT n FROM items WHERE id = ?", (answer.item,)).fetchone()[0]
    seq = _insert(db, event, "{}", item, answer.round, answer.seq)
    counters.take_back_answer(db, event.annotator, item, answer.round, answer.type == "vote")
    # A repeat of what is open again would be no repeat.
    db.execute("DELETE FROM leases WHERE annotator = ? AND item = ?", (event.annotator, item))
    db.execute(
        "INSERT INTO leases (annotator, item, round, until) VALUES (?, ?, ?, ?)",
        (event.annotator, item, answer.round, NOT_SHOWN),
    )
    return Receipt(seq, False, answer.item)


def last_answer(db: sqlite3.Connection, annotator: str) -> Event | None:
    """The newest current vote or skip of a person, which an undo takes back.

    None where there is none, or where it is on an item that is not in the current batch.
    """
    row = db.execute(
        f"{select_events()} {IN_BATCH} WHERE e.seq = max("
        " coalesce((SELECT max(seq) FROM answers WHERE annotator = :who AND vote = 0), 0),"
        " coalesce((SELECT max(seq) FROM answers WHERE annotator = :who AND vote = 1), 0))",
        {"who": annotator},
    ).fetchone()
    return event_of(row) if row else None


def select_events(source: str = "events") -> str:
    """The start of a query whose rows :func:`event_of` reads; ``e`` are the events."""
    return (
        "SELECT e.seq, e.key, e.type, e.annotator, i.id, e.payload, e.undoes, e.ms, e.at, e.round"
        f" FROM {source} e LEFT JOIN items i ON i.n = e.item"
    )


IN_BATCH = "JOIN places p ON p.item = e.item JOIN batches b ON b.n = p.batch AND b.current"
"""Added to :func:`select_events`: only events on items of the current batch."""


def event_of(row: Sequence[Any]) -> Event:
    """One row of :func:`select_events`."""
    seq, key, kind, annotator, item, payload, undoes, ms, at, round_ = row
    content = {"undoes": undoes} if kind == "undo" else json.loads(payload)
    return Event(seq, key, kind, annotator, item, content, ms, at, round_)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _receipt(db: sqlite3.Connection, event: NewEvent, item_id: str | None, payload: str) -> Receipt | None:
    """That of an event recorded under this key before. Raises Refused where it says something else."""
    row = db.execute(
        "SELECT e.seq, i.id, e.type, e.annotator, e.payload FROM events e LEFT JOIN items i ON i.n = e.item"
        " WHERE e.key = ?",
        (event.key,),
    ).fetchone()
    if row is None:
        return None
    seq, item, *content = row
    if content != [event.type, event.annotator, payload] or (event.type != "undo" and item != item_id):
        raise Refused(f"key {event.key}", "was used for another event already.", "Load the page again.")
    return Receipt(seq, True, item)


def _number(db: sqlite3.Connection, item: str) -> int:
    row = db.execute("SELECT n FROM items WHERE id = ?", (item,)).fetchone()
    if row is None:
        raise Refused(f"item {item:.12}", "is not known.", "Load the page again.")
    return row[0]


def _round(db: sqlite3.Connection, event: NewVote | NewSkip, item: int) -> int:
    """Of a vote or skip that comes now. Raises Refused where the person has answered already."""
    own = (event.annotator, item)
    if not db.execute("SELECT 1 FROM answers WHERE annotator = ? AND item = ? AND round = 0", own).fetchone():
        return 0
    if db.execute("SELECT 1 FROM leases WHERE annotator = ? AND item = ? AND round = 1", own).fetchone():
        return 1
    raise Refused(f"item {event.item:.12}", "was answered by this person already.", "Load the page again.")


def _insert(
    db: sqlite3.Connection,
    event: NewEvent,
    payload: str,
    item: int | None,
    round_: int = 0,
    undoes: int | None = None,
) -> int:
    ms = event.ms if isinstance(event, NewVote | NewSkip) else None
    cursor = db.execute(
        "INSERT INTO events (key, at, annotator, type, item, round, payload, undoes, ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (event.key, now(), event.annotator, event.type, item, round_, payload, undoes, ms),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid
