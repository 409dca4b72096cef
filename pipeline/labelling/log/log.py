"""The log of a labelling project: one directory, opened as people, batches, queue, events and answers."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from pathlib import Path

from pipeline.labelling.log import counters
from pipeline.labelling.log.answers import Answers
from pipeline.labelling.log.batches import Batches
from pipeline.labelling.log.database import Database, Refused
from pipeline.labelling.log.events import Events, now, select_events
from pipeline.labelling.log.people import People
from pipeline.labelling.log.queue import Queue


class Log:
    """``data/<name>-labels/`` with ``labels.sqlite3`` and ``secret``.

    Many threads may share one log, and many processes may open the same directory; a log does not cross a fork.
    Every call may raise StoreError: the file is damaged; those that write,
    :class:`~pipeline.labelling.log.database.LogFull`.

    Attributes:
        people: who answers.
        batches: the items, and which of them are asked about now.
        queue: which item a person is asked next.
        events: everything that was done, in order.
        answers: what of it is current.
    """

    def __init__(self, directory: Path, *, busy_ms: int = 10_000) -> None:
        """Create what is missing. Raises as :class:`~pipeline.labelling.log.database.Database` does."""
        self.directory = directory
        self.database = Database(directory, busy_ms=busy_ms)
        self.people = People(self.database)
        self.batches = Batches(self.database)
        self.queue = Queue(self.database, self.people, self.batches)
        self.events = Events(self.database)
        self.answers = Answers(self.database, self.batches)

    def close(self) -> None:
        """Close the connections of all threads. A later call opens a new one."""
        self.database.close()

    def rebuild(self) -> None:
        """Compute every derived table again; it changes nothing but the time of the next search."""
        with self.database.write() as db:
            counters.rebuild(db)

    def forget(self, annotator: str) -> int:
        """Erase a person: events, assignments, name. A row of ``forgotten`` stays: counts, hashes and time.

        The file is rewritten, so that nothing of it stays on the free pages. Called again for a person who is
        forgotten already, it does that part again.

        Returns:
            How many events were erased.
        Raises:
            Refused: nobody has or had this id.
            LogFull: nothing was erased; or all was, and the file could not be rewritten: call it again.
        """
        with self.database.write() as db:
            erased = _erase(db, annotator)
        self.database.vacuum()
        return erased


def _erase(db: sqlite3.Connection, annotator: str) -> int:
    if not db.execute("SELECT 1 FROM people WHERE id = ?", (annotator,)).fetchone():
        if db.execute("SELECT 1 FROM forgotten WHERE annotator = ?", (_hashed(annotator),)).fetchone():
            return 0
        raise Refused(f"annotator {annotator}", "is not known.")
    sha, counts = hashlib.sha256(), Counter[str]()
    for row in db.execute(f"{select_events()} WHERE e.annotator = ? ORDER BY e.seq", (annotator,)):
        sha.update(json.dumps(row).encode() + b"\n")
        counts[row[2]] += 1
    row = (_hashed(annotator), now(), json.dumps(counts), sha.hexdigest())
    db.execute("INSERT INTO forgotten VALUES (?, ?, ?, ?)", row)
    db.execute("INSERT INTO forgetting VALUES (?)", (annotator,))
    for table in ("events", "leases", "forgetting"):
        db.execute(f"DELETE FROM {table} WHERE annotator = ?", (annotator,))
    db.execute("DELETE FROM people WHERE id = ?", (annotator,))
    counters.rebuild(db)
    return counts.total()


def _hashed(annotator: str) -> str:
    """How ``forgotten`` names an erased person, to recognise the same id when it is asked for again."""
    return hashlib.sha256(annotator.encode()).hexdigest()
