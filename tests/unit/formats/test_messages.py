"""Conversations, the texts that they become, and back."""

from __future__ import annotations

import pytest

from pipeline.formats.detect import (
    render_plain,
)
from pipeline.formats.messages import turns_of
from tests.helpers.read_rows import bot, user


@pytest.mark.parametrize(
    "turns",
    [
        [user("Hi")],
        [{"role": "system", "content": "Be\n\nkind."}, user("Hi"), bot("Hello"), user("Why: because\nof")],
        [user("a"), user("b")],
    ],
)
def test_a_rendering_can_be_read_back(turns: list[dict[str, str]]) -> None:
    assert turns_of(render_plain(turns, "")[0]) == turns


def test_hh_prompts_have_turns_too() -> None:
    assert turns_of("\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nAssistant:") == [
        user("Hi"),
        bot("Yes?"),
        user("Why"),
    ]


@pytest.mark.parametrize(
    "text", ["Hi", "User: Hi", "Note: x\n\nAssistant:", "\n\nAssistant:", "x\n\nUser: a\n\nAssistant:"]
)
def test_other_texts_are_no_conversations(text: str) -> None:
    assert turns_of(text) is None
