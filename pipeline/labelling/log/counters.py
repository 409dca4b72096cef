"""What the log says in sum, kept in tables beside it so that nothing has to be counted while a person waits.

``answers`` are the current votes and skips. The ``level`` of an item is its number of current first-round votes,
and :data:`ADJUDICATED` more where the operator has decided it: with ``level >= votes`` it is done. ``levels``
counts the items of the current batch by level: all of them (annotator ``''``), and those that one person has
answered or skipped; the difference below ``votes`` is what is left for that person. Gold items have no part in it.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from pipeline.labelling.log.database import Database

ADJUDICATED = 1_000_000
"""More votes than an item can have."""
EVERYBODY = ""

# An item's level from the log alone.
_LEVEL = f"""
    (SELECT count(*) FROM answers a WHERE a.item = places.item AND a.round = 0 AND a.vote)
    + {ADJUDICATED} * EXISTS (SELECT 1 FROM events e WHERE e.type = 'adjudicate' AND e.item = places.item)
"""


class Tallies(Database):
    """Changed in the transaction of the event that changes them. All items here are numbers (``items.n``)."""

    def rebuild(self) -> None:
        """Make everything that follows from the log again; it changes nothing but the time of the next search."""
        with self._write() as db:
            self._rebuild(db)

    def _rebuild(self, db: sqlite3.Connection) -> None:
        for table in ("answers", "levels", "tallies", "cursors", "reopened"):
            db.execute(f"DELETE FROM {table}")
        db.execute("INSERT INTO answers SELECT annotator, item, round, seq, type = 'vote' FROM current_answers")
        self._count_in(db, 0)

    def _count_in(self, db: sqlite3.Connection, since: int) -> None:
        """Count the items of the current batch from ``coming = since`` on; none of them has been counted."""
        batch = current_batch(db)
        if batch is None:
            return
        which = {"batch": batch, "since": since}
        db.execute(f"UPDATE places SET level = {_LEVEL} WHERE batch = :batch AND coming >= :since", which)
        db.execute(
            "INSERT INTO levels SELECT '', level, count(*) FROM places"
            " WHERE batch = :batch AND coming >= :since AND gold IS NULL GROUP BY level"
            " ON CONFLICT DO UPDATE SET n = n + excluded.n",
            which,
        )
        # CROSS JOIN: from the new places to their answers, never the other way round.
        answered = (
            "FROM places p CROSS JOIN answers a ON a.item = p.item WHERE batch = :batch AND coming >= :since"
        )
        db.execute(
            f"INSERT INTO levels SELECT a.annotator, p.level, count(*) {answered}"
            " AND gold IS NULL AND a.round = 0 GROUP BY a.annotator, p.level"
            " ON CONFLICT DO UPDATE SET n = n + excluded.n",
            which,
        )
        db.execute(
            f"INSERT INTO tallies SELECT a.annotator, sum(a.vote), sum(NOT a.vote) {answered} GROUP BY a.annotator"
            " ON CONFLICT DO UPDATE"
            " SET answered = answered + excluded.answered, skipped = skipped + excluded.skipped",
            which,
        )

    def _answer(self, db: sqlite3.Connection, who: str, item: int, round_: int, seq: int, vote: bool) -> None:
        """A person has voted on an item or skipped it."""
        db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (who, item, round_, seq, vote))
        place = place_of(db, item)
        if place is not None:
            _tally(db, who, vote, 1)
            if round_ == 0:
                if not place.gold:
                    _count(db, who, place.level, 1)
                self._raise(db, item, int(vote))

    def _take_back(self, db: sqlite3.Connection, who: str, item: int, round_: int, vote: bool) -> None:
        """The reverse of :meth:`_answer`: the item may be open for all again, also for those who are past it."""
        place = place_of(db, item)
        if place is not None:
            if round_ == 0:
                self._raise(db, item, -int(vote))
                if not place.gold:
                    _count(db, who, place.level - int(vote), -1)
            _tally(db, who, vote, -1)
            db.execute("INSERT OR IGNORE INTO reopened VALUES (?)", (item,))
        db.execute("DELETE FROM answers WHERE annotator = ? AND item = ? AND round = ?", (who, item, round_))

    def _decide(self, db: sqlite3.Connection, item: int) -> None:
        """The operator has decided an item, perhaps not for the first time."""
        sql = "SELECT count(*) FROM events WHERE type = 'adjudicate' AND item = ?"
        if db.execute(sql, (item,)).fetchone()[0] == 1:
            self._raise(db, item, ADJUDICATED)

    def _raise(self, db: sqlite3.Connection, item: int, by: int) -> None:
        """Change the level of an item, and move it in the counts of everybody who has seen it."""
        place = place_of(db, item)
        if place is None or by == 0:
            return
        db.execute("UPDATE places SET level = level + ? WHERE batch = ? AND item = ?", (by, place.batch, item))
        if place.gold:
            return
        seen = db.execute("SELECT annotator FROM answers WHERE item = ? AND round = 0", (item,)).fetchall()
        for (who,) in [(EVERYBODY,), *seen]:
            _count(db, who, place.level, -1)
            _count(db, who, place.level + by, 1)


class Place(NamedTuple):
    batch: int
    level: int
    gold: bool


def place_of(db: sqlite3.Connection, item: int) -> Place | None:
    """Of an item in the current batch."""
    row = db.execute(
        "SELECT batch, level, gold IS NOT NULL FROM batches JOIN places ON batch = batches.n"
        " WHERE current AND item = ?",
        (item,),
    ).fetchone()
    return row and Place(*row)


def current_batch(db: sqlite3.Connection) -> int | None:
    """The number of the current batch."""
    row = db.execute("SELECT n FROM batches WHERE current").fetchone()
    return row and row[0]


def _tally(db: sqlite3.Connection, who: str, vote: bool, by: int) -> None:
    db.execute("INSERT OR IGNORE INTO tallies VALUES (?, 0, 0)", (who,))
    column = "answered" if vote else "skipped"
    db.execute(f"UPDATE tallies SET {column} = {column} + ? WHERE annotator = ?", (by, who))


def _count(db: sqlite3.Connection, who: str, level: int, by: int) -> None:
    db.execute(
        "INSERT INTO levels VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n", (who, level, by)
    )
    db.execute("DELETE FROM levels WHERE annotator = ? AND level = ? AND n = 0", (who, level))
