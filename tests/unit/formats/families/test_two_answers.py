"""Rows of two answers and a verdict, as public sets and papers have them."""

from __future__ import annotations

import json
from typing import Any

from pipeline.formats.detect import JudgedRow, Reading, detect_format, parse_rows
from tests.helpers.read_rows import Row, first, short_stripped

P = "User: Why?\n\nAssistant:"


def battle(a: Any, b: Any, won: tuple[Any, Any, Any] = (1, 0, 0), prompt: Any = ("Why?",)) -> Row:
    row = {"id": 1, "prompt": json.dumps(list(prompt)), "response_a": json.dumps(a), "response_b": json.dumps(b)}
    return row | dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), won, strict=True))


def test_three_columns_of_winners() -> None:
    assert [short_stripped(battle(["x"], ["y"], won)) for won in ((1, 0, 0), ("0", "1", "0"), (0, 0, 1))] == [
        ["x > y"],
        ["y > x"],
        ["x = y"],
    ]
    assert first(battle(["x"], ["y"])).prompt == P
    for won in ((0, 0, 0), (1, 1, 0), (None, None, None)):
        assert short_stripped(battle(["x"], ["y"], won))[0].startswith("not exactly one of winner_model_a")
    assert short_stripped(battle(["x"], ["y"], ("x", 0, 1))) == ["winner_model_a is not true or false"]


def test_battles_of_several_turns() -> None:
    # The turns before the last must be the same on both sides.
    same = first(battle(["so", "x"], ["so", "y"], prompt=("Why?", "And?")))
    assert same.prompt == "User: Why?\n\nAssistant: so\n\nUser: And?\n\nAssistant:"
    assert short_stripped(battle(["so", "x"], ["no", "y"], prompt=("Why?", "And?"))) == [
        "several turns after the prompt"
    ]
    assert short_stripped(battle(["x"], ["y"], prompt=("Why?", "And?"))) == [
        "response_a has another number of turns than prompt"
    ]
    assert short_stripped(battle([None], ["y"])) == ["empty response_a"]
    assert short_stripped({**battle(["x"], ["y"]), "response_a": "x"}) == ["response_a is not a list of turns"]


def safe(better: Any, **other: Any) -> Row:
    row = {"prompt": "Why?", "response_0": "x", "response_1": "y", "better_response_id": better}
    return {**row, "safer_response_id": 0, "is_response_0_safe": True, **other}


def test_better_or_safer() -> None:
    assert [short_stripped(safe(i)) for i in (0, "1", 1.0)] == [["x > y"], ["y > x"], ["y > x"]]
    assert first(safe(0)).prompt == P
    assert short_stripped(safe(2)) == ["better_response_id is not 0 or 1"]
    assert short_stripped(safe(None)) == ["no better_response_id"]
    how = Reading(columns={"choice": "safer_response_id"})
    (found,) = parse_rows(safe(1), detect_format(safe(1), "x", columns=how.columns), "x", how)
    assert isinstance(found, JudgedRow)
    assert found.chosen == " x"


def test_alpacafarm() -> None:
    row = {"instruction": "Why?", "input": "", "output_1": "x", "output_2": "y"}
    preferences = {1: "x > y", 2.0: "y > x", 0: "x = y", 1.5: "x = y", "1.2": "x > y", 1.9: "y > x"}
    for preference, expected in preferences.items():
        assert short_stripped({**row, "preference": preference}) == [expected]
    assert short_stripped({**row, "preference": 3}) == ["preference is not 1 to 2"]
    assert short_stripped({**row, "preference": None}) == ["no preference"]
    assert first({**row, "input": "Text.", "preference": 1}).prompt == "User: Why?\n\nText.\n\nAssistant:"


def test_webgpt() -> None:
    row = {"question": {"full_text": "Why?"}, "answer_0": "x", "answer_1": "y", "score_0": 0.0, "score_1": 0}
    assert short_stripped(row) == ["x = y"]
    assert first({**row, "score_0": -1, "score_1": 1}).scores == (1, -1)
    assert short_stripped({**row, "score_0": None}) == ["no score_0 or no score_1"]
    assert first({**row, "question": "Why?"}).prompt == P


def test_summaries() -> None:
    info = {"post": "I ran.", "title": "Running", "subreddit": "advice", "article": None}
    row = {
        "info": info,
        "summaries": [{"text": "x"}, {"text": " y"}],
        "choice": 1,
        "worker": "w",
        "split": "train",
    }
    found = first(row, salt="set")
    assert found.prompt == "SUBREDDIT: r/advice\n\nTITLE: Running\n\nPOST: I ran.\n\nTL;DR:"
    assert (found.chosen, found.rejected) == (" y", " x")
    assert found.annotator is not None
    news = {"post": None, "article": "It rained.", "title": "Rain"}
    assert first({**row, "info": news}).prompt == "Article: It rained.\n\nTL;DR:"
    assert short_stripped({**row, "choice": 2}) == ["choice is not 0 or 1"]
    assert short_stripped({**row, "summaries": [{"text": "x"}]}) == ["summaries is not two"]
    assert short_stripped({**row, "info": {"post": " "}}) == ["empty prompt"]
