"""Lists and objects that stand as text in a table's cell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.formats import cells
from pipeline.formats.judged import Refused

TURNS = [{"role": "user", "content": 'It\'s "so".\n'}, {"role": "assistant", "content": "Yes, [1]."}]


# Mutation caught: Python's own spelling read as JSON only, of which pandas' CSV has the former.
@pytest.mark.parametrize("written", [TURNS, json.dumps(TURNS), f"  {TURNS!r}\n"], ids=["list", "json", "python"])
def test_a_conversation_is_read_as_it_was(written: Any) -> None:
    assert cells.parsed(written, "chosen") == TURNS
    assert cells.listed(written, "chosen") == TURNS


@pytest.mark.parametrize("value", [None, 3, "", "plain", "[not closed", "{so}", "[see above]", "a list ]"])
def test_any_other_text_is_a_text(value: Any) -> None:
    assert cells.parsed(value, "chosen") is None


def test_an_object_is_no_list() -> None:
    assert cells.parsed('{"a": 1}', "x") == {"a": 1}
    assert cells.listed('{"a": 1}', "x") is None


# Mutation caught: numpy's array of two texts, which Python reads as one.
@pytest.mark.parametrize("written", ["['first' 'second']", "array(['first'], dtype=object)"])
def test_what_cannot_be_read_back_is_refused(written: str) -> None:
    with pytest.raises(Refused, match="chosen is a list as Python or numpy writes it"):
        cells.parsed(written, "chosen")


def test_a_conversation_that_was_cut_is_refused() -> None:
    with pytest.raises(Refused, match="chosen is a list as text that ends too early"):
        cells.parsed(json.dumps(TURNS)[:40], "chosen")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('["a", "b"]', "a list of texts written as text"),
        (json.dumps(TURNS), "a conversation written as text"),
        (json.dumps(TURNS[0]), "a conversation written as text"),
        ("[1, 2]", None),
        ('{"answer": 4}', None),
        ("[]", None),
        ("text", None),
    ],
)
def test_an_answer_may_be_a_list_but_not_of_texts(value: str, said: str | None) -> None:
    if said is None:
        cells.no_list(value, "answer")
    else:
        with pytest.raises(Refused, match=f"answer is {said}"):
            cells.no_list(value, "answer")


def test_turns_are_told_by_their_keys() -> None:
    assert cells.is_message({"role": "user", "content": ""})
    assert cells.is_message({"from": "gpt", "value": "", "weight": 1})
    assert not cells.is_message({"role": "user", "value": ""})
    assert cells.holds_texts(["a"])
    assert not cells.holds_texts([])
    assert not cells.holds_texts(["a", 1])
