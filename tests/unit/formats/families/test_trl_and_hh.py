"""Formats: known rows of each kind by hand, and every reason for refusing one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import (
    Format,
    JudgedRow,
    Message,
    Unusable,
    detect_format,
    parse_prompt,
    parse_row,
    render_plain,
)
from tests.helpers.read_rows import bot, user

GOOD = {"prompt": "p", "chosen": " c", "rejected": " r"}


def parsed(row: dict[str, Any], format: Format = "auto") -> JudgedRow:
    result = parse_row(row, format, "a.jsonl:1")
    assert isinstance(result, JudgedRow), result
    return result


def texts(row: dict[str, Any], format: Format = "auto") -> tuple[str, str, str]:
    result = parsed(row, format)
    return result.prompt, result.chosen, result.rejected


def refused(row: dict[str, Any], format: Format = "auto") -> str:
    result = parse_row(row, format, "a.jsonl:1")
    assert isinstance(result, Unusable), result
    return result.reason


def hh(chosen: str, rejected: str) -> dict[str, Any]:
    return {"chosen": chosen, "rejected": rejected}


# What each format gives


def test_trl_keeps_texts_verbatim_with_tie_margin_and_votes() -> None:
    row = {**GOOD, "tie": False, "margin": "0.5", "votes_chosen": 3, "votes_rejected": 1, "other": "x"}
    result = parsed(row)
    assert (result.prompt, result.chosen, result.rejected) == ("p", " c", " r")
    assert result.margin == 0.5
    assert not result.tie
    assert result.meta == {"votes_chosen": 3, "votes_rejected": 1}


@pytest.mark.parametrize("tie", [True, False])
def test_tie_spellings(tie: bool) -> None:
    spellings = (
        (True, 1, 1.0, "True", "yes", " 1") if tie else (False, 0, "FALSE", "no", "0", None, "", float("nan"))
    )
    assert [parsed({**GOOD, "tie": value}).tie for value in spellings] == [tie] * len(spellings)


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_absent_margin(value: Any) -> None:
    assert parsed({**GOOD, "margin": value, "tie": value}).margin is None


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The film was good", "The film was great", ("The film was", " good", " great")),  # TRL: "... was g"
        ("The cat", "The cats", ("The", " cat", " cats")),
        ("Q: x?\nyes", "Q: x?\nno", ("Q: x?\n", "yes", "no")),
        ("Answer:yes", "Answer:no", ("Answer:", "yes", "no")),
        ("a b. c", "a b, c", ("a b", ". c", ", c")),
    ],
)
def test_implicit_prompt_ends_at_a_word(chosen: str, rejected: str, expected: tuple[str, str, str]) -> None:
    assert texts(hh(chosen, rejected), "trl_implicit") == expected
    assert expected[0] + expected[1] == chosen
    assert expected[0] + expected[2] == rejected


def test_hh_prompt_is_everything_up_to_the_last_assistant() -> None:
    prompt = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    row = hh(prompt + " The good one", prompt + " The bad one")
    # Catches: the common prefix as the prompt (it would hold " The ").
    assert detect_format(row, "x") == "hh"
    assert texts(row) == (prompt, " The good one", " The bad one")


PROMPT = [{"role": "system", "content": "Be kind."}, user("Hi"), bot("Hello"), user("Why?")]
RENDERED = "System: Be kind.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Why?\n\nAssistant:"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "chosen": [bot("Yes")], "rejected": [bot("No")]},
        {"chosen": [*PROMPT, bot("Yes")], "rejected": [*PROMPT, bot("No")]},
        {"prompt": "Why?", "chosen": [*PROMPT, bot("Yes")], "rejected": [*PROMPT, bot("No")]},
        {
            "prompt": json.dumps(PROMPT),
            "chosen": json.dumps([bot("Yes")]),
            "rejected": json.dumps([bot("No")]),
        },
        {
            "prompt": PROMPT,
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Yes"}]}],
            "rejected": [bot("No")],
        },
    ],
)
def test_conversations(row: dict[str, Any]) -> None:
    assert detect_format(row, "x") == "conversational"
    assert texts(row) == (RENDERED, " Yes", " No")


def test_a_text_prompt_before_conversational_answers() -> None:
    row = {"prompt": "Why?", "chosen": [bot("Yes")], "rejected": [bot("No")]}
    assert texts(row) == ("User: Why?\n\nAssistant:", " Yes", " No")


def test_rendering_can_be_replaced() -> None:
    def template(prompt: Sequence[Message], answer: str) -> tuple[str, str]:
        return "".join(f"<{m['role']}>{m['content']}" for m in prompt) + "<assistant>", answer + "<end>"

    row = {"prompt": [user("Why?")], "chosen": [bot("Yes")], "rejected": [bot("No")]}
    result = parse_row(row, "conversational", "x", template)
    assert result == JudgedRow("<user>Why?<assistant>", "Yes<end>", "No<end>")


def test_render_plain_adds_one_blank_only() -> None:
    assert render_plain([user("a")], "\nb") == ("User: a\n\nAssistant:", "\nb")


def test_parse_prompt() -> None:
    assert parse_prompt("Say so:") == "Say so:"
    assert parse_prompt(PROMPT) == RENDERED
    assert parse_prompt(" \n") == Unusable("empty prompt")
    assert parse_prompt(None) == Unusable("no prompt")
    assert parse_prompt(3) == Unusable("prompt is not text")
    assert parse_prompt([]) == Unusable("empty prompt")


# Refusals


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": "", "chosen": " ", "rejected": ""}, "empty prompt and completions"),
        ({"prompt": " "}, "empty prompt"),
        ({"chosen": "\n"}, "empty chosen"),
        ({"rejected": ""}, "empty rejected"),
        ({"rejected": "c "}, "chosen equals rejected"),
        ({"chosen": 3}, "chosen is not text"),
        ({"chosen": float("nan")}, "chosen is not text"),
        ({"prompt": None}, "no prompt"),
        ({"rejected": "\ud800"}, "rejected is not valid Unicode"),
        ({"margin": "much"}, 'margin is the word "much", not a number: make it one, or rename it'),
        ({"margin": float("inf")}, "margin is not a number"),
        ({"tie": "perhaps"}, "tie is not true or false"),
        ({"tie": []}, "tie is not true or false"),
    ],
)
def test_refused_rows(change: dict[str, Any], reason: str) -> None:
    assert refused({**GOOD, **change}, "trl") == reason


def test_a_row_without_a_column() -> None:
    assert refused({"prompt": "p", "chosen": "c"}, "trl") == "no rejected"


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("\n\nHuman: a\n\nAssistant: x", "\n\nHuman: b\n\nAssistant: y", "prompts differ"),
        (
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: x",
            "\n\nHuman: a\n\nAssistant: y",
            "prompts differ",
        ),
        ("\n\nHuman: \n\nAssistant: x", "\n\nHuman: \n\nAssistant: y", "empty turn"),
        (
            "\n\nHuman: a\n\nAssistant:\n\nHuman: b\n\nAssistant: x",
            "\n\nHuman: a\n\nAssistant:\n\nHuman: b\n\nAssistant: y",
            "empty turn",
        ),
        ("\n\nHuman: a\n\nAssistant:", "\n\nHuman: a\n\nAssistant: y", "empty chosen"),
        ("\n\nHuman: a\n\nAssistant: y", "\n\nHuman: a\n\nAssistant: ", "empty rejected"),
        ("\n\nHuman: a\n\nAssistant: y", "\n\nHuman: a\n\nAssistant: y", "chosen equals rejected"),
        ("\n\nHuman: a", "\n\nHuman: b", "does not end with an Assistant turn"),
        ("hello", "\n\nHuman: a\n\nAssistant: y", "does not start with a Human turn"),
        ("\n\nAssistant: x\n\nHuman: a", "\n\nHuman: a\n\nAssistant: y", "does not start with a Human turn"),
    ],
)
def test_refused_hh_rows(chosen: str, rejected: str, reason: str) -> None:
    assert refused(hh(chosen, rejected), "hh") == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (hh([user("a"), bot("x")], [user("b"), bot("y")]), "prompts differ"),  # type: ignore[arg-type]
        (hh([user("a"), bot("x"), user("c")], [user("a"), bot("x"), user("d")]), "prompts differ"),  # type: ignore[arg-type]
        (hh([user("a"), bot("x"), user("c"), bot("d")], [user("a"), bot("y")]), "several turns after the prompt"),  # type: ignore[arg-type]
        (hh([user("a"), bot("x")], [user("a"), bot("x")]), "chosen equals rejected"),  # type: ignore[arg-type]
        (hh([user("a")], [user("a"), bot("x")]), "empty chosen"),  # type: ignore[arg-type]
        ({"prompt": [user("a")], "chosen": [bot("x")], "rejected": []}, "empty rejected"),
        ({"prompt": [user("a")], "chosen": [bot("x")], "rejected": [bot("  ")]}, "empty rejected"),
        ({"prompt": [user(" ")], "chosen": [bot("x")], "rejected": [bot("y")]}, "empty prompt"),
        ({"prompt": [user("a"), bot(""), user("b")], "chosen": [bot("x")], "rejected": [bot("y")]}, "empty turn"),
        (
            {"prompt": [user("a")], "chosen": [{"text": "x"}], "rejected": [bot("y")]},
            "a message without role and text",
        ),
        (
            {"prompt": [user("a")], "chosen": ["x"], "rejected": [bot("y")]},
            "chosen is a list of texts, not of messages: a message without role and text",
        ),
        ({"prompt": [user("a")], "chosen": 7, "rejected": [bot("y")]}, "chosen is not text"),
    ],
)
def test_refused_conversations(row: dict[str, Any], reason: str) -> None:
    assert refused(row, "conversational") == reason


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("yes", "no", "no common prompt"),
        ("same text", "same text", "empty chosen"),
        ("same text", "same text indeed", "empty chosen"),
    ],
)
def test_refused_implicit_rows(chosen: str, rejected: str, reason: str) -> None:
    assert refused(hh(chosen, rejected), "trl_implicit") == reason


def test_strings_without_a_prompt_are_never_guessed() -> None:
    with pytest.raises(DataError, match=r"^a\.csv:2: no column .prompt.*columns: .*trl_implicit") as caught:
        detect_format(hh("The film was good", "The film was bad"), "a.csv:2")
    assert "\n" not in str(caught.value)


def test_a_named_format_still_needs_its_columns() -> None:
    with pytest.raises(DataError, match='no column "prompt"'):
        detect_format(hh("a", "b"), "a.csv:2", "trl")
    with pytest.raises(DataError, match='no column "rejected"'):
        detect_format({"chosen": "a"}, "a.csv:2", "hh")


# Which side is A


def rows(n: int) -> list[JudgedRow]:
    return [JudgedRow(f"prompt {i}", f"good {i}", f"awful {i}") for i in range(n)]


def test_position_carries_nothing() -> None:
    # "awful" sorts before "good", so a choice by order of the texts would give 0 or 1000.
    # Binomial(1000, 1/2): 3.3 standard deviations are 52. Catches: chosen always first; sorting without the coin.
    sides = Counter(row.comparison(0)[1] for row in rows(1000))
    assert abs(sides["a"] - 500) <= 52


def test_position_depends_on_the_texts_and_the_seed_alone() -> None:
    same = [row.comparison(0)[0] == row.comparison(1)[0] for row in rows(1000)]
    assert abs(sum(same) - 500) <= 52
    for row in rows(50):
        comparison, choice = row.comparison(0)
        swapped, other = JudgedRow(row.prompt, row.rejected, row.chosen).comparison(0)
        # Catches: deciding by hash of (chosen, rejected), which gives contradicting votes two ids.
        assert comparison.id == swapped.id
        assert {choice, other} == {"a", "b"}
        assert row.chosen == (comparison.completion_a if choice == "a" else comparison.completion_b)


def test_a_tie_is_a_tie_on_either_side() -> None:
    assert JudgedRow("p", "a", "b", tie=True).comparison(0)[1] == "tie"
