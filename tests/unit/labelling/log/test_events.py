"""Recording events: each once, in order, never changed; what cannot be is refused and changes nothing."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.labelling.log.database import Refused
from pipeline.labelling.log.events import Receipt, append_in
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewEvent, NewSkip, NewVote
from pipeline.labelling.log.sqlite_schema import FILE
from tests.unit.labelling.helpers import ITEMS, new_event, recorded, tables, undo, vote


def test_a_vote_comes_back_whole(log: Log, who: str) -> None:
    consent = new_event("consent", who, version="v1", sha256="c0ffee")
    payload = {
        "choice": "b",
        "order": [1, 0],
        "strength": "much",
        "tags": ["clear"],
        "note": "zürich 𝄞 \x01 end",
    }
    event = new_event("vote", who, ITEMS[3], **payload | {"order": (1, 0)}, ms=1234)
    assert log.events.append(consent) == Receipt(1, False, None)
    assert log.events.append(event) == Receipt(2, False, ITEMS[3].id)
    (got,) = log.answers.votes()
    assert (got.seq, got.item, got.annotator, got.choice, got.order) == (2, ITEMS[3].id, who, "b", (1, 0))
    assert (got.strength, got.tags, got.note, got.ms) == ("much", ("clear",), payload["note"], 1234)
    assert (got.round, got.consent) == (0, "c0ffee")
    first, second = log.events.read()
    assert (first.type, first.item, first.payload) == ("consent", None, {"version": "v1", "sha256": "c0ffee"})
    assert (second.seq, second.key, second.payload, second.ms) == (2, event.key, payload, 1234)
    assert second.at.endswith("+00:00")


def test_refused_events_change_nothing(log: Log, who: str) -> None:
    first, gone = vote(who, ITEMS[0]), log.people.add("gone").id
    log.events.append(first)
    log.people.withdraw(gone)
    before = tables(log)
    for event, why in [
        (new_event("vote", who, "0" * 64), "item 000000000000: is not known"),
        (vote("p_0123456789", ITEMS[1]), "annotator p_0123456789: is not known"),
        (vote(gone, ITEMS[1]), "was withdrawn"),
        (vote(who, ITEMS[0]), "answered by this person already"),
        (new_event("skip", who, ITEMS[0]), "answered by this person already"),
        (new_event("vote", who, ITEMS[0], key=first.key, choice="b"), "belongs to another event"),
        (new_event("vote", who, ITEMS[1], key=first.key), "belongs to another event"),
        (new_event("vote", gone, ITEMS[0], key=first.key), "belongs to another event"),
        (new_event("skip", who, ITEMS[0], key=first.key), "belongs to another event"),
        (new_event("undo", who, key=first.key), "belongs to another event"),
        (undo(log.people.add("second").id), "no answer to undo"),
    ]:
        with pytest.raises(Refused, match=why):
            log.events.append(event)
    assert recorded(log) == 1
    assert tables(log) == before


def test_the_same_event_five_times_is_one(log: Log, who: str) -> None:
    events = [
        new_event("consent", who, version="1", sha256="0"),
        vote(who, ITEMS[0]),
        new_event("skip", who, ITEMS[1], reason="not my subject"),
        new_event("flag", who, ITEMS[1], on=True),
        new_event("edit", who, ITEMS[1], completion=1, text="t"),
        new_event("adjudicate", "operator", ITEMS[2], choice="tie"),
        undo(who),
    ]
    for n, event in enumerate(events, 1):
        first = log.events.append(event)
        assert first == Receipt(n, False, ITEMS[1].id if event.type == "undo" else getattr(event, "item", None))
        before = tables(log)
        # The time spent is not part of what was said: a page that sends again has waited longer.
        again = event.model_copy(update={"ms": n} if isinstance(event, NewVote | NewSkip) else {})
        assert [log.events.append(again) for _ in range(4)] == [Receipt(n, True, first.item)] * 4
        assert tables(log) == before
    assert recorded(log) == len(events)


def test_a_retry_is_acknowledged_although_the_person_was_withdrawn_meanwhile(log: Log, who: str) -> None:
    event = vote(who, ITEMS[0])
    log.events.append(event)
    log.people.withdraw(who)
    assert log.events.append(event) == Receipt(1, True, ITEMS[0].id)


def test_the_same_event_at_once_is_one(log: Log, who: str) -> None:
    ready = threading.Barrier(8)

    def send(event: NewEvent) -> Receipt:
        ready.wait()
        return log.events.append(event)

    for item in ITEMS[:3]:
        event = vote(who, item)
        with ThreadPoolExecutor(8) as pool:
            receipts = list(pool.map(send, [event] * 8))
        assert sorted(r.duplicate for r in receipts) == [False] + [True] * 7
        assert len({r.seq for r in receipts}) == 1
    assert len(log.answers.votes()) == 3


def test_undo_vote_again_undo_twice(log: Log, who: str) -> None:
    def now() -> list[tuple[str, str]]:
        return [(v.item, v.choice) for v in log.answers.votes()]

    one, two = ITEMS[0].id, ITEMS[1].id
    log.events.append(vote(who, ITEMS[0]))
    log.events.append(vote(who, ITEMS[1]))
    assert log.events.append(undo(who)).item == two
    assert now() == [(one, "a")]
    log.events.append(vote(who, ITEMS[1], "b"))
    assert now() == [(one, "a"), (two, "b")]
    assert log.events.append(undo(who)).item == two
    # Not item two again, whose first vote was undone before.
    assert log.events.append(undo(who)).item == one
    assert now() == []
    with pytest.raises(Refused):
        log.events.append(undo(who))
    log.events.append(new_event("skip", who, ITEMS[1]))
    log.events.append(vote(who, ITEMS[0], "tie"))
    assert [e.item for e in log.answers.skips()] == [two]
    assert log.events.append(undo(who)).item == one
    assert log.events.append(undo(who)).item == two
    assert (now(), log.answers.skips(), log.answers.last(who)) == ([], [], None)
    undone = [e.payload for e in log.events.read() if e.type == "undo"]
    assert undone == [{"undoes": seq} for seq in (2, 4, 1, 8, 7)]


def test_undo_is_of_the_own_newest(log: Log, who: str) -> None:
    other = log.people.add("second").id
    log.events.append(vote(who, ITEMS[0]))
    log.events.append(vote(other, ITEMS[1]))
    last = log.answers.last(who)
    assert last is not None
    assert last.item == ITEMS[0].id
    assert log.events.append(undo(who)).item == ITEMS[0].id
    assert [v.annotator for v in log.answers.votes()] == [other]


def test_events_since(log: Log, who: str) -> None:
    with log.database.write() as db:
        for i in range(2500):
            append_in(db, new_event("flag", who, ITEMS[i % 10], on=True))
    assert [e.seq for e in log.events.read()] == list(range(1, 2501))
    assert [e.seq for e in log.events.read(2498)] == [2499, 2500]


# Seen failing with: events() and items() that read with one cursor.
@pytest.mark.sqlite
def test_a_reader_that_pauses_does_not_keep_the_wal(log: Log, who: str) -> None:
    for item in ITEMS[:5]:
        log.events.append(vote(who, item))
    paused = [log.events.read(), log.batches.items()]
    for iterator in paused:
        next(iterator)
    log.events.append(vote(who, ITEMS[5]))
    assert log.database.row("PRAGMA wal_checkpoint(TRUNCATE)") == (0, 0, 0)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET payload = '{}'",
        "UPDATE events SET seq = 7 WHERE seq = 1",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT 1, 'new', at, annotator, type, item, 0, '{}', NULL, 1 FROM events",
        "INSERT OR REPLACE INTO events SELECT 9, key, at, annotator, type, item, 0, '{}', NULL, 1 FROM events",
        "UPDATE OR REPLACE events SET key = 'key-other'",
    ],
)
def test_sql_cannot_change_or_erase_an_event(log: Log, who: str, sql: str) -> None:
    log.events.append(vote(who, ITEMS[0]))
    before = list(log.events.read())
    with (
        sqlite3.connect(log.directory / FILE) as db,
        pytest.raises(sqlite3.DatabaseError, match="only ever added"),
    ):
        db.execute(sql)
    db.close()
    assert list(log.events.read()) == before
