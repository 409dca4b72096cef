"""Erasing a person from the log leaves no byte of them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from pipeline.labelling.items import TYPED, Item
from pipeline.labelling.log.database import LogFull, Refused
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewRetraction
from pipeline.labelling.log.sqlite import SqliteDatabase
from pipeline.labelling.log.sqlite_schema import FILE
from tests.unit.labelling.helpers import ITEMS, new_event, open_log, sourced, tables, vote

SECRETS = ("very private note", "note on a skip", "text of my own hand", "nobody should know this name", "my-key-")


def bytes_of(directory: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(directory.iterdir()))


# Seen failing with: no VACUUM; no checkpoint; the name left in people.
@pytest.mark.sqlite
def test_forget_leaves_no_byte(tmp_path: Path) -> None:
    log = open_log(tmp_path / "l", ITEMS)
    # Some builds of SQLite overwrite what they erase, and would hide a missing VACUUM.
    log.database.row("PRAGMA secure_delete=OFF")
    gone, other = log.people.add(SECRETS[3]).id, log.people.add("stays").id
    for i, item in enumerate(ITEMS[:8]):
        log.events.append(new_event("vote", gone, item, key=f"my-key-{i:03}", note=SECRETS[0] * 30))
        log.events.append(vote(other, item, note="note of another"))
    log.events.append(new_event("skip", gone, ITEMS[8], key="my-key-skip", note=SECRETS[1]))
    log.events.append(new_event("edit", gone, ITEMS[8], key="my-key-edit", completion=0, text=SECRETS[2]))
    log.events.append(new_event("undo", gone, key="my-key-undo"))
    before = list(log.events.read())
    kept = [e for e in before if e.annotator == other]
    assert all(secret.encode() in bytes_of(log.directory) for secret in SECRETS)

    with_another_process_open = Log(tmp_path / "l")
    assert with_another_process_open.answers.flagged(gone, ITEMS[0].id) is False
    assert log.forget(gone) == 11
    data = bytes_of(log.directory)
    assert not [secret for secret in SECRETS if secret.encode() in data]
    assert b"note of another" in data
    assert list(log.events.read()) == kept
    assert [v.annotator for v in log.answers.votes()] == [other] * 8
    assert [p.id for p in log.people.all()] == [other]
    assert [c.annotator for c in log.queue.counts()] == [other]
    assert (log.batches.ready(1, None).done, log.batches.ready(2, None).done) == (8, 0)
    assert log.queue.answered_and_left(other, 1) == (8, 2)

    ((who, at, counts, sha),) = log.database.rows("SELECT * FROM forgotten")
    assert (who, json.loads(counts)) == (
        hashlib.sha256(gone.encode()).hexdigest(),
        {"vote": 8, "skip": 1, "edit": 1, "undo": 1},
    )
    assert at.endswith("+00:00")
    assert len(sha) == 64
    # Numbers of erased events are not given again; a late retry is not recorded.
    assert log.events.append(vote(other, ITEMS[8])).seq == before[-1].seq + 1
    with pytest.raises(Refused, match="is not known"):
        log.events.append(vote(gone, ITEMS[0]))
    assert log.forget(gone) == 0
    with pytest.raises(Refused, match="is not known"):
        log.forget("p_0123456789")
    assert log.people.add(SECRETS[3]).id != gone


@pytest.mark.sqlite
def test_forget_says_when_a_reader_keeps_the_old_pages(tmp_path: Path) -> None:
    log = Log(tmp_path / "l", busy_ms=100)
    who = log.people.add("first").id
    reader = sqlite3.connect(log.directory / FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM people").fetchall()
    with pytest.raises(LogFull, match=r"is being read by another process.*Run it again"):
        log.forget(who)
    reader.execute("COMMIT")
    reader.close()
    assert log.forget(who) == 0
    assert b"first" not in bytes_of(log.directory)


@pytest.mark.sqlite
def test_only_who_is_being_forgotten_can_be_erased(log: Log, who: str) -> None:
    log.events.append(vote(who, ITEMS[0]))
    other = log.people.add("second").id
    log.events.append(vote(other, ITEMS[0]))
    log.forget(other)
    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        log.database.rows("DELETE FROM events")
    assert log.database.rows("SELECT * FROM forgetting") == []


def test_forget_erases_the_items_that_only_this_person_typed(tmp_path: Path) -> None:
    log = open_log(tmp_path / "l", ITEMS[:1])
    log.batches.open("chat", {TYPED: True})
    if isinstance(log.database, SqliteDatabase):
        log.database.row("PRAGMA secure_delete=OFF")
    gone, other = log.people.add("gone").id, log.people.add("stays").id
    mine, both, theirs = (Item(text, ("x", "y")) for text in ("words of my own", "words of both", "their words"))
    for who, item in ((gone, mine), (gone, both), (other, both), (other, theirs)):
        log.answer(item, sourced(who, item))
    # A vote that was taken back, too.
    withdrawn = Item("withdrawn words", ("x", "y"))
    log.answer(withdrawn, sourced(gone, withdrawn))
    log.answer(withdrawn, NewRetraction(key="retraction", annotator=gone, item=withdrawn.id))
    assert log.forget(gone) == 4
    assert [item.prompt for item in log.batches.items()] == ["words of both", "their words"]
    for words in (b"words of my own", b"withdrawn words") if isinstance(log.database, SqliteDatabase) else ():
        assert words not in bytes_of(log.directory)
    # Items that an experiment brought stay, without a vote too.
    log.batches.open("b", {})
    assert [item.id for item in log.batches.items()] == [ITEMS[0].id]
    before = tables(log)
    log.rebuild()
    assert tables(log) == before
