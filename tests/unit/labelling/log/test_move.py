"""A log moves from its file into PostgreSQL whole, wherever the move is cut off."""

from __future__ import annotations

import importlib
import secrets
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.labelling.log.database import LogFull
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.move import move_to_postgres
from pipeline.labelling.log.opening import URL_FILE
from pipeline.labelling.log.postgres_schema import TABLES
from pipeline.labelling.log.queue import Plan
from pipeline.labelling.log.sqlite_schema import FILE
from tests.helpers.postgres_server import PostgresServer
from tests.unit.labelling.helpers import ITEMS, new_event, open_log, undo, vote

move = importlib.import_module("pipeline.labelling.log.move")
pytestmark = [pytest.mark.sqlite, pytest.mark.thorough]  # sqlite: it opens its own


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / f"{secrets.token_hex(4)}-labels"


@pytest.fixture
def content(directory: Path) -> dict[str, Any]:
    """Fill the file with every kind of event, an erased person, and odd texts; returns what is in it."""
    log = open_log(directory, ITEMS, whole=True)
    first, second, gone = (log.people.add(name).id for name in ('a "b", c', "d\\e\n\tf", "gone"))
    for item in ITEMS[:6]:
        log.events.append(vote(first, item, note='quotes ", commas, \\N and\nlines'))
    log.events.append(undo(first))
    log.events.append(new_event("flag", second, ITEMS[1], on=True))
    log.events.append(new_event("skip", second, ITEMS[2]))
    log.events.append(vote(gone, ITEMS[3]))
    log.forget(gone)  # the last event of all is erased, and its number is never given again
    log.queue.next(first, Plan(votes=2))
    result = _content(log)
    log.close()
    return result


def _content(log: Log) -> dict[str, Any]:
    tables = {table: sorted(log.database.rows(f"SELECT * FROM {table}"), key=repr) for table in TABLES}
    return tables | {"secret": log.database.secret, "read": list(log.events.read())}


def test_everything_moves_and_the_log_goes_on(
    directory: Path, content: dict[str, Any], postgres: PostgresServer
) -> None:
    events = len(content["events"])
    assert move_to_postgres(directory, postgres.url) == events
    assert sorted(p.name for p in directory.iterdir()) == [URL_FILE]
    log = Log(directory)
    assert _content(log) == content
    before = _content(log)
    log.rebuild()
    assert _content(log)["answers"] == before["answers"]
    receipt = log.events.append(vote(log.people.add("new").id, ITEMS[7]))
    assert receipt.seq == max(seq for seq, *_ in content["events"]) + 2  # one was erased
    assert log.events.append(vote(log.people.add('a "b", c').id, ITEMS[8])).seq == receipt.seq + 1
    log.close()
    assert move_to_postgres(directory, postgres.url) is None


@pytest.mark.parametrize("step", ["_holds_a_copy", "_copy", "record_url", "remove_moved"])
@pytest.mark.parametrize("after", [False, True])
def test_a_killed_move_goes_on(
    directory: Path, content: dict[str, Any], postgres: PostgresServer, step: str, after: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    original = getattr(move, step)

    class Killed(BaseException):
        pass

    def killed(*args: Any) -> Any:
        result = original(*args) if after else None
        raise Killed(result)

    with monkeypatch.context() as patch:
        patch.setattr(move, step, killed)
        patch.setattr(move.SqliteDatabase, "thaw", lambda _: None)  # a killed process does not
        with pytest.raises(Killed):
            move_to_postgres(directory, postgres.url)
    move_to_postgres(directory, postgres.url)
    assert sorted(p.name for p in directory.iterdir()) == [URL_FILE]
    log = Log(directory)
    assert _content(log) == content
    log.close()


def test_a_file_that_a_killed_move_left_goes_when_the_log_is_opened(
    directory: Path, content: dict[str, Any], postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(move, "remove_moved", lambda _: None)
        move_to_postgres(directory, postgres.url)
    assert (directory / FILE).exists()
    log = Log(directory)
    assert sorted(p.name for p in directory.iterdir()) == [URL_FILE]
    assert _content(log) == content
    log.close()


def test_a_server_that_has_the_file_open_acknowledges_nothing_more(
    directory: Path, content: dict[str, Any], postgres: PostgresServer
) -> None:
    running = Log(directory)
    who = running.people.add("d\\e\n\tf").id
    move_to_postgres(directory, postgres.url)
    for refused in (
        lambda: running.events.append(vote(who, ITEMS[5])),
        lambda: running.people.add("another"),
        lambda: running.forget(who),
        lambda: running.batches.open("another", {}),
    ):
        with pytest.raises(LogFull, match=r"moving to another database; nothing was recorded\. .*label\.database"):
            refused()
    running.close()  # its threads open the file anew
    with pytest.raises(LogFull, match="cannot be opened"):
        running.events.append(vote(who, ITEMS[5]))
    assert not (directory / FILE).exists()
    log = Log(directory)
    assert _content(log) == content
    log.close()


def test_a_refused_move_leaves_the_file_in_use(
    directory: Path, content: dict[str, Any], postgres: PostgresServer
) -> None:
    other = directory.parent / "elsewhere" / directory.name
    log = Log(other, postgres.url)
    log.people.add("of another project")
    log.close()
    with pytest.raises(ConfigError, match="has other answers"):
        move_to_postgres(directory, postgres.url)
    log = Log(directory)
    assert _content(log) == content
    log.people.add("new")
    log.close()


def test_a_database_that_fails_in_the_move_leaves_the_file_in_use(
    directory: Path, content: dict[str, Any], postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = move._copy

    def stopped(source: Any, db: Any) -> None:
        original(source, db)
        raise LogFull("the database", "has stopped; nothing was recorded.")

    with monkeypatch.context() as patch:
        patch.setattr(move, "_copy", stopped)
        with pytest.raises(LogFull, match="has stopped"):
            move_to_postgres(directory, postgres.url)
    log = Log(directory)
    log.events.append(vote(log.people.add('a "b", c').id, ITEMS[9]))
    events = len(list(log.events.read()))
    log.close()
    assert move_to_postgres(directory, postgres.url) == events == len(content["events"]) + 1


def test_what_cannot_move_is_refused(directory: Path, postgres: PostgresServer, content: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=f"Move them: .*--move label.database={postgres.url}".replace("?", r"\?")
    ):
        Log(directory, postgres.url)
    with pytest.raises(ConfigError, match="has no answers to move"):
        move_to_postgres(directory.with_name("none-labels"), postgres.url)
    move_to_postgres(directory, postgres.url)
    with pytest.raises(ConfigError, match=r"the answers are in .* already"):
        move_to_postgres(directory, postgres.url + "&sslmode=disable")
