"""Counters derived from the log, in tables beside it so that no request has to count.

Table ``answers`` holds the current votes and skips. ``answers_so_far`` of an item (column ``level``) is its number
of current first-round votes, plus :data:`ADJUDICATED` where the operator has decided it: an item is done when that
reaches ``votes``. Table ``levels`` counts the current batch's items, without gold ones, by ``answers_so_far``: all
of them (annotator ``''``), and those that a person has answered or skipped. Below ``votes``, the difference is the
number left for that person.

Every function runs in the transaction of the event that changes a count. Items are numbers (``items.n``).
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

ADJUDICATED = 1_000_000
"""Exceeds the votes of any item."""
EVERYBODY = ""

_ANSWERS_SO_FAR = f"""
    (SELECT count(*) FROM answers a WHERE a.item = places.item AND a.round = 0 AND a.vote)
    + {ADJUDICATED} * EXISTS (SELECT 1 FROM events e WHERE e.type = 'adjudicate' AND e.item = places.item)
"""


def rebuild(db: sqlite3.Connection) -> None:
    """Recompute every derived table."""
    for table in ("answers", "levels", "tallies", "cursors", "reopened"):
        db.execute(f"DELETE FROM {table}")
    db.execute("INSERT INTO answers SELECT annotator, item, round, seq, type = 'vote' FROM current_answers")
    count_from(db, 0)


def count_from(db: sqlite3.Connection, position: int) -> None:
    """Count the items of the current batch from ``position`` on, all of them not counted yet."""
    batch = current_batch(db)
    if batch is None:
        return
    values = {"batch": batch, "since": position}
    db.execute(f"UPDATE places SET level = {_ANSWERS_SO_FAR} WHERE batch = :batch AND coming >= :since", values)
    db.execute(
        "INSERT INTO levels SELECT '', level, count(*) FROM places"
        " WHERE batch = :batch AND coming >= :since AND gold IS NULL GROUP BY level"
        " ON CONFLICT DO UPDATE SET n = n + excluded.n",
        values,
    )
    # CROSS JOIN: from the new places to their answers, never the other way round.
    answered = "FROM places p CROSS JOIN answers a ON a.item = p.item WHERE batch = :batch AND coming >= :since"
    db.execute(
        f"INSERT INTO levels SELECT a.annotator, p.level, count(*) {answered}"
        " AND gold IS NULL AND a.round = 0 GROUP BY a.annotator, p.level"
        " ON CONFLICT DO UPDATE SET n = n + excluded.n",
        values,
    )
    db.execute(
        f"INSERT INTO tallies SELECT a.annotator, sum(a.vote), sum(NOT a.vote) {answered} GROUP BY a.annotator"
        " ON CONFLICT DO UPDATE"
        " SET answered = answered + excluded.answered, skipped = skipped + excluded.skipped",
        values,
    )


def add_answer(db: sqlite3.Connection, who: str, item: int, round_: int, seq: int, vote: bool) -> None:
    """Count a vote, or a skip, of a person."""
    db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (who, item, round_, seq, vote))
    place = place_of(db, item)
    if place is not None:
        _count_answer(db, who, vote, 1)
        if round_ == 0:
            if not place.gold:
                _count_item(db, who, place.answers_so_far, 1)
            _raise(db, item, int(vote))


def take_back_answer(db: sqlite3.Connection, who: str, item: int, round_: int, vote: bool) -> None:
    """Reverse :func:`add_answer`, and reopen the item for everybody whose cursor is past it."""
    place = place_of(db, item)
    if place is not None:
        if round_ == 0:
            _raise(db, item, -int(vote))
            if not place.gold:
                _count_item(db, who, place.answers_so_far - int(vote), -1)
        _count_answer(db, who, vote, -1)
        db.execute("INSERT OR IGNORE INTO reopened VALUES (?)", (item,))
    db.execute("DELETE FROM answers WHERE annotator = ? AND item = ? AND round = ?", (who, item, round_))


def add_adjudication(db: sqlite3.Connection, item: int) -> None:
    """Count the operator's recorded decision on an item; a second one changes nothing."""
    sql = "SELECT count(*) FROM events WHERE type = 'adjudicate' AND item = ?"
    if db.execute(sql, (item,)).fetchone()[0] == 1:
        _raise(db, item, ADJUDICATED)


def _raise(db: sqlite3.Connection, item: int, by: int) -> None:
    """Change an item's ``answers_so_far``, also in the counts of everybody who has answered it."""
    place = place_of(db, item)
    if place is None or by == 0:
        return
    db.execute("UPDATE places SET level = level + ? WHERE batch = ? AND item = ?", (by, place.batch, item))
    if place.gold:
        return
    seen = db.execute("SELECT annotator FROM answers WHERE item = ? AND round = 0", (item,)).fetchall()
    for (who,) in [(EVERYBODY,), *seen]:
        _count_item(db, who, place.answers_so_far, -1)
        _count_item(db, who, place.answers_so_far + by, 1)


class Place(NamedTuple):
    """An item in the current batch."""

    batch: int
    answers_so_far: int
    gold: bool


def place_of(db: sqlite3.Connection, item: int) -> Place | None:
    """The item's place; None where the current batch does not have it."""
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


def _count_answer(db: sqlite3.Connection, who: str, vote: bool, by: int) -> None:
    db.execute("INSERT OR IGNORE INTO tallies VALUES (?, 0, 0)", (who,))
    column = "answered" if vote else "skipped"
    db.execute(f"UPDATE tallies SET {column} = {column} + ? WHERE annotator = ?", (by, who))


def _count_item(db: sqlite3.Connection, who: str, answers_so_far: int, by: int) -> None:
    db.execute(
        "INSERT INTO levels VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
        (who, answers_so_far, by),
    )
    db.execute("DELETE FROM levels WHERE annotator = ? AND level = ? AND n = 0", (who, answers_so_far))
