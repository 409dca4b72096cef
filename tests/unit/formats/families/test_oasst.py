"""OpenAssistant's trees and flat messages."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.formats.detect import JudgedRow, Reading, Unusable, read_judged
from tests.helpers.read_rows import Row, parsed

P = "User: Why?\n\nAssistant:"


def node(text: str, *replies: Row, rank: int | None = None, **more: Any) -> Row:
    role = more.pop("role", "assistant" if rank is not None else "prompter")
    return {"message_id": text, "text": text, "role": role, "rank": rank, "replies": list(replies), **more}


TREE = {
    "message_tree_id": "Why?",
    "tree_state": "ready_for_export",
    "prompt": node(
        "Why?",
        node("x", node("And?", node("deep1", rank=1), node("deep0", rank=0)), rank=1),
        node("y", rank=0),
        node("spam", rank=2, review_result=False),
        node("unranked", role="assistant"),
        node("gone", rank=3, deleted=True),
    ),
}
EXPECTED = {("y", "x"), ("deep0", "deep1")}
DEEP = "User: Why?\n\nAssistant: x\n\nUser: And?\n\nAssistant:"


def test_trees() -> None:
    found = [f for f in parsed(TREE) if isinstance(f, JudgedRow)]
    assert {(f.chosen.strip(), f.rejected.strip()) for f in found} == EXPECTED
    assert {f.prompt for f in found} == {P, DEEP}
    alone = {"message_tree_id": "Why?", "prompt": node("Why?", node("x", rank=0))}
    assert parsed(alone) == [Unusable("no two ranked answers to one prompt", broken=False)]


def flat(message: Row, parent: str | None = None) -> list[Row]:
    own = {k: v for k, v in message.items() if k != "replies"} | {"parent_id": parent, "lang": "en"}
    return [own, *(row for reply in message["replies"] for row in flat(reply, message["message_id"]))]


@pytest.mark.parametrize("backwards", [False, True])
def test_flat_messages_say_what_the_tree_says(backwards: bool) -> None:
    rows = flat(TREE["prompt"])[:: -1 if backwards else 1]
    how = Reading()
    found = [f for _, f in read_judged((("x", row) for row in rows), "oasst_flat", how)]
    pairs = [f for f in found if isinstance(f, JudgedRow)]
    assert {(f.chosen.strip(), f.rejected.strip()) for f in pairs} == EXPECTED
    assert {f.prompt for f in pairs} == {P, DEEP}
    assert how.notices.lines() == ["columns not used: lang"]


def test_messages_without_a_beginning() -> None:
    rows = flat(TREE["prompt"])[1:]
    found = [f for _, f in read_judged((("x", row) for row in rows), "oasst_flat", Reading())]
    assert [f.reason for f in found if isinstance(f, Unusable)] == [
        "a message whose parent is not in the file"
    ] * 2
