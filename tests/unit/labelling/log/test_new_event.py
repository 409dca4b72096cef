"""The one validation of events: what is malformed, and in which words it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.labelling.items import Item
from pipeline.labelling.log.event_checks import MOST_MS, Asked
from pipeline.labelling.log.new_event import Malformed, NewVote, parse_adjudication, parse_event
from pipeline.labelling.settings import LabelSection

ITEM = Item("prompt", ("x", "y"))
EVERYTHING = Asked(ITEM, LabelSection(ask=["strength", "tags", "note", "edit"], tags=["clear", "safe"]))
NOTHING = Asked(ITEM, LabelSection())
VOTE = {"type": "vote", "item": ITEM.id, "choice": "a", "order": (1, 0), "ms": 5}
SKIP = {"type": "skip", "item": ITEM.id, "reason": "I cannot tell", "ms": 5}
FLAG = {"type": "flag", "item": ITEM.id, "on": True, "reason": "harmful"}
EDIT = {"type": "edit", "item": ITEM.id, "completion": 1, "text": "t"}
CONSENT = {"type": "consent", "version": "1", "sha256": "0"}
UNDO = {"type": "undo"}
KEY = "key must be 8 to 64 of the characters A-Z a-z 0-9 _ -."
TYPES = "type must be one of: consent, edit, flag, skip, undo, vote."
SKIP_WORDS = "reason must be one of: I cannot read it, I cannot tell, I would rather not, not my subject."
REASONS = "reason must be one of: broken text, harmful, other, personal data."


def parse(values: dict[str, Any], asked: Asked = EVERYTHING) -> Any:
    return parse_event({"key": "key-12345", "annotator": "p_0123456789"} | values, asked)


def parse_vote(**values: Any) -> NewVote:
    return parse(VOTE | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**UNDO, "key": "short"}, KEY),
        ({**UNDO, "key": "k" * 65}, KEY),
        ({**UNDO, "key": "key 12345"}, KEY),
        ({**UNDO, "key": "key-12345\n"}, KEY),
        ({**UNDO, "key": 3}, "key must be text."),
        ({**UNDO, "item": "x", "undoes": 1}, "An event of type undo does not know item, undoes."),
        ({}, TYPES),
        ({**VOTE, "type": "cheer"}, TYPES),
        ({**VOTE, "type": "adjudicate"}, TYPES),
        ({**VOTE, "type": ["vote"]}, TYPES),
        ({"type": "vote", "order": (0, 1), "other": 1}, "An event of type vote misses choice, item, ms."),
        ({**VOTE, "other": 1}, "An event of type vote does not know other."),
        ({**VOTE, "item": 3}, "item must be text."),
        ({**VOTE, "item": "\ud800"}, "item is not valid Unicode."),
        ({**VOTE, "choice": 1}, "choice must be text."),
        ({**VOTE, "choice": "like"}, "choice 'like' is not one of a, b, tie, both_bad."),
        ({**VOTE, "choice": "{x}"}, "choice '{x}' is not one of a, b, tie, both_bad."),
        ({**VOTE, "order": (0, 0)}, "order must be the numbers 0 to 1 in the order shown."),
        ({**VOTE, "order": (0,)}, "order must be the numbers 0 to 1 in the order shown."),
        ({**VOTE, "strength": "very"}, "strength must be one of: much, slightly."),
        ({**VOTE, "strength": 1}, "strength must be one of: much, slightly."),
        ({**VOTE, "tags": "clear"}, "tags must be a list of some of: clear, safe."),
        ({**VOTE, "tags": [1]}, "tags must be a list of some of: clear, safe."),
        ({**VOTE, "tags": ["dull"]}, "tags must be a list of some of: clear, safe."),
        ({**VOTE, "note": 1}, "note must be text."),
        ({**VOTE, "note": "a\0b"}, "note contains a NUL character."),
        ({**VOTE, "note": "\ud800"}, "note is not valid Unicode."),
        ({**VOTE, "note": "ü" * 5121}, "note is longer than 10,240 bytes."),
        ({**VOTE, "ms": -1}, "ms = -1 should be milliseconds."),
        ({**VOTE, "ms": 1.5}, "ms must be a whole number."),
        ({**VOTE, "ms": True}, "ms must be a whole number."),
        ({**VOTE, "ms": "10"}, "ms must be a whole number."),
        ({**VOTE, "ms": None}, "ms must be a whole number."),
        ({**SKIP, "reason": "because"}, SKIP_WORDS),
        ({**SKIP, "choice": "a"}, "An event of type skip does not know choice."),
        ({**FLAG, "on": 1}, "on must be true or false."),
        ({**FLAG, "on": "true"}, "on must be true or false."),
        ({**FLAG, "reason": "dull"}, REASONS),
        ({"type": "flag", "item": ITEM.id, "on": True}, REASONS),
        ({"type": "flag", "item": ITEM.id, "reason": "harmful"}, "An event of type flag misses on."),
        ({**EDIT, "completion": 2}, "completion must be a place from 0 to 1."),
        ({**EDIT, "completion": -1}, "completion must be a place from 0 to 1."),
        ({**EDIT, "completion": True}, "completion must be a whole number."),
        ({**EDIT, "completion": "0"}, "completion must be a whole number."),
        ({**EDIT, "text": " \n"}, "The better answer is empty."),
        ({**EDIT, "text": None}, "text must be text."),
        ({**EDIT, "text": "x" * 102401}, "text is longer than 102,400 bytes."),
        ({**CONSENT, "item": ITEM.id}, "An event of type consent does not know item."),
        ({"type": "consent", "version": "1"}, "An event of type consent misses sha256."),
    ],
)  # fmt: skip
def test_malformed_events(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(values)
    assert str(caught.value) == message
    assert caught.value.too_long == ("longer than" in message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**VOTE, "strength": "much"}, "strength must be one of: (none: it is not asked for)."),
        ({**VOTE, "tags": ["clear"]}, "tags must be a list of some of: (none: it is not asked for)."),
        ({**VOTE, "note": "x"}, "Notes are not asked for."),
        (EDIT, "Edits are not asked for."),
    ],
)
def test_what_is_not_asked_for(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(values, NOTHING)
    assert str(caught.value) == message
    assert parse({**VOTE, "strength": None, "tags": [], "note": None}, NOTHING).note == ""


def test_one_spelling() -> None:
    vote = parse_vote(strength="much", tags=["safe", "clear", "safe"], ms=10**12)
    assert (vote.strength, vote.tags, vote.note, vote.ms) == ("much", ("safe", "clear"), "", MOST_MS)
    # Nobody prefers a tie much.
    assert parse_vote(choice="tie", strength="much").strength is None
    assert parse({**FLAG, "on": False}).reason == ""
    ranking = Item("prompt", ("x", "y", "z"), "ranking")
    asked = Asked(ranking, LabelSection(mode="ranking"))
    values = {**VOTE, "item": ranking.id, "choice": "2=0>1", "order": (0, 1, 2)}
    assert parse(values, asked).choice == "0=2>1"


def test_the_payload_is_what_earlier_versions_wrote() -> None:
    vote = parse_vote(tags=["clear"])
    assert vote.payload == {"choice": "a", "order": (1, 0), "strength": None, "tags": ("clear",), "note": ""}
    assert parse(SKIP).payload == {"reason": "I cannot tell", "note": ""}
    assert parse(FLAG).payload == {"on": True, "reason": "harmful", "note": ""}
    assert parse(EDIT).payload == {"completion": 1, "text": "t"}
    assert parse(CONSENT).payload == {"version": "1", "sha256": "0"}
    assert parse(UNDO).payload == {}


def test_the_operator_decides_in_the_words_of_the_item() -> None:
    values = {"key": "key-12345", "item": ITEM.id, "choice": "b"}
    assert parse_adjudication(values, NOTHING).payload == {"choice": "b"}
    for wrong, message in (
        ({"choice": "c"}, "choice 'c' is not one of"),
        ({"key": "x"}, "key must be"),
        ({"ms": 1}, "know ms"),
    ):
        with pytest.raises(Malformed, match=message):
            parse_adjudication(values | wrong, NOTHING)
