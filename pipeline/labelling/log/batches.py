"""Batches: ordered sets of items to answer. One of them is current."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, cast

from pipeline.base.errors import StoreError
from pipeline.base.json_values import JsonObject
from pipeline.labelling.items import Item, Mode
from pipeline.labelling.log import counters
from pipeline.labelling.log.counters import EVERYBODY, current_batch
from pipeline.labelling.log.database import Connection, Database
from pipeline.labelling.settings import Ready

_CHUNK = 500
_ITEM = "SELECT i.mode, i.texts, p.split, p.gold FROM items i JOIN places p ON p.item = i.n"


class Batches:
    """Table ``batches``. A batch is a set of comparisons; an item may be in several, where its votes count."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, batch: str, about: Mapping[str, Any]) -> None:
        """Make a batch the current one; create a new one.

        Args:
            batch: a comparisons version's id, or a stage's key.
            about: the batch's description on the operator's page; replaces an earlier one.
        """
        with self._database.write() as db:
            before = current_batch(db)
            db.execute(
                "INSERT INTO batches (name, about) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET about = excluded.about",
                (batch, json.dumps(dict(about))),
            )
            db.execute("UPDATE batches SET current = CASE name WHEN ? THEN 1 ELSE 0 END", (batch,))
            if current_batch(db) != before:
                counters.rebuild(db)

    @property
    def current(self) -> str | None:
        """The name of the current batch."""
        row = self._database.row("SELECT name FROM batches WHERE current = 1")
        return row[0] if row else None

    @property
    def about(self) -> JsonObject:
        """The ``about`` of the current batch; empty without one."""
        row = self._database.row("SELECT about FROM batches WHERE current = 1")
        return json.loads(row[0]) if row else {}

    def add_items(self, items: Iterable[Item], priorities: Iterable[float] | None = None) -> int:
        """Add items to the current batch in one transaction; items already in it do not change.

        Args:
            priorities: one per item: the lowest is asked first, equal ones in the order added. 0 by default.
        Returns:
            The number of new items.
        Raises:
            StoreError: there is no current batch.
            ValueError: fewer or more priorities than items.
        """
        # A list: the items may still be sampled, and the transaction would block every vote meanwhile.
        pairs = list(zip(items, priorities, strict=True) if priorities is not None else zip(items, repeat(0.0)))
        with self._database.write() as db:
            batch = current_batch(db)
            if batch is None:
                raise StoreError(self._database.where, "has no batch to add items to.")
            return add_in(db, batch, pairs)

    def set_priorities(self, priorities: Mapping[str, float]) -> None:
        """Change the order of the current batch; ids that are not in it are ignored."""
        with self._database.write() as db:
            batch = current_batch(db)
            db.executemany(
                "UPDATE places SET priority = ? WHERE batch = ? AND item = (SELECT n FROM items WHERE id = ?)",
                ((priority, batch, item) for item, priority in priorities.items()),
            )
            db.execute("DELETE FROM cursors")

    def finish(self) -> None:
        """Declare the current batch complete."""
        with self._database.write() as db:
            db.execute("UPDATE batches SET whole = 1 WHERE current = 1")

    @property
    def whole(self) -> bool:
        """Whether the number of items is final."""
        return self._database.row("SELECT 1 FROM batches WHERE current = 1 AND whole = 1") is not None

    def item(self, item_id: str) -> Item | None:
        """An item of this project, as in the current batch if possible, else in the newest that has it."""
        sql = f"{_ITEM} JOIN batches b ON b.n = p.batch WHERE i.id = ? ORDER BY b.current DESC, b.n DESC LIMIT 1"
        row = self._database.row(sql, (item_id,))
        return _item(row) if row else None

    def items(self) -> Iterator[Item]:
        """The current batch in order, gold items included."""
        sql = "SELECT p.batch, p.item FROM places p JOIN batches b ON b.n = p.batch WHERE b.current = 1"
        places = iter(self._database.rows(f"{sql} ORDER BY priority, coming"))
        # In chunks: one long read would keep SQLite from truncating the WAL meanwhile.
        while chunk := list(islice(places, _CHUNK)):
            marks = ",".join("?" * len(chunk))
            rows = self._database.rows(
                f"{_ITEM} WHERE p.batch = ? AND p.item IN ({marks}) ORDER BY p.priority, p.coming",
                (chunk[0][0], *(item for _, item in chunk)),
            )
            yield from map(_item, rows)

    def ready(self, votes: int, enough: int | None) -> Ready:
        """Whether the stop rule holds. Gold items do not count.

        Args:
            votes: first-round votes that make an item done; the operator's decision does so too.
            enough: number of done items that is enough; None: all of them.
        """
        sql = "SELECT CASE WHEN level >= ? THEN 1 ELSE 0 END, sum(n) FROM levels WHERE annotator = ? GROUP BY 1"
        by_done = dict(self._database.rows(sql, (votes, EVERYBODY)))
        done, items = by_done.get(1, 0), sum(by_done.values())
        if self.whole:
            return Ready(done, items, min(enough or items, items))
        # While more items may come, "all of them" is one more than are done.
        return Ready(done, items, enough or max(items, done + 1))


def add_in(db: Connection, batch: int, pairs: Iterable[tuple[Item, float]]) -> int:
    """:meth:`Batches.add_items` inside a transaction, with (item, priority)."""
    sql = "SELECT coalesce(max(coming) + 1, 0) FROM places WHERE batch = ?"
    first = position = db.execute(sql, (batch,)).fetchone()[0]
    remaining = iter(pairs)
    # Many in one statement: each is a way to a server and back.
    while chunk := list(islice(remaining, _CHUNK)):
        position += _insert(db, batch, position, chunk)
    counters.count_from(db, first)
    _move_cursors_back(db, batch, first)
    return position - first


def _insert(db: Connection, batch: int, position: int, pairs: Sequence[tuple[Item, float]]) -> int:
    """Returns the number of new places: items that are in the batch already get none."""
    by_id: dict[str, tuple[Item, float]] = {}
    for item, priority in pairs:
        by_id.setdefault(item.id, (item, priority))
    rows = [(item.id, item.mode, json.dumps([item.prompt, *item.completions])) for item, _ in by_id.values()]
    _insert_rows(db, "items (id, mode, texts)", rows, "ON CONFLICT DO NOTHING")
    marks = ",".join("?" * len(by_id))
    numbers = dict(db.execute(f"SELECT id, n FROM items WHERE id IN ({marks})", tuple(by_id)).fetchall())
    placed = db.execute(
        f"SELECT item FROM places WHERE batch = ? AND item IN ({marks})", (batch, *numbers.values())
    )
    old = {item for (item,) in placed.fetchall()}
    new = [(numbers[id_], *pair) for id_, pair in by_id.items() if numbers[id_] not in old]
    places = [
        (batch, n, position + i, priority, item.split, item.gold) for i, (n, item, priority) in enumerate(new)
    ]
    _insert_rows(db, "places (batch, item, coming, priority, split, gold)", places)
    return len(places)


def _insert_rows(db: Connection, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
    if rows:
        marks = ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
        db.execute(f"INSERT INTO {table} VALUES {marks} {conflict}", [value for row in rows for value in row])


def _move_cursors_back(db: Connection, batch: int, first: int) -> None:
    """Move cursors back to the first of the places added from ``position = first`` on."""
    db.execute(
        "UPDATE cursors SET priority = p.priority, coming = p.coming FROM ("
        " SELECT priority, coming FROM places WHERE batch = ? AND coming >= ?"
        " ORDER BY priority, coming LIMIT 1) p"
        " WHERE (cursors.priority, cursors.coming) > (p.priority, p.coming)",
        (batch, first),
    )


def _item(row: Sequence[Any]) -> Item:
    mode, texts, split, gold = row
    prompt, *completions = json.loads(texts)
    return Item(prompt, tuple(completions), cast("Mode", mode), split, gold)
