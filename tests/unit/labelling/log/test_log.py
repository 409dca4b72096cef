"""The event log: what is acknowledged stays, once, whoever dies; what cannot be is refused and changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.base.errors import StoreError
from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log, LogFull, NewEvent, Plan, Receipt, Refused

PAIR = {"choice": "a", "order": [0, 1]}
ITEMS = [Item(f"prompt {i}", ("x", "y")) for i in range(10)]
FILE = "labels.sqlite3"


def new(directory: Path, items: list[Item] = ITEMS) -> Log:
    log = Log(directory)
    log.open_batch("b", {})
    log.add_items(items)
    return log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = new(tmp_path / "labels")
    yield log
    log.close()


@pytest.fixture
def who(log: Log) -> str:
    return log.add_person("first").id


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = new(tmp_path_factory.mktemp("untouched") / "labels")
    log.add_person("first")
    yield log
    log.close()


_keys = iter(range(10**9))


def key() -> str:
    return f"key-{next(_keys):08}"


def vote(who: str, item: Item, choice: str = "a", **more: Any) -> NewEvent:
    return NewEvent(key(), "vote", who, item.id, {**PAIR, "choice": choice, **more})


def undo(who: str) -> NewEvent:
    return NewEvent(key(), "undo", who)


def recorded(log: Log) -> int:
    return len(list(log.events()))


def tables(log: Log) -> dict[str, list[Any]]:
    """What follows from the log; not where searches begin, which is no statement about it."""
    sql = {
        "answers": "SELECT * FROM answers ORDER BY annotator, item, round",
        "levels": "SELECT * FROM levels ORDER BY annotator, level",
        "tallies": "SELECT * FROM tallies WHERE answered + skipped ORDER BY annotator",
        "places": "SELECT item, level FROM places JOIN batches b ON b.n = batch WHERE b.current ORDER BY item",
    }
    return {name: log._rows(query) for name, query in sql.items()}


# --- events


def test_a_vote_comes_back_whole(log: Log, who: str) -> None:
    consent = NewEvent(key(), "consent", who, None, {"version": "v1", "sha256": "c0ffee"})
    payload = {
        "choice": "b",
        "order": [1, 0],
        "strength": "much",
        "tags": ["clear"],
        "note": "zürich \ud800 \0 end",
    }
    event = NewEvent(key(), "vote", who, ITEMS[3].id, payload, ms=1234)
    assert log.append(consent) == Receipt(1, False, None)
    assert log.append(event) == Receipt(2, False, ITEMS[3].id)
    (got,) = log.votes()
    assert (got.seq, got.item, got.annotator, got.choice, got.order) == (2, ITEMS[3].id, who, "b", (1, 0))
    assert (got.strength, got.tags, got.note, got.ms) == ("much", ("clear",), payload["note"], 1234)
    assert (got.round, got.consent) == (0, "c0ffee")
    first, second = log.events()
    assert (first.type, first.item, first.payload) == ("consent", None, {"version": "v1", "sha256": "c0ffee"})
    assert (second.seq, second.key, second.payload, second.ms) == (2, event.key, payload, 1234)
    assert second.at.endswith("+00:00")


def test_texts_of_items_come_back_whole(tmp_path: Path) -> None:
    texts = ["", " \n\t", "\0", "\ud800", "𝄞 ü", '"\\u0000', "x" * 300_000]
    items = [Item(t, (t + "a", t + "b"), "ranking", "test", gold="1>0") for t in texts]
    log = new(tmp_path / "l", items)
    assert list(log.items()) == items
    assert [log.item(i.id) for i in items] == items


@pytest.mark.parametrize(
    "event",
    [
        NewEvent("short", "undo", "who"),
        NewEvent("k" * 65, "undo", "who"),
        NewEvent("key 12345", "undo", "who"),
        NewEvent("key-12345\n", "undo", "who"),
        NewEvent("key-12345", "undo", "who", "item"),
        NewEvent("key-12345", "undo", "who", payload={"undoes": 1}),
        NewEvent("key-12345", "vote", "who", None, PAIR),
        NewEvent("key-12345", "vote", "who", "item", {"choice": "a"}),
        NewEvent("key-12345", "vote", "who", "item", {"order": [0, 1]}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "choice": "like"}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "choice": 1}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "order": [0, 0]}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "order": [False, True]}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "order": "01"}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "strength": "very"}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "tags": "clear"}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "tags": [1]}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "note": None}),
        NewEvent("key-12345", "vote", "who", "item", {**PAIR, "other": 1}),
        NewEvent("key-12345", "vote", "who", "item", PAIR, ms=-1),
        NewEvent("key-12345", "vote", "who", "item", PAIR, ms=1.5),  # type: ignore[arg-type]
        NewEvent("key-12345", "vote", "who", "item", PAIR, ms=True),
        NewEvent("key-12345", "vote", "who", "item", PAIR, ms=2**70),
        NewEvent("key-12345", "vote", "operator", "item", PAIR),
        NewEvent("key-12345", "skip", "who", "item", {"reason": 3}),
        NewEvent("key-12345", "flag", "who", "item", {"on": 1}),
        NewEvent("key-12345", "flag", "who", "item", {"reason": "harmful"}),
        NewEvent("key-12345", "edit", "who", "item", {"completion": 2, "text": "t"}),
        NewEvent("key-12345", "edit", "who", "item", {"completion": True, "text": "t"}),
        NewEvent("key-12345", "edit", "who", "item", {"completion": 0}),
        NewEvent("key-12345", "consent", "who", "item", {"version": "1", "sha256": "0"}),
        NewEvent("key-12345", "consent", "who", None, {"version": "1"}),
        NewEvent("key-12345", "adjudicate", "who", "item", {"choice": "a"}),
        NewEvent("key-12345", "adjudicate", "operator", "item", {"choice": "c"}),
        NewEvent("key-12345", "vote", "\ud800", "item", PAIR),
        NewEvent("key-12345", "cheer", "who", "item", {}),  # type: ignore[arg-type]
    ],
)
def test_malformed_events(untouched: Log, event: NewEvent) -> None:
    log = untouched
    names = {"who": log.people()[0].id, "item": ITEMS[0].id}
    sent = NewEvent(
        event.key,
        event.type,
        names.get(event.annotator, event.annotator),
        names.get(event.item or ""),
        event.payload,
        event.ms,
    )
    with pytest.raises(ValueError, match=r".+"):
        log.append(sent)
    assert recorded(log) == 0


def test_refused_events_change_nothing(log: Log, who: str) -> None:
    first, gone = vote(who, ITEMS[0]), log.add_person("gone").id
    log.append(first)
    log.withdraw(gone)
    before = tables(log)
    for event, why in [
        (NewEvent(key(), "vote", who, "0" * 64, PAIR), "item 000000000000: is not known"),
        (vote("p_0123456789", ITEMS[1]), "annotator p_0123456789: is not known"),
        (vote(gone, ITEMS[1]), "was withdrawn"),
        (vote(who, ITEMS[0]), "answered by this person already"),
        (NewEvent(key(), "skip", who, ITEMS[0].id), "answered by this person already"),
        (NewEvent(first.key, "vote", who, ITEMS[0].id, {**PAIR, "choice": "b"}), "used for another event"),
        (NewEvent(first.key, "vote", who, ITEMS[1].id, PAIR), "used for another event"),
        (NewEvent(first.key, "vote", gone, ITEMS[0].id, PAIR), "used for another event"),
        (NewEvent(first.key, "skip", who, ITEMS[0].id), "used for another event"),
        (NewEvent(first.key, "undo", who), "used for another event"),
        (undo(log.add_person("second").id), "nothing to take back"),
    ]:
        with pytest.raises(Refused, match=why):
            log.append(event)
    assert recorded(log) == 1
    assert tables(log) == before


def test_the_same_event_five_times_is_one(log: Log, who: str) -> None:
    events = [
        NewEvent(key(), "consent", who, None, {"version": "1", "sha256": "0"}),
        vote(who, ITEMS[0]),
        NewEvent(key(), "skip", who, ITEMS[1].id, {"reason": "no"}),
        NewEvent(key(), "flag", who, ITEMS[1].id, {"on": True}),
        NewEvent(key(), "edit", who, ITEMS[1].id, {"completion": 1, "text": "t"}),
        NewEvent(key(), "adjudicate", "operator", ITEMS[2].id, {"choice": "tie"}),
        undo(who),
    ]
    for n, event in enumerate(events, 1):
        first = log.append(event)
        assert first == Receipt(n, False, ITEMS[1].id if event.type == "undo" else event.item)
        before = tables(log)
        # The time spent is not part of what was said: a page that sends again has waited longer.
        again = NewEvent(event.key, event.type, event.annotator, event.item, dict(event.payload), ms=n)
        assert [log.append(again) for _ in range(4)] == [Receipt(n, True, first.item)] * 4
        assert tables(log) == before
    assert recorded(log) == len(events)


def test_a_retry_is_acknowledged_although_the_person_was_withdrawn_meanwhile(log: Log, who: str) -> None:
    event = vote(who, ITEMS[0])
    log.append(event)
    log.withdraw(who)
    assert log.append(event) == Receipt(1, True, ITEMS[0].id)


def test_the_same_event_at_once_is_one(log: Log, who: str) -> None:
    ready = threading.Barrier(8)

    def send(event: NewEvent) -> Receipt:
        ready.wait()
        return log.append(event)

    for item in ITEMS[:3]:
        event = vote(who, item)
        with ThreadPoolExecutor(8) as pool:
            receipts = list(pool.map(send, [event] * 8))
        assert sorted(r.duplicate for r in receipts) == [False] + [True] * 7
        assert len({r.seq for r in receipts}) == 1
    assert len(log.votes()) == 3


def test_undo_vote_again_undo_twice(log: Log, who: str) -> None:
    def now() -> list[tuple[str, str]]:
        return [(v.item, v.choice) for v in log.votes()]

    one, two = ITEMS[0].id, ITEMS[1].id
    log.append(vote(who, ITEMS[0]))
    log.append(vote(who, ITEMS[1]))
    assert log.append(undo(who)).item == two
    assert now() == [(one, "a")]
    log.append(vote(who, ITEMS[1], "b"))
    assert now() == [(one, "a"), (two, "b")]
    assert log.append(undo(who)).item == two
    # Not item two again, whose first vote was undone before.
    assert log.append(undo(who)).item == one
    assert now() == []
    with pytest.raises(Refused):
        log.append(undo(who))
    log.append(NewEvent(key(), "skip", who, ITEMS[1].id))
    log.append(vote(who, ITEMS[0], "tie"))
    assert [e.item for e in log.skips()] == [two]
    assert log.append(undo(who)).item == one
    assert log.append(undo(who)).item == two
    assert (now(), log.skips(), log.last(who)) == ([], [], None)
    undone = [e.payload for e in log.events() if e.type == "undo"]
    assert undone == [{"undoes": seq} for seq in (2, 4, 1, 8, 7)]


def test_undo_is_of_the_own_newest(log: Log, who: str) -> None:
    other = log.add_person("second").id
    log.append(vote(who, ITEMS[0]))
    log.append(vote(other, ITEMS[1]))
    last = log.last(who)
    assert last is not None
    assert last.item == ITEMS[0].id
    assert log.append(undo(who)).item == ITEMS[0].id
    assert [v.annotator for v in log.votes()] == [other]


def test_flags_on_and_off(log: Log, who: str) -> None:
    def flag(item: Item, on: bool, reason: str = "") -> None:
        log.append(NewEvent(key(), "flag", who, item.id, {"on": on, "reason": reason}))

    other = log.add_person("second").id
    flag(ITEMS[0], True, "harmful")
    flag(ITEMS[1], True)
    flag(ITEMS[1], False)
    flag(ITEMS[0], True, "broken text")
    log.append(NewEvent(key(), "flag", other, ITEMS[1].id, {"on": True}))
    log.append(NewEvent(key(), "flag", other, ITEMS[0].id, {"on": False}))
    got = [(e.annotator, e.item, e.payload["reason"]) for e in log.flags()]
    assert got == [(who, ITEMS[0].id, "broken text"), (other, ITEMS[1].id, "")]
    assert [log.flagged(who, i.id) for i in ITEMS[:3]] == [True, False, False]
    assert [c.flagged for c in log.counts()] == [1, 1]


def test_the_newest_edit_of_each_completion(log: Log, who: str) -> None:
    for completion, text in ((0, "better"), (1, "also"), (0, "best"), (1, "y")):
        log.append(NewEvent(key(), "edit", who, ITEMS[0].id, {"completion": completion, "text": text}))
    # Completion 1 is "y": the edit was taken back by writing what was there.
    assert [(e.payload["completion"], e.payload["text"]) for e in log.edits()] == [(0, "best")]


def test_the_operator_decides(log: Log, who: str) -> None:
    for choice in ("a", "tie"):
        log.append(NewEvent(key(), "adjudicate", "operator", ITEMS[0].id, {"choice": choice}))
    assert log.adjudications() == {ITEMS[0].id: "tie"}
    assert log.ready(3, None).done == 1
    assert log.my_count(who, 3) == (0, 9)


def test_consent_is_that_before_the_vote(log: Log, who: str) -> None:
    other = log.add_person("second").id
    log.append(vote(who, ITEMS[0]))
    for sha in ("one", "two"):
        log.append(NewEvent(key(), "consent", who, None, {"version": "1", "sha256": sha}))
        log.append(vote(who, ITEMS[1 if sha == "one" else 2]))
    log.append(vote(other, ITEMS[3]))
    assert [v.consent for v in log.votes()] == [None, "one", "two", None]
    assert (log.consent_of(who), log.consent_of(other)) == ("two", None)


def test_events_since(log: Log, who: str) -> None:
    with log._write() as db:
        for i in range(2500):
            log._append(db, NewEvent(key(), "flag", who, ITEMS[i % 10].id, {"on": True}))
    assert [e.seq for e in log.events()] == list(range(1, 2501))
    assert [e.seq for e in log.events(2498)] == [2499, 2500]


# Seen failing with: events() and items() that read with one cursor.
def test_a_reader_that_pauses_does_not_keep_the_wal(log: Log, who: str) -> None:
    for item in ITEMS[:5]:
        log.append(vote(who, item))
    paused = [log.events(), log.items()]
    for iterator in paused:
        next(iterator)
    log.append(vote(who, ITEMS[5]))
    assert log._row("PRAGMA wal_checkpoint(TRUNCATE)") == (0, 0, 0)


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
    log.append(vote(who, ITEMS[0]))
    before = list(log.events())
    with (
        sqlite3.connect(log.directory / FILE) as db,
        pytest.raises(sqlite3.DatabaseError, match="only ever added"),
    ):
        db.execute(sql)
    db.close()
    assert list(log.events()) == before


# --- items and people


def test_items_in_order(tmp_path: Path) -> None:
    log = new(tmp_path / "l", [])
    assert log.add_items(ITEMS[:3], [0.5, 0.1, 0.5]) == 3
    assert log.add_items([ITEMS[3], ITEMS[0]]) == 1
    gold = Item("gold", ("x", "y"), gold="a")
    assert log.add_items([gold], [0.2]) == 1
    expected = [ITEMS[3], ITEMS[1], gold, ITEMS[0], ITEMS[2]]
    assert list(log.items()) == expected
    assert (log.item(gold.id), log.item("0" * 64)) == (gold, None)
    log.set_priorities({ITEMS[2].id: -1.0, "0" * 64: 1.0})
    assert list(log.items()) == [ITEMS[2], *expected[:-1]]
    with pytest.raises(ValueError, match="zip"):
        log.add_items(ITEMS[5:7], [1.0])
    assert len(list(log.items())) == 5


def test_more_items_than_are_read_at_once_stay_in_order(tmp_path: Path) -> None:
    items = [Item(f"prompt {i}", ("x", "y")) for i in range(1203)]
    random.Random(0).shuffle(items)
    assert list(new(tmp_path / "l", items).items()) == items


def test_a_batch_and_when_it_is_whole(tmp_path: Path) -> None:
    log = Log(tmp_path / "l")
    assert (log.batch, log.batch_whole, log.about, list(log.items()), log.votes()) == (None, False, {}, [], [])
    with pytest.raises(StoreError, match="no batch"):
        log.add_items(ITEMS)
    log.open_batch("one", {"ref": "x@v1"})
    assert (log.batch, log.batch_whole, log.about) == ("one", False, {"ref": "x@v1"})
    log.finish_batch()
    log.open_batch("two", {})
    assert (log.batch, log.batch_whole) == ("two", False)
    log.open_batch("one", {"ref": "x@v2"})
    assert (log.batch, log.batch_whole, log.about) == ("one", True, {"ref": "x@v2"})


def test_a_vote_counts_in_every_batch_of_its_item(log: Log, who: str) -> None:
    for item in ITEMS[:3]:
        log.append(vote(who, item))
    log.append(NewEvent(key(), "adjudicate", "operator", ITEMS[9].id, {"choice": "a"}))
    log.open_batch("two", {})
    assert (log.votes(), log.ready(1, None).items, log.my_count(who, 1)) == ([], 0, (0, 0))
    # Streamed in, as while sampling goes on: counted as they come.
    for item in [ITEMS[1], Item("other", ("x", "y")), ITEMS[9]]:
        log.add_items([item])
    assert [v.item for v in log.votes()] == [ITEMS[1].id]
    assert (log.ready(1, None).done, log.my_count(who, 1)) == (2, (1, 1))
    streamed = tables(log)
    log.rebuild()
    assert tables(log) == streamed
    # Of the batch that is open: what is known of an item may differ.
    assert log.item(ITEMS[1].id) == ITEMS[1]
    log.open_batch("three", {})
    log.add_items([Item("prompt 1", ("x", "y"), split="test")])
    for batch, split in (("three", "test"), ("two", "train")):
        log.open_batch(batch, {})
        assert log.item(ITEMS[1].id).split == split  # type: ignore[union-attr]
        assert log.item(ITEMS[2].id) == ITEMS[2]
    # The newest vote is on an item that is not on anybody's page now.
    with pytest.raises(Refused, match="nothing to take back"):
        log.append(undo(who))
    log.open_batch("b", {})
    assert (len(log.votes()), log.my_count(who, 1)) == (3, (3, 6))
    assert log.append(undo(who)).item == ITEMS[2].id


def test_ready(log: Log, who: str) -> None:
    other = log.add_person("second").id
    log.add_items([Item("gold", ("x", "y"), gold="a")])
    for item in ITEMS[:4]:
        log.append(vote(who, item))
    log.append(vote(other, ITEMS[0]))
    log.append(vote(other, Item("gold", ("x", "y"))))
    log.append(NewEvent(key(), "skip", other, ITEMS[1].id))
    ready = log.ready(1, 4)
    assert (ready.done, ready.items, ready.needed, ready.enough) == (4, 10, 4, True)
    assert (log.ready(2, 1).done, log.ready(2, 2).enough) == (1, False)
    # All of them is never reached while more may come.
    for item in ITEMS[4:]:
        log.append(vote(who, item))
    assert not log.ready(1, None).enough
    assert not log.ready(1, 11).enough
    log.finish_batch()
    assert log.ready(1, None).enough
    # More than there are is all there are.
    assert log.ready(1, 11).needed == 10


def test_people_and_their_links(log: Log) -> None:
    one, two = log.add_person("  first   person "), log.add_person("second")
    assert one.id.startswith("p_")
    assert len(one.id) == 12
    assert log.add_person("first person") == one
    assert (one.name, one.active) == ("first person", True)
    assert log.people() == [one, two]
    assert (log.person_of(one.token), log.person_of(two.token)) == (one, two)
    for wrong in ("", "x", one.token[:-1], one.token.upper(), "\ud800", log.operator_token, "é"):
        assert log.person_of(wrong) is None
    assert len({one.token, two.token, log.operator_token, log.salt}) == 4
    log.withdraw(one.id)
    assert (log.person_of(one.token), log.people()[0].active) == (None, False)
    assert log.person_of(log.people()[0].token) is None
    back = log.add_person("first person")
    assert (back.id, back.active) == (one.id, True)
    # The old link stays dead.
    assert (log.person_of(one.token), log.person_of(back.token)) == (None, back)
    with pytest.raises(Refused):
        log.withdraw("p_0123456789")
    for name in ("", "  ", "a\0b", "\ud800", "x" * 101):
        with pytest.raises(Refused):
            log.add_person(name)


def test_links_and_the_salt_are_the_same_tomorrow_and_differ_between_projects(tmp_path: Path) -> None:
    logs = [Log(tmp_path / "one"), Log(tmp_path / "one"), Log(tmp_path / "two")]
    logs[0].add_person("first")
    assert logs[0].people() == logs[1].people()
    assert (logs[0].salt, logs[0].operator_token) == (logs[1].salt, logs[1].operator_token)
    assert logs[0].salt != logs[2].salt
    assert (tmp_path / "one" / "secret").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in (tmp_path / "one").iterdir() if "sqlite" not in p.name) == ["secret"]


# --- many at once, and death


WRITER = """
import sys
from pathlib import Path
from pipeline.labelling.log.log import Log, NewEvent, Plan
directory, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
log = Log(directory)
who = log.add_person(name).id
plan = Plan(votes=99)
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    assignment = log.next(who, plan)
    if assignment is None:
        break
    key = f"{name}-{assignment.item.id[:20]}"
    event = NewEvent(key, "vote", who, assignment.item.id, {"choice": "a", "order": [0, 1]})
    receipt = log.append(event)
    print(receipt.seq, key, int(receipt.duplicate), flush=True)
print("end", flush=True)
"""


def writer(directory: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(directory), name, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start(writers: list[subprocess.Popen[str]]) -> None:
    for each in writers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in writers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()


def test_eight_processes_at_once(tmp_path: Path) -> None:
    items = [Item(f"prompt {i}", ("x", "y")) for i in range(12)]
    log = new(tmp_path / "l", items)
    # Two processes per person: two tabs on two servers.
    writers = [writer(log.directory, f"person-{i % 4}", 100) for i in range(8)]
    start(writers)
    said = [w.communicate(timeout=60)[0].split("\n") for w in writers]
    # The loser of a race for the last item is refused and ends with a traceback; what it was told before holds.
    acknowledged = {
        line.split()[1]: int(line.split()[0]) for lines in said for line in lines if line[:1].isdigit()
    }
    in_log = {e.key: e.seq for e in log.events()}
    assert in_log == acknowledged
    assert len(log.votes()) == 4 * 12
    before = tables(log)
    log.rebuild()
    assert tables(log) == before


# Seen failing with: a receipt before COMMIT. That it survives a power cut too, no test here shows.
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    items = [Item(f"prompt {i}", ("x", "y")) for i in range(2000)]
    log = new(tmp_path / "l", items)
    pace = random.Random(0)
    acknowledged: dict[str, int] = {}
    for _ in range(3):
        writers = [writer(log.directory, f"person-{i}", 2000) for i in range(4)]
        start(writers)
        for each in writers:
            assert each.stdout is not None
            # Killed some time after it has said so much, in the middle of whatever it does then.
            said = [each.stdout.readline() for _ in range(pace.randrange(1, 6))]
            os.kill(each.pid, signal.SIGKILL)
            said += each.stdout.read().splitlines()
            each.wait()
            receipts = [line.split() for line in said if line.count(" ") == 2]
            assert not any(int(duplicate) for _, _, duplicate in receipts)
            acknowledged |= {name: int(seq) for seq, name, _ in receipts}
    events = {e.key: e.seq for e in log.events()}
    assert len(acknowledged) >= 12
    assert acknowledged.items() <= events.items()
    # At most one per killed writer was written and not told.
    assert len(events) <= len(acknowledged) + 12
    assert len({(v.annotator, v.item) for v in log.votes()}) == len(events)
    assert log._row("PRAGMA integrity_check") == ("ok",)
    before = tables(log)
    log.rebuild()
    assert tables(log) == before


def test_eight_threads_share_a_log(log: Log) -> None:
    people = [log.add_person(f"person {i}").id for i in range(8)]

    def work(who: str) -> None:
        while (assignment := log.next(who, Plan(votes=8))) is not None:
            log.append(vote(who, assignment.item))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, people))
    assert len(log.votes()) == 80
    assert log.ready(8, 10).enough


def test_connections_of_ended_threads_are_closed(log: Log) -> None:
    def files() -> int:
        return sum(f.path == str(log.directory / FILE) for f in psutil.Process().open_files())

    for _ in range(20):
        thread = threading.Thread(target=log.people)
        thread.start()
        thread.join()
    # SQLite keeps one that it closed for the next to open, as closing a file would drop the locks of all on it.
    assert files() <= 2
    log.close()
    assert files() == 0
    assert log.people() == []  # opens again


def test_a_fork_is_told_to_open_its_own(log: Log) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(RuntimeError):
            log.people()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_somebody_else_writes_for_too_long(tmp_path: Path) -> None:
    log = new(tmp_path / "l")
    who = log.add_person("first").id
    log.close()
    log = Log(tmp_path / "l", busy_ms=50)
    event = vote(who, ITEMS[0])
    with Log(tmp_path / "l")._write(), pytest.raises(LogFull, match="another process"):
        log.append(event)
    assert log.append(event) == Receipt(1, False, ITEMS[0].id)


# --- disks


# Seen failing with: no ROLLBACK, after which the next BEGIN fails.
def test_a_full_disk_records_nothing_and_all_is_well_afterwards(log: Log, who: str) -> None:
    long = vote(who, ITEMS[0], note="x" * 50_000)
    pages = log._row("PRAGMA page_count")
    assert pages is not None
    log._row(f"PRAGMA max_page_count={pages[0] + 2}")
    before = tables(log)
    with pytest.raises(
        LogFull, match=r"labels\.sqlite3: the disk is full .*nothing was recorded\. Free some space"
    ):
        log.append(long)
    assert (recorded(log), tables(log)) == (0, before)
    with pytest.raises(LogFull):
        log.add_items([Item(str(i), ("x" * 1000, "y" * 1000)) for i in range(50)])
    assert len(list(log.items())) == 10
    log._row("PRAGMA max_page_count=1000000")
    assert log.append(long) == Receipt(1, False, ITEMS[0].id)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from pipeline.labelling.log.log import Log, LogFull, NewEvent
from pipeline.base.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
directory, who, items = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
log = Log(directory)
def event(i):
    return NewEvent(f"limited-{i}", "vote", who, items[i], {"choice": "a", "order": [0, 1], "note": "x" * 9000})
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
acknowledged = 0
try:
    for i in range(len(items)):
        log.append(event(i))
        acknowledged += 1
except LogFull as err:
    print("full", err)
print(acknowledged, len(log.votes()))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
receipt = log.append(event(acknowledged))
print(receipt.duplicate, len(log.votes()))
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    items = [Item(f"prompt {i}", ("x", "y")) for i in range(40)]
    log = new(tmp_path / "l", items)
    who = log.add_person("first").id
    # The last one to close empties the WAL, so that the limit is met while it grows.
    log.close()
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "l"), who, *(i.id for i in items)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith("full ")
    assert "the disk refuses (disk I/O error); nothing was recorded. Check the disk" in first
    acknowledged, votes = map(int, second.split())
    assert 3 < acknowledged == votes < 39
    assert third == f"False {acknowledged + 1}"
    assert len(Log(tmp_path / "l").votes()) == acknowledged + 1


def one_line(err: Exception) -> str:
    assert "\n" not in str(err)
    return str(err)


@pytest.mark.parametrize("damage", ["garbage", "first page", "cut short", "middle"])
def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    log = new(tmp_path / "l", [Item(f"prompt {i}", ("x" * 500, "y")) for i in range(200)])
    log.close()
    path = tmp_path / "l" / FILE
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:] = b"not a database at all" * 500
    elif damage == "first page":
        data[100:4096] = b"\xff" * 3996
    elif damage == "cut short":
        del data[len(data) // 2 :]
    else:
        data[4096 * 10 :] = b"\xff" * (len(data) - 4096 * 10)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"labels\.sqlite3: is damaged .* Restore it from a copy\.") as caught:
        list(Log(tmp_path / "l").items())
    one_line(caught.value)
    assert path.read_bytes() == data


def test_a_newer_schema_and_another_program(tmp_path: Path) -> None:
    for name, sql in (("newer", "PRAGMA user_version=2"), ("other", "CREATE TABLE t (x)")):
        (tmp_path / name).mkdir()
        db = sqlite3.connect(tmp_path / name / FILE)
        db.execute(sql)
        db.close()
    with pytest.raises(StoreError, match=r"has schema 2, and this program knows 1 at most\. Update the program"):
        Log(tmp_path / "newer")
    with pytest.raises(StoreError, match="no log of labelling"):
        Log(tmp_path / "other")


# Seen failing with: no lock while the file is made ("database is locked"); a secret made by each.
def test_made_by_many_at_once(tmp_path: Path) -> None:
    ready = threading.Barrier(8)

    def make(directory: Path) -> str:
        ready.wait()
        with contextlib.closing(Log(directory)) as log:
            return log.add_person("first").token

    with ThreadPoolExecutor(8) as pool:
        for n in range(5):
            assert len(set(pool.map(make, [tmp_path / str(n)] * 8))) == 1


def test_a_damaged_secret(tmp_path: Path) -> None:
    Log(tmp_path / "l").close()
    for text in ("", "0" * 63, "é" * 64):
        (tmp_path / "l" / "secret").write_text(text)
        with pytest.raises(StoreError, match="secret: is damaged"):
            Log(tmp_path / "l")


def test_something_else_is_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "l").write_text("")
    with pytest.raises(StoreError, match="in the way"):
        Log(tmp_path / "l")


READ_ONLY = """
import os, sys
from pathlib import Path
from pipeline.labelling.log.log import Log
from pipeline.base.errors import StoreError
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for name in ("old", "new"):
    try:
        Log(Path(sys.argv[1]) / name).add_person("first")
        print("written")
    except StoreError as err:
        print(err)
"""


def test_a_directory_that_may_not_be_written() -> None:
    # Not pytest's directory, which another user cannot enter; root may write everywhere, so the test drops that.
    root = Path(tempfile.mkdtemp())
    try:
        new(root / "old").close()
        (root / "old" / "secret").chmod(0o644)
        for path in (root / "old", root):
            path.chmod(0o555)
        command = [sys.executable, "-c", READ_ONLY, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        old, new_ = done.stdout.splitlines()
        assert f"{root}/old/{FILE}: it cannot be " in old
        assert "Mend its permissions" in old
        assert "Permission denied" in new_
        assert "mend its permissions" in new_
    finally:
        for path in (root, root / "old"):
            path.chmod(0o755)
        shutil.rmtree(root)


# --- forgetting


SECRETS = ("very private note", "reason of mine", "text of my own hand", "nobody should know this name", "my-key-")


def bytes_of(directory: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(directory.iterdir()))


# Seen failing with: no VACUUM; no checkpoint; the name left in people.
def modes(directory: Path) -> dict[str, str]:
    return {p.name: f"{p.stat().st_mode & 0o777:o}" for p in (directory, *directory.iterdir())}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_can_read_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen failing with the umask's modes: names, and the secret that makes all links, beside it."""
    log = new(tmp_path / "data" / "labels")
    log.add_person("first")
    private = {"labels": "700", **dict.fromkeys((FILE, f"{FILE}-wal", f"{FILE}-shm", "secret"), "600")}
    assert modes(log.directory) == private
    assert modes(tmp_path / "data")["data"] == "777", "what is not the log's stays as it is"
    assert capsys.readouterr() == ("", "")
    # One made before, perhaps with a copy of it.
    (log.directory / "copy.sqlite3").write_bytes(b"")
    for path in (log.directory, *log.directory.iterdir()):
        path.chmod(0o777 if path.is_dir() else 0o644)
    Log(log.directory).close()
    assert modes(log.directory) == private | {"copy.sqlite3": "600"}
    told = f"[label] {log.directory} could be read by others: it is for its owner alone now\n"
    assert capsys.readouterr() == (told, "")
    Log(log.directory).close()
    assert capsys.readouterr() == ("", "")
    log.close()


def test_modes_that_cannot_be_changed_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new(tmp_path / "labels").close()
    (tmp_path / "labels" / "secret").chmod(0o644)

    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refuse)
    for _ in range(2):
        Log(tmp_path / "labels").close()
    told = f"warning: {tmp_path}/labels/secret can be read by others, and its modes cannot be changed\n"
    assert capsys.readouterr() == ("", told)


def test_forget_leaves_no_byte(tmp_path: Path) -> None:
    log = new(tmp_path / "l")
    # Some builds of SQLite overwrite what they erase, and would hide a missing VACUUM.
    log._row("PRAGMA secure_delete=OFF")
    gone, other = log.add_person(SECRETS[3]).id, log.add_person("stays").id
    for i, item in enumerate(ITEMS[:8]):
        log.append(NewEvent(f"my-key-{i:03}", "vote", gone, item.id, {**PAIR, "note": SECRETS[0] * 30}))
        log.append(vote(other, item, note="note of another"))
    log.append(NewEvent("my-key-skip", "skip", gone, ITEMS[8].id, {"reason": SECRETS[1]}))
    log.append(NewEvent("my-key-edit", "edit", gone, ITEMS[8].id, {"completion": 0, "text": SECRETS[2]}))
    log.append(NewEvent("my-key-undo", "undo", gone))
    before = list(log.events())
    kept = [e for e in before if e.annotator == other]
    assert all(secret.encode() in bytes_of(log.directory) for secret in SECRETS)

    with_another_process_open = Log(tmp_path / "l")
    assert with_another_process_open.flagged(gone, ITEMS[0].id) is False
    assert log.forget(gone) == 11
    data = bytes_of(log.directory)
    assert not [secret for secret in SECRETS if secret.encode() in data]
    assert b"note of another" in data
    assert list(log.events()) == kept
    assert [v.annotator for v in log.votes()] == [other] * 8
    assert [p.id for p in log.people()] == [other]
    assert [c.annotator for c in log.counts()] == [other]
    assert (log.ready(1, None).done, log.ready(2, None).done) == (8, 0)
    assert log.my_count(other, 1) == (8, 2)

    ((who, at, counts, sha),) = log._rows("SELECT * FROM forgotten")
    assert (who, json.loads(counts)) == (
        hashlib.sha256(gone.encode()).hexdigest(),
        {"vote": 8, "skip": 1, "edit": 1, "undo": 1},
    )
    assert at.endswith("+00:00")
    assert len(sha) == 64
    # Numbers of erased events are not given again; a late retry is not recorded.
    assert log.append(vote(other, ITEMS[8])).seq == before[-1].seq + 1
    with pytest.raises(Refused, match="is not known"):
        log.append(vote(gone, ITEMS[0]))
    assert log.forget(gone) == 0
    with pytest.raises(Refused, match="is not known"):
        log.forget("p_0123456789")
    assert log.add_person(SECRETS[3]).id != gone


def test_forget_says_when_a_reader_keeps_the_old_pages(tmp_path: Path) -> None:
    log = Log(tmp_path / "l", busy_ms=100)
    who = log.add_person("first").id
    reader = sqlite3.connect(log.directory / FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM people").fetchall()
    with pytest.raises(LogFull, match=r"is being read by another process.*Run it again"):
        log.forget(who)
    reader.execute("COMMIT")
    reader.close()
    assert log.forget(who) == 0
    assert b"first" not in bytes_of(log.directory)


def test_only_who_is_being_forgotten_can_be_erased(log: Log, who: str) -> None:
    log.append(vote(who, ITEMS[0]))
    other = log.add_person("second").id
    log.append(vote(other, ITEMS[0]))
    log.forget(other)
    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        log._rows("DELETE FROM events")
    assert log._rows("SELECT * FROM forgetting") == []
