"""Counters derived from the log, in tables beside it so that no request has to count.

Table ``answers`` holds the current votes and skips. ``answers_so_far`` of an item (column ``level``) is its number
of current first-round votes, plus :data:`ADJUDICATED` where the operator has decided it: an item is done when that
reaches ``votes``. Table ``levels`` counts the current batch's items, without gold ones, by ``answers_so_far``: all
of them (annotator ``''``), and those that a person has answered or skipped. Below ``votes``, the difference is the
number left for that person.

Every function runs in the transaction of the event that changes a count. Items are numbers (``items.n``).
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.labelling.log.database import Connection

ADJUDICATED = 1_000_000
"""Exceeds the votes of any item."""
EVERYBODY = ""

_ANSWERS_SO_FAR = f"""
    (SELECT count(*) FROM answers a WHERE a.item = places.item AND a.round = 0 AND a.vote = 1)
    + CASE WHEN EXISTS (SELECT 1 FROM events e WHERE e.type = 'adjudicate' AND e.item = places.item)
      THEN {ADJUDICATED} ELSE 0 END
"""


def rebuild(db: Connection) -> None:
    """Recompute every derived table."""
    for table in ("answers", "levels", "tallies", "cursors", "reopened"):
        db.execute(f"DELETE FROM {table}")
    db.execute(
        "INSERT INTO answers SELECT annotator, item, round, seq, CASE type WHEN 'vote' THEN 1 ELSE 0 END"
        " FROM current_answers"
    )
    count_from(db, 0)


def count_from(db: Connection, position: int) -> None:
    """Count the items of the current batch from ``position`` on, all of them not counted yet."""
    batch = current_batch(db)
    if batch is None:
        return
    values = (batch, position)
    db.execute(f"UPDATE places SET level = {_ANSWERS_SO_FAR} WHERE batch = ? AND coming >= ?", values)
    db.execute(
        "INSERT INTO levels SELECT '', level, count(*) FROM places"
        " WHERE batch = ? AND coming >= ? AND gold IS NULL GROUP BY level"
        " ON CONFLICT (annotator, level) DO UPDATE SET n = levels.n + excluded.n",
        values,
    )
    # CROSS JOIN: from the new places to their answers, never the other way round.
    answered = "FROM places p CROSS JOIN answers a WHERE a.item = p.item AND batch = ? AND coming >= ?"
    db.execute(
        f"INSERT INTO levels SELECT a.annotator, p.level, count(*) {answered}"
        " AND gold IS NULL AND a.round = 0 GROUP BY a.annotator, p.level"
        " ON CONFLICT (annotator, level) DO UPDATE SET n = levels.n + excluded.n",
        values,
    )
    db.execute(
        f"INSERT INTO tallies SELECT a.annotator, sum(a.vote), sum(1 - a.vote) {answered} GROUP BY a.annotator"
        " ON CONFLICT (annotator) DO UPDATE"
        " SET answered = tallies.answered + excluded.answered, skipped = tallies.skipped + excluded.skipped",
        values,
    )


def add_answer(db: Connection, who: str, item: int, round_: int, seq: int, vote: bool) -> None:
    """Count a vote, or a skip, of a person."""
    db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (who, item, round_, seq, int(vote)))
    place = place_of(db, item)
    if place is not None:
        _count_answer(db, who, vote, 1)
        if round_ == 0:
            if not place.gold:
                _count_item(db, who, place.answers_so_far, 1)
            _raise(db, item, int(vote))


def take_back_answer(db: Connection, who: str, item: int, round_: int, vote: bool) -> None:
    """Reverse :func:`add_answer`, and reopen the item for everybody whose cursor is past it."""
    place = place_of(db, item)
    if place is not None:
        if round_ == 0:
            _raise(db, item, -int(vote))
            if not place.gold:
                _count_item(db, who, place.answers_so_far - int(vote), -1)
        _count_answer(db, who, vote, -1)
        db.execute("INSERT INTO reopened VALUES (?) ON CONFLICT DO NOTHING", (item,))
    db.execute("DELETE FROM answers WHERE annotator = ? AND item = ? AND round = ?", (who, item, round_))


def add_adjudication(db: Connection, item: int) -> None:
    """Count the operator's recorded decision on an item; a second one changes nothing."""
    sql = "SELECT count(*) FROM events WHERE type = 'adjudicate' AND item = ?"
    if db.execute(sql, (item,)).fetchone()[0] == 1:
        _raise(db, item, ADJUDICATED)


def _raise(db: Connection, item: int, by: int) -> None:
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


def place_of(db: Connection, item: int) -> Place | None:
    """The item's place; None where the current batch does not have it."""
    row = db.execute(
        "SELECT batch, level, gold IS NOT NULL FROM batches JOIN places ON batch = batches.n"
        " WHERE current = 1 AND item = ?",
        (item,),
    ).fetchone()
    return row and Place(*row)


def current_batch(db: Connection) -> int | None:
    """The number of the current batch."""
    row = db.execute("SELECT n FROM batches WHERE current = 1").fetchone()
    return row and row[0]


def _count_answer(db: Connection, who: str, vote: bool, by: int) -> None:
    db.execute("INSERT INTO tallies VALUES (?, 0, 0) ON CONFLICT DO NOTHING", (who,))
    column = "answered" if vote else "skipped"
    db.execute(f"UPDATE tallies SET {column} = {column} + ? WHERE annotator = ?", (by, who))


def _count_item(db: Connection, who: str, answers_so_far: int, by: int) -> None:
    db.execute(
        "INSERT INTO levels VALUES (?, ?, ?)"
        " ON CONFLICT (annotator, level) DO UPDATE SET n = levels.n + excluded.n",
        (who, answers_so_far, by),
    )
    db.execute("DELETE FROM levels WHERE annotator = ? AND level = ? AND n = 0", (who, answers_so_far))
