"""The append-only log of what people answered, and the queue made of it: the one class behind which SQL is."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from pipeline.labelling.log.database import IN_BATCH, event_of, select_events
from pipeline.labelling.log.events import (
    OPERATOR,
    Assignment,
    Event,
    EventType,
    LogFull,
    NewEvent,
    Person,
    PersonCounts,
    Plan,
    Receipt,
    Refused,
    Vote,
    checked,
)
from pipeline.labelling.log.queue import NOT_SHOWN, Queue, must_be_active

__all__ = [
    "OPERATOR", "Assignment", "Event", "EventType", "Log", "LogFull", "NewEvent", "Person", "PersonCounts", "Plan",
    "Receipt", "Refused", "Vote",
]  # fmt: skip

_CHUNK = 1000


class Log(Queue):
    """The log of a labelling project: ``data/<name>-labels/`` with ``labels.sqlite3`` and ``secret``.

    Many threads may share one log, and many processes may open the same directory; a log does not cross a fork.
    Every method may raise StoreError: the file is damaged; those that write, :class:`LogFull`.
    """

    def append(self, event: NewEvent) -> Receipt:
        """Record an event; it is durable when this returns.

        A key that was seen before with the same content (the time spent apart) gives the receipt of the first, and
        nothing is recorded. A vote or a skip is of the first round, or of the planned repeat if one is assigned.

        Raises:
            ValueError: malformed: see :func:`~pipeline.labelling.log.events.checked`.
            Refused: unknown item or annotator, withdrawn annotator, answered already, nothing to undo, or a key
                that was used for something else.
            LogFull: cannot be written; nothing was recorded.
        """
        with self._write() as db:
            return self._append(db, event)

    def _append(self, db: sqlite3.Connection, event: NewEvent) -> Receipt:
        item = None if event.item is None else self.item(event.item)
        if event.item is not None and item is None:
            raise Refused(f"item {event.item:.12}", "is not known.", "Load the page again.")
        # ASCII, as a text may hold half a surrogate pair, which SQLite does not take.
        payload = json.dumps(checked(event, item), sort_keys=True)
        before = _receipt(db, event, payload)
        if before is not None:
            return before
        if event.annotator != OPERATOR:
            must_be_active(db, event.annotator)
        if event.type == "undo":
            return self._undo(db, event)
        if event.type == "consent":
            return Receipt(_insert(db, event, payload), False, None)
        n = _number(db, event.item)
        if event.type not in ("vote", "skip"):
            seq = _insert(db, event, payload, n)
            if event.type == "adjudicate":
                self._decide(db, n)
            return Receipt(seq, False, event.item)
        round_ = _round(db, event, n)
        seq = _insert(db, event, payload, n, round_)
        own = (event.annotator, n, round_)
        db.execute("DELETE FROM leases WHERE annotator = ? AND item = ? AND round = ?", own)
        self._answer(db, *own, seq, event.type == "vote")
        return Receipt(seq, False, event.item)

    def _undo(self, db: sqlite3.Connection, event: NewEvent) -> Receipt:
        last = self.last(event.annotator)
        if last is None:
            raise Refused("undo", "there is nothing to take back.")
        n = _number(db, last.item)
        seq = _insert(db, event, "{}", n, last.round, last.seq)
        self._take_back(db, event.annotator, n, last.round, last.type == "vote")
        # A repeat of what is open again would be no repeat.
        db.execute("DELETE FROM leases WHERE annotator = ? AND item = ?", (event.annotator, n))
        db.execute(
            "INSERT INTO leases (annotator, item, round, until) VALUES (?, ?, ?, ?)",
            (event.annotator, n, last.round, NOT_SHOWN),
        )
        return Receipt(seq, False, last.item)

    def last(self, annotator: str) -> Event | None:
        """The newest current vote or skip of this person, which an undo takes back.

        None where there is none, or where it is on an item that is not in the current batch.
        """
        row = self._row(
            f"{select_events()} {IN_BATCH} WHERE e.seq = max("
            " coalesce((SELECT max(seq) FROM answers WHERE annotator = :who AND vote = 0), 0),"
            " coalesce((SELECT max(seq) FROM answers WHERE annotator = :who AND vote = 1), 0))",
            {"who": annotator},
        )
        return event_of(row) if row else None

    def events(self, since: int = 0) -> Iterator[Event]:
        """Every event with ``seq`` above ``since``, of all batches, undone ones and undos included."""
        while rows := self._rows(f"{select_events()} WHERE e.seq > ? ORDER BY e.seq LIMIT {_CHUNK}", (since,)):
            yield from map(event_of, rows)
            since = rows[-1][0]

    def votes(self) -> list[Vote]:
        """The current votes on the items of the current batch, gold items and repeats included, by ``seq``."""
        rows = self._rows(
            "SELECT e.seq, i.id, e.annotator, e.payload, e.ms, e.at, e.round, e.consent"
            f" FROM current_votes e JOIN items i ON i.n = e.item {IN_BATCH} ORDER BY e.seq"
        )
        return [_vote(*row) for row in rows]

    def skips(self) -> list[Event]:
        """The current skips in the current batch, by ``seq``."""
        return [e for e in self._current("current_answers") if e.type == "skip"]

    def flags(self) -> list[Event]:
        """Per person and item of the current batch, the newest flag, where that one is on."""
        return self._current("current_flags")

    def flagged(self, annotator: str, item: str) -> bool:
        """Whether this person's flag on this item is on."""
        sql = "SELECT 1 FROM current_flags f JOIN items i ON i.n = f.item WHERE f.annotator = ? AND i.id = ?"
        return self._row(sql, (annotator, item)) is not None

    def edits(self) -> list[Event]:
        """Per person, item of the current batch and completion, the newest text; not one equal to the original."""
        return [e for e in self._current("current_edits") if e.payload["text"] != self._original(e)]

    def _original(self, edit: Event) -> str:
        item = self.item(edit.item or "")
        assert item is not None
        return item.completions[edit.payload["completion"]]

    def adjudications(self) -> dict[str, str]:
        """What the operator decided last, by item of the current batch."""
        return {e.item: e.payload["choice"] for e in self._current("current_adjudications") if e.item}

    def _current(self, view: str) -> list[Event]:
        return [event_of(row) for row in self._rows(f"{select_events(view)} {IN_BATCH} ORDER BY e.seq")]

    def consent_of(self, annotator: str) -> str | None:
        """sha256 of the newest text that this person agreed to."""
        row = self._row(
            "SELECT json_extract(payload, '$.sha256') FROM events WHERE annotator = ? AND type = 'consent'"
            " ORDER BY seq DESC LIMIT 1",
            (annotator,),
        )
        return row[0] if row else None

    def forget(self, annotator: str) -> int:
        """Erase a person: events, assignments, name. A row of ``forgotten`` stays: counts, hashes and time.

        The file is rewritten, so that nothing of it stays on the free pages. Called again for somebody who is
        forgotten already, it does that part again.

        Returns:
            How many events were erased.
        Raises:
            Refused: nobody has or had this id.
            LogFull: nothing was erased; or all was, and the file could not be rewritten: call it again.
        """
        with self._write() as db:
            erased = self._erase(db, annotator)
        with self._told():
            db = self._connection()
            db.execute("VACUUM")
            # The old pages are in the WAL too until it is cut to nothing.
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            what = "is being read by another process, so that the file could not be cleaned of what was erased."
            raise LogFull(str(self._path), what, "Run it again.")
        return erased

    def _erase(self, db: sqlite3.Connection, annotator: str) -> int:
        if not db.execute("SELECT 1 FROM people WHERE id = ?", (annotator,)).fetchone():
            if db.execute("SELECT 1 FROM forgotten WHERE annotator = ?", (_hashed(annotator),)).fetchone():
                return 0
            raise Refused(f"annotator {annotator}", "is not known.")
        sha, counts = hashlib.sha256(), Counter[str]()
        for row in db.execute(f"{select_events()} WHERE e.annotator = ? ORDER BY e.seq", (annotator,)):
            sha.update(json.dumps(row).encode() + b"\n")
            counts[row[2]] += 1
        row = (_hashed(annotator), _now(), json.dumps(counts), sha.hexdigest())
        db.execute("INSERT INTO forgotten VALUES (?, ?, ?, ?)", row)
        db.execute("INSERT INTO forgetting VALUES (?)", (annotator,))
        for table in ("events", "leases", "forgetting"):
            db.execute(f"DELETE FROM {table} WHERE annotator = ?", (annotator,))
        db.execute("DELETE FROM people WHERE id = ?", (annotator,))
        self._rebuild(db)
        return counts.total()


def _hashed(annotator: str) -> str:
    """An id that is forgotten, for whoever asks for the same one again."""
    return hashlib.sha256(annotator.encode()).hexdigest()


def _receipt(db: sqlite3.Connection, event: NewEvent, payload: str) -> Receipt | None:
    """That of an event recorded under this key before. Raises Refused where it says something else."""
    row = db.execute(
        "SELECT e.seq, i.id, e.type, e.annotator, e.payload FROM events e LEFT JOIN items i ON i.n = e.item"
        " WHERE e.key = ?",
        (event.key,),
    ).fetchone()
    if row is None:
        return None
    seq, item, *content = row
    if content != [event.type, event.annotator, payload] or (event.type != "undo" and item != event.item):
        raise Refused(f"key {event.key}", "was used for another event already.", "Load the page again.")
    return Receipt(seq, True, item)


def _number(db: sqlite3.Connection, item: str | None) -> int:
    return db.execute("SELECT n FROM items WHERE id = ?", (item,)).fetchone()[0]


def _round(db: sqlite3.Connection, event: NewEvent, item: int) -> int:
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
    item: int | None = None,
    round_: int = 0,
    undoes: int | None = None,
) -> int:
    cursor = db.execute(
        "INSERT INTO events (key, at, annotator, type, item, round, payload, undoes, ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (event.key, _now(), event.annotator, event.type, item, round_, payload, undoes, event.ms),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _vote(
    seq: int, item: str, annotator: str, payload: str, ms: int | None, at: str, round_: int, consent: str | None
) -> Vote:
    said = json.loads(payload)
    order, tags = tuple(said["order"]), tuple(said["tags"])
    return Vote(
        seq, item, annotator, said["choice"], order, said["strength"], tags, said["note"], ms, at, round_, consent
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
