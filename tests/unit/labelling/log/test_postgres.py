"""What PostgreSQL does by itself: a server that stops, several servers at once, tables that only grow."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, StoreError
from pipeline.labelling.log.database import LogFull, Refused
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.opening import URL_FILE
from pipeline.labelling.log.postgres import _code_and_message
from pipeline.labelling.log.queue import Plan
from tests.helpers.postgres_server import PostgresServer
from tests.unit.labelling.helpers import ITEMS, new_event, recorded, tables, vote

pytestmark = [pytest.mark.sqlite, pytest.mark.thorough]  # sqlite: it opens its own


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / f"{secrets.token_hex(4)}-labels"


@pytest.fixture
def log(postgres: PostgresServer, directory: Path) -> Iterator[Log]:
    log = Log(directory, postgres.url)
    log.batches.open("b", {})
    log.batches.add_items(ITEMS)
    yield log
    log.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET payload = '{}'",
        "DELETE FROM events",
        "TRUNCATE events",
        "INSERT INTO events (key, at, annotator, type, item, round, payload)"
        " SELECT key, at, annotator, type, item, 0, '{}' FROM events"
        " ON CONFLICT (key) DO UPDATE SET payload = '{}'",
    ],
)
def test_sql_cannot_change_or_erase_an_event(log: Log, sql: str) -> None:
    log.events.append(vote(log.people.add("first").id, ITEMS[0]))
    before = list(log.events.read())
    with pytest.raises(Exception, match="only ever added"), log.database.write() as db:
        db.execute(sql)
    assert list(log.events.read()) == before


def test_only_who_is_being_forgotten_is_erased(log: Log, postgres: PostgresServer) -> None:
    gone, other = log.people.add("Name Of The Gone").id, log.people.add("stays").id
    log.events.append(vote(gone, ITEMS[0], note="words of the gone"))
    kept = log.events.append(vote(other, ITEMS[1], note="words of the other")).seq
    assert log.forget(gone) == 1
    assert [e.seq for e in log.events.read()] == [kept]
    assert log.database.rows("SELECT * FROM forgetting") == []
    with pytest.raises(Refused, match="is not known"):
        log.events.append(vote(gone, ITEMS[2]))
    # Rewritten tables, on the disk: nothing of the person in any file but the write-ahead log.
    log.database.rows("CHECKPOINT")
    content = b"".join(p.read_bytes() for p in (postgres.directory / "data" / "base").rglob("*") if p.is_file())
    assert b"words of the other" in content
    assert b"words of the gone" not in content
    assert b"Name Of The Gone" not in content


def test_a_server_that_stops_loses_nothing_acknowledged(
    log: Log, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each call is to find one dead connection, however long the server takes to stop.
    monkeypatch.setattr("pipeline.labelling.log.postgres._ASK_AFTER_SECONDS", 1000.0)
    who = log.people.add("first").id
    receipts = [log.events.append(vote(who, item, key=f"key-of-{i:04}")) for i, item in enumerate(ITEMS[:5])]
    with contextlib.ExitStack() as stack:  # as many connections as eight readers at once take
        for _ in range(8):
            stack.enter_context(log.database.read())
    postgres.stop_at_once()
    event = vote(who, ITEMS[5], key="key-while-down")
    try:
        for _ in range(3):
            with pytest.raises(LogFull, match=r"has stopped or cannot be reached .*nothing was recorded"):
                log.events.append(event)
    finally:
        postgres.start()
    # Connections that idled meanwhile are dead, and nobody notices.
    idle = log.database._idle  # pyright: ignore[reportAttributeAccessIssue]
    assert len(idle) == 5
    for connection in idle:
        connection.used -= 2000
    assert not log.events.append(event).duplicate
    assert [e.seq for e in log.events.read()][:5] == [r.seq for r in receipts]
    before = tables(log)
    log.rebuild()
    assert tables(log) == before


def test_two_servers_share_links_and_the_queue(log: Log, postgres: PostgresServer, tmp_path: Path) -> None:
    """Another host has a data directory of its own, and the same name."""
    other = Log(tmp_path / "elsewhere" / log.directory.name, postgres.url)
    people = [log.people.add(f"person {i}") for i in range(8)]
    assert (other.people.all(), other.people.salt, other.people.operator_token) == (
        people, log.people.salt, log.people.operator_token,
    )  # fmt: skip
    plan = Plan(votes=8)

    def label(i: int) -> list[int]:
        numbers = []
        for n in range(200):
            at = (log, other)[(i + n) % 2]
            assignment = at.queue.next(people[i].id, plan)
            if assignment is None:
                break
            numbers.append(at.events.append(vote(people[i].id, assignment.item)).seq)
        return numbers

    with ThreadPoolExecutor(8) as pool:
        acknowledged = [seq for numbers in pool.map(label, range(8)) for seq in numbers]
    assert sorted(acknowledged) == [e.seq for e in log.events.read()]
    assert recorded(other) == 8 * len(ITEMS)
    assert len(log.answers.votes()) == 8 * len(ITEMS)
    before = tables(log)
    log.rebuild()
    assert tables(log) == before
    other.close()


def test_who_reads_on_misses_no_event(log: Log) -> None:
    """Numbers are in the order of commits: a reader that has seen n has seen all before n."""
    people = [log.people.add(f"person {i}").id for i in range(6)]
    seen: list[int] = []
    with ThreadPoolExecutor(6) as pool:
        working = [
            pool.submit(lambda who=who: [log.events.append(new_event("flag", who, i, on=True)) for i in ITEMS])
            for who in people
        ]
        while not all(each.done() for each in working):
            seen += [e.seq for e in log.events.read(seen[-1] if seen else 0)]
    seen += [e.seq for e in log.events.read(seen[-1] if seen else 0)]
    assert seen == [e.seq for e in log.events.read()]
    assert len(seen) == 60


def test_the_directory_remembers_its_database(log: Log, postgres: PostgresServer, directory: Path) -> None:
    log.people.add("first")
    assert (directory / URL_FILE).read_text().strip() == postgres.url
    again = Log(directory)
    assert [p.name for p in again.people.all()] == ["first"]
    again.close()


def test_a_schema_of_somebody_else(postgres: PostgresServer, log: Log, tmp_path: Path) -> None:
    log.database.rows('CREATE SCHEMA IF NOT EXISTS "theirs-labels"')
    with pytest.raises(StoreError, match="schema theirs-labels: is not a labelling log"):
        Log(tmp_path / "theirs-labels", postgres.url)
    assert not (tmp_path / "theirs-labels").exists()
    log.database.rows("UPDATE project SET version = 99")
    with pytest.raises(StoreError, match="has schema 99; this program reads up to 1"):
        Log(log.directory)


def test_no_such_database_and_no_server(postgres: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'refuses us \(database "nothing" does not exist\)'):
        Log(tmp_path / "x-labels", postgres.url.replace("/postgres?", "/nothing?"))
    with pytest.raises(LogFull, match="cannot be reached"):
        Log(tmp_path / "x-labels", f"postgresql://ann@/votes?host={tmp_path}")


def test_the_servers_word_outlives_the_drivers_own_failure() -> None:
    """Where the server is faster, closing the refused connection fails too, and that error is raised."""
    from pg8000.exceptions import DatabaseError, InterfaceError

    def refused() -> None:
        try:
            raise DatabaseError({"C": "3D000", "M": "no such database"})
        except DatabaseError:
            try:
                raise BrokenPipeError(32, "Broken pipe")
            except OSError as err:
                raise InterfaceError("network error") from err

    with pytest.raises(InterfaceError) as caught:
        refused()
    assert _code_and_message(caught.value) == ("3D000", "no such database")


def test_another_writer_for_too_long(log: Log, postgres: PostgresServer) -> None:
    hasty = Log(log.directory, busy_ms=100)
    with log.database.write(), pytest.raises(LogFull, match="another process has been writing for too long"):
        hasty.people.add("late")
    hasty.close()


def test_counts_are_whole_numbers(log: Log) -> None:
    who = log.people.add("first").id
    log.events.append(vote(who, ITEMS[0]))
    counts = log.queue.counts()[0]
    numbers = [
        *log.queue.answered_and_left(who, 1),
        counts.answered,
        counts.flagged,
        log.batches.ready(1, None).items,
    ]
    assert json.dumps(numbers) == "[1, 9, 1, 0, 10]"


def test_psql_reads_the_votes(log: Log, postgres: PostgresServer, directory: Path) -> None:
    """The tables are for people too: standard SQL on named columns."""
    log.events.append(vote(log.people.add("first").id, ITEMS[0]))
    sql = f'SELECT count(*) FROM "{directory.name}".current_votes'
    assert [tuple(row) for row in log.database.rows(sql)] == [(1,)]
