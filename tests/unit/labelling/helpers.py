"""Events, votes and logs for the tests of labelling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.labelling.items import Item
from pipeline.labelling.log import new_event as n
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewEvent
from pipeline.labelling.settings import FLAG_REASONS, SKIP_REASONS

ITEMS = [Item(f"prompt {i}", ("x", "y")) for i in range(10)]
KEYS = (f"key-{number:08d}" for number in itertools.count())
_CLASSES: dict[str, Any] = {
    "vote": n.NewVote, "skip": n.NewSkip, "flag": n.NewFlag, "edit": n.NewEdit, "undo": n.NewUndo,
    "consent": n.NewConsent, "adjudicate": n.NewAdjudication,
}  # fmt: skip


def new_event(kind: str, who: str, item: Item | str | None = None, *, key: str = "", **content: Any) -> NewEvent:
    """An event to append; what ``content`` leaves out of a vote or skip is filled in."""
    content["key"] = key or next(KEYS)
    if kind != "adjudicate":
        content["annotator"] = who
    if item is not None:
        content["item"] = item if isinstance(item, str) else item.id
    if kind in ("vote", "skip"):
        content.setdefault("ms", 2000)
    if kind == "vote":
        two = 2 if not isinstance(item, Item) else len(item.completions)
        content = {"choice": "a", "order": tuple(range(two))} | content
    if kind == "skip":
        content.setdefault("reason", SKIP_REASONS[0])
    if kind == "flag" and content["on"]:
        content.setdefault("reason", FLAG_REASONS[0])
    return _CLASSES[kind](**content)


def vote(who: str, item: Item, choice: str = "a", **more: Any) -> NewEvent:
    return new_event("vote", who, item, choice=choice, **more)


def sourced(who: str, item: Item, choice: str = "a", key: str = "") -> n.NewSourcedVote:
    """A vote on completions that were written for the voter."""
    answerers = tuple(n.Answerer(role=role, ref=role, id=role) for role in ("base", "policy"))
    source = n.Source(exchange="e", answerers=answerers, scores=(0.5, None), sampling={"seed": 1}, blind=False)
    content: dict[str, Any] = {"choice": choice, "order": (0, 1), "ms": 5, "source": source}
    return n.NewSourcedVote(key=key or next(KEYS), annotator=who, item=item.id, **content)


def undo(who: str) -> NewEvent:
    return new_event("undo", who)


def agree(log: Log, who: str, sha256: str = "c" * 64, version: str = "v") -> None:
    log.events.append(new_event("consent", who, version=version, sha256=sha256))


def open_log(directory: Path, items: Sequence[Item] = (), *, whole: bool = False) -> Log:
    """A log whose current batch holds these items."""
    log = Log(directory)
    log.batches.open("b", {})
    log.batches.add_items(items)
    if whole:
        log.batches.finish()
    return log


def pairs(n: int, gold: str | None = None, word: str = "prompt") -> list[Item]:
    return [Item(f"{word} {i}", (f"one {i}", f"two {i}"), gold=gold) for i in range(n)]


def recorded(log: Log) -> int:
    return len(list(log.events.read()))


def tables(log: Log) -> dict[str, list[Any]]:
    """What follows from the log; not where searches begin, which is no statement about it."""
    sql = {
        "answers": "SELECT * FROM answers ORDER BY annotator, item, round",
        "levels": "SELECT * FROM levels ORDER BY annotator, level",
        "tallies": "SELECT * FROM tallies WHERE answered + skipped > 0 ORDER BY annotator",
        "places": "SELECT item, level FROM places JOIN batches b ON b.n = batch WHERE b.current = 1 ORDER BY item",
    }
    return {name: log.database.rows(query) for name, query in sql.items()}


def current_vote(of: Item, who: str, choice: str, **more: Any) -> Vote:
    """A vote as the log gives it."""
    order = tuple(range(len(of.completions)))
    plain = Vote(1, of.id, who, choice, order, None, (), "", 5000, "2026-01-01", 0, "sha")
    return replace(plain, **more)
