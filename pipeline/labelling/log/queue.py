"""The queue: assign a person's next item, count the items left for them, measure their pace."""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.base.records import bucket
from pipeline.labelling.items import Item
from pipeline.labelling.log.batches import Batches
from pipeline.labelling.log.counters import EVERYBODY, current_batch
from pipeline.labelling.log.database import Connection, Database
from pipeline.labelling.log.events import IN_BATCH, NOT_SHOWN, Event, event_of, select_events
from pipeline.labelling.log.people import People, require_active
from pipeline.labelling.settings import LabelSection

PACE_FROM = 5
"""Answers before a person's own pace is used to estimate the time left."""

_UNSEEN = "NOT EXISTS (SELECT 1 FROM answers a WHERE a.annotator = ? AND a.item = p.item AND a.round = 0)"


@dataclass(frozen=True)
class Plan:
    """The parameters of :meth:`Queue.next`. Shares are of the items shown."""

    votes: int = 1
    gold_share: float = 0.0
    repeat_share: float = 0.0
    repeat_after: int = 20
    lease_seconds: float = 900.0

    @classmethod
    def of(cls, s: LabelSection) -> Plan:
        return cls(s.votes, s.gold_share, s.repeat_share, s.repeat_after, s.lease_minutes * 60)


@dataclass(frozen=True)
class Assignment:
    """An item leased to a person.

    Attributes:
        round: 0, or 1 for a planned repeat.
        until: end of the lease, in seconds since the epoch.
        undone: the vote or skip that the person took back, where an undo reopened the item.
    """

    item: Item
    round: int
    until: float
    undone: Event | None = None


@dataclass(frozen=True)
class PersonCounts:
    """A person's counts in the current batch, gold items and repeats included.

    Attributes:
        answered, skipped, flagged: current votes, skips and flags.
        pace_ms: see :meth:`Queue.pace`.
        last_at: time of the newest event of any kind, in any batch.
    """

    annotator: str
    answered: int
    skipped: int
    flagged: int
    undone: int
    pace_ms: float | None
    last_at: str | None


class Queue:
    """Assigns each item to a person once, except for planned repeats.

    An assignment is a lease: others get other items until it expires. A lease that ends later than any lease could
    has expired too: the clock was set back.
    """

    def __init__(self, database: Database, people: People, batches: Batches) -> None:
        self._database, self._people, self._batches = database, people, batches

    def next(self, annotator: str, plan: Plan) -> Assignment | None:
        """The person's next assignment; None when nothing is left for them.

        Their newest unanswered assignment, so that an undone item comes at once. Else the first item in order that
        is not done, not seen by the person, and not leased to enough others; where all are leased, the first of
        those. At some turns a gold item or a planned repeat comes first. Raises Refused for
        unknown or withdrawn people.
        """
        with self._database.write() as db:
            require_active(db, annotator)
            batch = current_batch(db)
            if batch is None:
                return None
            turn = _Turn(db, batch, annotator, plan, self._people.salt, time.time())
            if not turn.renewed():
                item = turn.ordinary()
                if item is None:
                    return None
                turn.lease(*(turn.special() or (item, 0)))
            return self.current(annotator)

    def current(self, annotator: str) -> Assignment | None:
        """The person's newest unanswered assignment in the current batch; makes and renews none."""
        row = self._database.row(
            "SELECT i.id, i.n, l.round, l.until FROM leases l JOIN items i ON i.n = l.item"
            " JOIN places p ON p.item = l.item JOIN batches b ON b.n = p.batch AND b.current = 1"
            " WHERE l.annotator = ? ORDER BY l.n DESC LIMIT 1",
            (annotator,),
        )
        if row is None:
            return None
        item_id, n, round_, until = row
        undone = self._database.row(
            f"{select_events()} JOIN events u ON u.undoes = e.seq"
            " WHERE e.item = ? AND e.annotator = ? AND e.round = ? ORDER BY u.seq DESC LIMIT 1",
            (n, annotator, round_),
        )
        item = self._batches.item(item_id)
        assert item is not None
        return Assignment(item, round_, until, event_of(undone) if undone else None)

    def answered_and_left(self, annotator: str, votes: int) -> tuple[int, int]:
        """Count the person's answers in the current batch and the items left for them; ``votes`` as in the plan.

        Answers include gold items and repeats. Left are items other than gold that are neither done nor answered
        or skipped by the person.
        """
        answered = self._database.row("SELECT answered FROM tallies WHERE annotator = ?", (annotator,))
        sql = "SELECT coalesce(sum(CASE annotator WHEN '' THEN n ELSE -n END), 0) FROM levels"
        left = self._database.row(f"{sql} WHERE annotator IN ('', ?) AND level < ?", (annotator, votes))
        assert left is not None
        return answered[0] if answered else 0, left[0]

    def pace(self, annotator: str) -> float | None:
        """Median milliseconds of the person's newest 50 answers that have a time; None without any."""
        rows = self._database.rows(
            "SELECT e.ms FROM answers a JOIN events e ON e.seq = a.seq"
            " WHERE a.annotator = ? AND a.vote = 1 AND e.ms IS NOT NULL ORDER BY a.seq DESC LIMIT 50",
            (annotator,),
        )
        return statistics.median(ms for (ms,) in rows) if rows else None

    def seconds_left(self, annotator: str, answered: int, left: int) -> float | None:
        """The time for ``left`` items at the person's own pace; None below :data:`PACE_FROM` answers."""
        pace = self.pace(annotator) if answered >= PACE_FROM else None
        return None if pace is None else pace * left / 1000

    def counts(self) -> list[PersonCounts]:
        """Each person's counts in the current batch, in the order of adding."""
        here = f"{IN_BATCH} WHERE e.annotator = w.id"
        rows = self._database.rows(
            "SELECT w.id, coalesce(t.answered, 0), coalesce(t.skipped, 0),"
            f" (SELECT count(*) FROM current_flags e {here}),"
            f" (SELECT count(*) FROM events e {here} AND e.type = 'undo'),"
            " (SELECT at FROM events WHERE seq = (SELECT max(seq) FROM events WHERE annotator = w.id))"
            " FROM people w LEFT JOIN tallies t ON t.annotator = w.id ORDER BY w.n"
        )
        return [PersonCounts(*row[:5], pace_ms=self.pace(row[0]), last_at=row[5]) for row in rows]


@dataclass(frozen=True)
class _Turn:
    """Chooses an item for one person, inside a transaction. Items are numbers (``items.n``)."""

    db: Connection
    batch: int
    annotator: str
    plan: Plan
    salt: str
    now: float

    def renewed(self) -> bool:
        """Renew the person's open assignment, if any; drop expired ones whose item others have done."""
        own = self.db.execute(
            "SELECT l.n, l.until, (l.round = 1 OR p.gold IS NOT NULL OR p.level < ?)"
            " FROM leases l JOIN places p ON p.batch = ? AND p.item = l.item"
            " WHERE l.annotator = ? ORDER BY l.n DESC",
            (self.plan.votes, self.batch, self.annotator),
        ).fetchall()
        for n, until, wanted in own:
            left = until - self.now
            if wanted or until == NOT_SHOWN or 0 < left <= self.plan.lease_seconds:
                # Not at every reload of the page.
                if not self.plan.lease_seconds / 2 < left <= self.plan.lease_seconds:
                    self.db.execute("UPDATE leases SET until = ? WHERE n = ?", (self._until, n))
                return True
            self.db.execute("DELETE FROM leases WHERE n = ?", (n,))
        return False

    def lease(self, item: int, round_: int) -> None:
        sql = "INSERT INTO leases (annotator, item, round, until) VALUES (?, ?, ?, ?)"
        self.db.execute(sql, (self.annotator, item, round_, self._until))

    @property
    def _until(self) -> float:
        return self.now + self.plan.lease_seconds

    def ordinary(self) -> int | None:
        """The first item that needs this person's answer; if all are leased to enough others, the first."""
        rows = self.db.execute(
            "SELECT item, count(*) FROM leases"
            " WHERE annotator <> ? AND round = 0 AND until > ? AND until <= ? GROUP BY item",
            (self.annotator, self.now, self._until),
        )
        leased = dict(rows.fetchall())
        first = None
        for item, answers_so_far in self._open():
            first = first or item
            if answers_so_far + leased.get(item, 0) < self.plan.votes:
                return item
        return first

    def _open(self) -> Iterator[tuple[int, int]]:
        """(item, answers_so_far) of items neither done nor seen by this person, in order."""
        self.db.execute(
            "DELETE FROM reopened WHERE NOT EXISTS ("
            " SELECT 1 FROM places p WHERE p.batch = ? AND p.item = reopened.item AND p.level < ?)",
            (self.batch, self.plan.votes),
        )
        # CROSS JOIN fixes the join order: from the few reopened items to their places.
        reopened = self.db.execute(
            "SELECT p.item, p.level, p.priority, p.coming"
            " FROM reopened r CROSS JOIN places p WHERE p.batch = ? AND p.item = r.item"
            f" AND p.gold IS NULL AND {_UNSEEN} ORDER BY p.priority, p.coming",
            (self.batch, self.annotator),
        ).fetchall()
        first = next(self._search(EVERYBODY, (float("-inf"), 0)), None)
        rest = self._search(self.annotator, first[2:]) if first else ()
        for item, answers_so_far, *_ in heapq.merge(reopened, rest, key=lambda row: row[2:]):
            yield item, answers_so_far

    def _search(self, who: str, start: tuple[float, int]) -> Iterator[tuple[int, int, float, int]]:
        """(item, answers_so_far, priority, position) of items not done, nor seen by ``who``, from ``start`` on.

        An item that is done or seen stays so or is in ``reopened``, so a cursor at the first result is where the
        next search starts. A cursor for another number of votes is ignored.
        """
        sql = "SELECT priority, coming FROM cursors WHERE annotator = ? AND votes = ?"
        cursor = self.db.execute(sql, (who, self.plan.votes)).fetchone()
        rows = self._from(who, max(cursor or start, start))
        first = next(rows, None)
        if first is None:
            return
        if first[2:] != cursor:
            sql = (
                "INSERT INTO cursors VALUES (?, ?, ?, ?) ON CONFLICT (annotator) DO UPDATE"
                " SET votes = excluded.votes, priority = excluded.priority, coming = excluded.coming"
            )
            self.db.execute(sql, (who, self.plan.votes, *first[2:]))
        yield first
        yield from rows

    def _from(self, who: str, start: tuple[float, int]) -> Iterator[tuple[int, int, float, int]]:
        """The rows of :meth:`_search`, in chunks: PostgreSQL's driver would read all of a long result."""
        comparison, size = ">=", 16
        while True:
            rows = self.db.execute(
                "SELECT p.item, p.level, p.priority, p.coming FROM places p INDEXED BY queue"
                " WHERE p.batch = ? AND p.gold IS NULL AND p.level < ?"
                f" AND (p.priority, p.coming) {comparison} (?, ?)"
                f" AND {_UNSEEN} ORDER BY p.priority, p.coming LIMIT {size}",
                (self.batch, self.plan.votes, *start, who),
            ).fetchall()
            yield from rows
            if len(rows) < size:
                return
            start, comparison, size = rows[-1][2:], ">", min(size * 8, 4096)

    def special(self) -> tuple[int, int] | None:
        """(item, round) of the gold item or repeat due at this turn, decided by a hash of the answer count."""
        sql = "SELECT answered + skipped FROM tallies WHERE annotator = ?"
        row = self.db.execute(sql, (self.annotator,)).fetchone()
        turn = f"{self.annotator}\0{row[0] if row else 0}"
        drawn = bucket(turn, salt=f"turn:{self.salt}")
        if drawn < self.plan.gold_share:
            return self._gold()
        if drawn < self.plan.gold_share + self.plan.repeat_share:
            return self._repeat(bucket(turn, salt=f"repeat:{self.salt}"))
        return None

    def _gold(self) -> tuple[int, int] | None:
        return self.db.execute(
            "SELECT p.item, 0 FROM places p INDEXED BY gold WHERE p.batch = ? AND p.gold IS NOT NULL"
            f" AND {_UNSEEN} ORDER BY p.priority, p.coming LIMIT 1",
            (self.batch, self.annotator),
        ).fetchone()

    def _repeat(self, where: float) -> tuple[int, int] | None:
        """The first vote, old enough to repeat, from the fraction ``where`` of the person's votes on."""
        votes = "FROM answers WHERE annotator = ? AND vote = 1"
        oldest = self.db.execute(f"SELECT min(seq) {votes}", (self.annotator,)).fetchone()[0]
        sql = f"SELECT seq {votes} ORDER BY seq DESC LIMIT 1 OFFSET ?"
        newest = self.db.execute(sql, (self.annotator, self.plan.repeat_after)).fetchone()
        if newest is None:
            return None
        middle = oldest + int(where * (newest[0] - oldest + 1))
        for low, high in ((middle, newest[0]), (oldest, middle - 1)):
            row = self.db.execute(
                "SELECT a.item, 1 FROM answers a JOIN places p ON p.batch = ? AND p.item = a.item"
                " WHERE a.annotator = ? AND a.vote = 1 AND a.round = 0 AND a.seq BETWEEN ? AND ?"
                " AND p.gold IS NULL AND NOT EXISTS (SELECT 1 FROM answers r"
                "  WHERE r.annotator = a.annotator AND r.item = a.item AND r.round = 1)"
                " ORDER BY a.seq LIMIT 1",
                (self.batch, self.annotator, low, high),
            ).fetchone()
            if row:
                return row
        return None
