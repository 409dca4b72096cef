"""Batches: items and their order, what counts in several of them, the stop rule."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.labelling.items import Item
from pipeline.labelling.log.database import Refused
from pipeline.labelling.log.log import Log
from tests.unit.labelling.helpers import ITEMS, new_event, open_log, tables, undo, vote


def test_texts_of_items_come_back_whole(tmp_path: Path) -> None:
    texts = ["", " \n\t", "\0", "\ud800", "𝄞 ü", '"\\u0000', "x" * 300_000]
    items = [Item(t, (t + "a", t + "b"), "ranking", "test", gold="1>0") for t in texts]
    log = open_log(tmp_path / "l", items)
    assert list(log.batches.items()) == items
    assert [log.batches.item(i.id) for i in items] == items


def test_items_in_order(tmp_path: Path) -> None:
    log = open_log(tmp_path / "l", [])
    assert log.batches.add_items(ITEMS[:3], [0.5, 0.1, 0.5]) == 3
    assert log.batches.add_items([ITEMS[3], ITEMS[0]]) == 1
    gold = Item("gold", ("x", "y"), gold="a")
    assert log.batches.add_items([gold], [0.2]) == 1
    expected = [ITEMS[3], ITEMS[1], gold, ITEMS[0], ITEMS[2]]
    assert list(log.batches.items()) == expected
    assert (log.batches.item(gold.id), log.batches.item("0" * 64)) == (gold, None)
    log.batches.set_priorities({ITEMS[2].id: -1.0, "0" * 64: 1.0})
    assert list(log.batches.items()) == [ITEMS[2], *expected[:-1]]
    with pytest.raises(ValueError, match="zip"):
        log.batches.add_items(ITEMS[5:7], [1.0])
    assert len(list(log.batches.items())) == 5


def test_more_items_than_are_read_at_once_stay_in_order(tmp_path: Path) -> None:
    items = [Item(f"prompt {i}", ("x", "y")) for i in range(1203)]
    random.Random(0).shuffle(items)
    assert list(open_log(tmp_path / "l", items).batches.items()) == items


def test_a_batch_and_when_it_is_whole(tmp_path: Path) -> None:
    log = Log(tmp_path / "l")
    assert (
        log.batches.current,
        log.batches.whole,
        log.batches.about,
        list(log.batches.items()),
        log.answers.votes(),
    ) == (None, False, {}, [], [])
    with pytest.raises(StoreError, match="no batch"):
        log.batches.add_items(ITEMS)
    log.batches.open("one", {"ref": "x@v1"})
    assert (log.batches.current, log.batches.whole, log.batches.about) == ("one", False, {"ref": "x@v1"})
    log.batches.finish()
    log.batches.open("two", {})
    assert (log.batches.current, log.batches.whole) == ("two", False)
    log.batches.open("one", {"ref": "x@v2"})
    assert (log.batches.current, log.batches.whole, log.batches.about) == ("one", True, {"ref": "x@v2"})


def test_a_vote_counts_in_every_batch_of_its_item(log: Log, who: str) -> None:
    for item in ITEMS[:3]:
        log.events.append(vote(who, item))
    log.events.append(new_event("adjudicate", "operator", ITEMS[9], choice="a"))
    log.batches.open("two", {})
    assert (log.answers.votes(), log.batches.ready(1, None).items, log.queue.answered_and_left(who, 1)) == (
        [],
        0,
        (0, 0),
    )
    # Streamed in, as while sampling goes on: counted as they come.
    for item in [ITEMS[1], Item("other", ("x", "y")), ITEMS[9]]:
        log.batches.add_items([item])
    assert [v.item for v in log.answers.votes()] == [ITEMS[1].id]
    assert (log.batches.ready(1, None).done, log.queue.answered_and_left(who, 1)) == (2, (1, 1))
    streamed = tables(log)
    log.rebuild()
    assert tables(log) == streamed
    # Of the batch that is open: what is known of an item may differ.
    assert log.batches.item(ITEMS[1].id) == ITEMS[1]
    log.batches.open("three", {})
    log.batches.add_items([Item("prompt 1", ("x", "y"), split="test")])
    for batch, split in (("three", "test"), ("two", "train")):
        log.batches.open(batch, {})
        assert log.batches.item(ITEMS[1].id).split == split  # type: ignore[union-attr]
        assert log.batches.item(ITEMS[2].id) == ITEMS[2]
    # The newest vote is on an item that is not on anybody's page now.
    with pytest.raises(Refused, match="no answer to undo"):
        log.events.append(undo(who))
    log.batches.open("b", {})
    assert (len(log.answers.votes()), log.queue.answered_and_left(who, 1)) == (3, (3, 6))
    assert log.events.append(undo(who)).item == ITEMS[2].id


def test_ready(log: Log, who: str) -> None:
    other = log.people.add("second").id
    log.batches.add_items([Item("gold", ("x", "y"), gold="a")])
    for item in ITEMS[:4]:
        log.events.append(vote(who, item))
    log.events.append(vote(other, ITEMS[0]))
    log.events.append(vote(other, Item("gold", ("x", "y"))))
    log.events.append(new_event("skip", other, ITEMS[1]))
    ready = log.batches.ready(1, 4)
    assert (ready.done, ready.items, ready.needed, ready.enough) == (4, 10, 4, True)
    assert (log.batches.ready(2, 1).done, log.batches.ready(2, 2).enough) == (1, False)
    # All of them is never reached while more may come.
    for item in ITEMS[4:]:
        log.events.append(vote(who, item))
    assert not log.batches.ready(1, None).enough
    assert not log.batches.ready(1, 11).enough
    log.batches.finish()
    assert log.batches.ready(1, None).enough
    # More than there are is all there are.
    assert log.batches.ready(1, 11).needed == 10
