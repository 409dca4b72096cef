"""The log of a labelling project: people, batches, queue, events and answers of one directory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.labelling.items import TYPED, Item
from pipeline.labelling.log import counters
from pipeline.labelling.log.answers import Answers
from pipeline.labelling.log.batches import Batches, add_in
from pipeline.labelling.log.database import Connection, Refused
from pipeline.labelling.log.events import Events, Receipt, now, receipt_in, replace_in, select_events
from pipeline.labelling.log.new_event import SourcedEvent
from pipeline.labelling.log.opening import open_database
from pipeline.labelling.log.people import People
from pipeline.labelling.log.queue import Queue


class Log:
    """``data/<name>-labels/`` with ``labels.sqlite3`` and ``secret``, or with the URL of a PostgreSQL database.

    Threads may share one log, and processes may open the same directory; a log does not survive a fork. Every call
    may raise StoreError for a damaged file, and a writing one :class:`~pipeline.labelling.log.database.LogFull`.

    Attributes:
        people: the annotators.
        batches: the items, and the current set of them.
        queue: assigns items to people.
        events: the append-only record.
        answers: the current answers, derived from it.
    """

    def __init__(self, directory: Path, url: str | None = None, *, busy_ms: int = 10_000) -> None:
        """Open or create, as :func:`~pipeline.labelling.log.opening.open_database` does."""
        self.directory = directory
        self.database = open_database(directory, url, busy_ms=busy_ms)
        self.people = People(self.database)
        self.batches = Batches(self.database)
        self.queue = Queue(self.database, self.people, self.batches)
        self.events = Events(self.database)
        self.answers = Answers(self.database, self.batches)

    def close(self) -> None:
        """Close the connections of all threads. A later call opens a new one."""
        self.database.close()

    def rebuild(self) -> None:
        """Recompute every derived table."""
        with self.database.write() as db:
            counters.rebuild(db)

    def answer(self, item: Item, event: SourcedEvent) -> Receipt:
        """Record an event on an item that joins the current batch with the first answer to it.

        Durable, item and event together, when this returns. A vote replaces the person's earlier one on the item.
        A repeated key returns the first receipt, as :meth:`Events.append` does.

        Raises:
            Refused: an unknown or withdrawn person, nothing to take back, or a key of another event.
            LogFull: the log cannot be written.
            StoreError: there is no current batch.
        """
        with self.database.write() as db:
            if (earlier := receipt_in(db, event)) is not None:
                return earlier
            batch = counters.current_batch(db)
            if batch is None:
                raise StoreError(self.database.where, "has no batch to add items to.")
            add_in(db, batch, [(item, 0.0)])
            return replace_in(db, event)

    def forget(self, annotator: str) -> int:
        """Erase a person's events, assignments and name. A row of ``forgotten`` stays: counts, hashes and time.

        Items that only this person typed go too: of a :data:`~pipeline.labelling.items.TYPED` batch those that
        nobody else has an event on.

        Rewrites the file, so that nothing stays on its free pages, also for a person who is erased already.

        Returns:
            The number of erased events.
        Raises:
            Refused: nobody has or had this id.
            LogFull: nothing was erased; or all was, and the file could not be rewritten: call it again.
        """
        with self.database.write() as db:
            erased = _erase(db, annotator)
        self.database.vacuum()
        return erased


def _erase(db: Connection, annotator: str) -> int:
    if not db.execute("SELECT 1 FROM people WHERE id = ?", (annotator,)).fetchone():
        if db.execute("SELECT 1 FROM forgotten WHERE annotator = ?", (_hashed(annotator),)).fetchone():
            return 0
        raise Refused(f"annotator {annotator}", "is not known.")
    sha, counts = hashlib.sha256(), Counter[str]()
    for row in db.execute(f"{select_events()} WHERE e.annotator = ? ORDER BY e.seq", (annotator,)).fetchall():
        sha.update(json.dumps(list(row)).encode() + b"\n")
        counts[row[2]] += 1
    row = (_hashed(annotator), now(), json.dumps(counts), sha.hexdigest())
    db.execute("INSERT INTO forgotten VALUES (?, ?, ?, ?)", row)
    db.execute("INSERT INTO forgetting VALUES (?)", (annotator,))
    for table in ("events", "leases", "forgetting"):
        db.execute(f"DELETE FROM {table} WHERE annotator = ?", (annotator,))
    db.execute("DELETE FROM people WHERE id = ?", (annotator,))
    _erase_typed_items(db)
    counters.rebuild(db)
    return counts.total()


def _erase_typed_items(db: Connection) -> None:
    """Erase the items of typed batches that no event is left of."""
    about = db.execute("SELECT n, about FROM batches").fetchall()
    for batch in (n for n, text in about if json.loads(text).get(TYPED)):
        db.execute(
            "DELETE FROM places WHERE batch = ?"
            " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.item = places.item)",
            (batch,),
        )
    db.execute(
        "DELETE FROM items WHERE NOT EXISTS (SELECT 1 FROM places p WHERE p.item = items.n)"
        " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.item = items.n)"
    )


def _hashed(annotator: str) -> str:
    """The key of an erased person in ``forgotten``."""
    return hashlib.sha256(annotator.encode()).hexdigest()
