"""Preference rows of other trainers and vendors: OpenAI, swift, instructions, Prodigy."""

from __future__ import annotations

from typing import Any

from pipeline.formats.detect import Unusable, detect_format
from tests.helpers.read_rows import Row, first, parsed, said, short_stripped

P = "User: Why?\n\nAssistant:"


def openai(**other: Any) -> Row:
    asked = {
        "messages": [said("system", "Be brief."), said("user", "Why?")],
        "tools": [],
        "parallel_tool_calls": True,
    }
    row = {"input": asked, "preferred_output": [said("assistant", "x")]}
    return {**row, "non_preferred_output": [said("assistant", "y")], **other}


def test_openai_preferences() -> None:
    assert short_stripped(openai()) == ["x > y"]
    assert first(openai()).prompt == "System: Be brief.\n\nUser: Why?\n\nAssistant:"
    tools = {"messages": [said("user", "Why?")], "tools": [{"type": "function"}]}
    assert short_stripped(openai(input=tools)) == ["input with tools: only text can be kept"]
    assert short_stripped(openai(preferred_output=[])) == ["empty preferred_output"]
    assert short_stripped(openai(input={})) == ["no input.messages"]


SWIFT = {"messages": [said("user", "Why?"), said("assistant", "x")]}


def test_swift() -> None:
    assert short_stripped({**SWIFT, "rejected_response": "y"}) == ["x > y"]
    assert short_stripped({**SWIFT, "rejected_response": ["y", "z"]}) == ["x > y", "x > z"]
    worse = [said("user", "Why?"), said("assistant", "y")]
    assert short_stripped({**SWIFT, "rejected_messages": worse}) == ["x > y"]
    assert first({**SWIFT, "rejected_messages": worse}).prompt == P
    assert short_stripped({**SWIFT, "rejected_response": "y", "images": ["a.png"]}) == [
        "images: only text can be kept"
    ]
    asked = {"messages": SWIFT["messages"][:1], "rejected_response": "y"}
    assert short_stripped(asked) == ["messages does not end with an answer of the assistant"]


def test_instructions() -> None:
    orca = {"system": "", "question": "Why?", "chosen": "x", "rejected": "y"}
    assert (short_stripped(orca), first(orca).prompt) == (["x > y"], P)
    assert first({**orca, "system": "Be brief."}).prompt == "System: Be brief.\n\nUser: Why?\n\nAssistant:"
    alpaca = {"instruction": "Why?", "input": "Text.", "chosen": "x", "rejected": "y"}
    assert first(alpaca).prompt == "User: Why?\n\nText.\n\nAssistant:"
    assert short_stripped({**alpaca, "history": [["a", "b"]]})[0].startswith("history")
    # A prompt of theirs wins, and the rest is told.
    assert detect_format({**orca, "prompt": "Why?"}, "x") == "trl"


def test_prodigy() -> None:
    options = [{"id": i, "text": t} for i, t in (("a", "x"), ("b", "y"), ("c", "z"))]
    row = {"text": "Why?", "options": options, "accept": ["b"], "answer": "accept", "_annotator_id": "set-ann"}
    assert short_stripped(row, salt="s") == ["y > x", "y > z"]
    assert first(row, salt="s").annotator is not None
    assert first(row).prompt == "Why?"
    assert short_stripped({**row, "accept": ["a", "b"]}) == ["x > z", "y > z"]
    assert [f.broken for f in parsed({**row, "answer": "reject"}) if isinstance(f, Unusable)] == [False]
    assert short_stripped({**row, "accept": []}) == ["nobody has answered"]
    assert short_stripped({**row, "accept": ["q"]}) == ["accept names no option"]
    assert short_stripped({**row, "options": [{"text": "x"}, {"text": "y"}]}) == [
        "an option without an id of its own"
    ]
