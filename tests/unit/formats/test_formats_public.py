"""Public sets and other trainers' files, row by row: ties, several turns, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.formats.detect import JudgedRow, Reading, Unusable, detect_format, parse_rows, read_judged

Row = dict[str, Any]
P = "User: Why?\n\nAssistant:"


def said(role: str, text: str) -> Row:
    return {"role": role, "content": text}


def parsed(row: Row, **how: Any) -> list[JudgedRow | Unusable]:
    return parse_rows(row, detect_format(row, "x"), "x", Reading(**how))


def short(row: Row, **how: Any) -> list[str]:
    """``chosen > rejected``, with ``=`` for a tie, or why not."""
    return [
        f"{f.chosen.strip()} {'=' if f.tie else '>'} {f.rejected.strip()}"
        if isinstance(f, JudgedRow)
        else f.reason
        for f in parsed(row, **how)
    ]


def first(row: Row, **how: Any) -> JudgedRow:
    found = parsed(row, **how)[0]
    assert isinstance(found, JudgedRow), found
    return found


# Two answers


def battle(a: Any, b: Any, won: tuple[Any, Any, Any] = (1, 0, 0), prompt: Any = ("Why?",)) -> Row:
    row = {"id": 1, "prompt": json.dumps(list(prompt)), "response_a": json.dumps(a), "response_b": json.dumps(b)}
    return row | dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), won, strict=True))


def test_three_columns_of_winners() -> None:
    assert [short(battle(["x"], ["y"], won)) for won in ((1, 0, 0), ("0", "1", "0"), (0, 0, 1))] == [
        ["x > y"],
        ["y > x"],
        ["x = y"],
    ]
    assert first(battle(["x"], ["y"])).prompt == P
    for won in ((0, 0, 0), (1, 1, 0), (None, None, None)):
        assert short(battle(["x"], ["y"], won))[0].startswith("not exactly one of winner_model_a")
    assert short(battle(["x"], ["y"], ("x", 0, 1))) == ["winner_model_a is not true or false"]


def test_battles_of_several_turns() -> None:
    # The turns before the last must be the same on both sides.
    same = first(battle(["so", "x"], ["so", "y"], prompt=("Why?", "And?")))
    assert same.prompt == "User: Why?\n\nAssistant: so\n\nUser: And?\n\nAssistant:"
    assert short(battle(["so", "x"], ["no", "y"], prompt=("Why?", "And?"))) == ["several turns after the prompt"]
    assert short(battle(["x"], ["y"], prompt=("Why?", "And?"))) == [
        "response_a has another number of turns than prompt"
    ]
    assert short(battle([None], ["y"])) == ["empty response_a"]
    assert short({**battle(["x"], ["y"]), "response_a": "x"}) == ["response_a is not a list of turns"]


def safe(better: Any, **other: Any) -> Row:
    row = {"prompt": "Why?", "response_0": "x", "response_1": "y", "better_response_id": better}
    return {**row, "safer_response_id": 0, "is_response_0_safe": True, **other}


def test_better_or_safer() -> None:
    assert [short(safe(i)) for i in (0, "1", 1.0)] == [["x > y"], ["y > x"], ["y > x"]]
    assert first(safe(0)).prompt == P
    assert short(safe(2)) == ["better_response_id is not 0 or 1"]
    assert short(safe(None)) == ["no better_response_id"]
    how = Reading(columns={"choice": "safer_response_id"})
    (found,) = parse_rows(safe(1), detect_format(safe(1), "x", columns=how.columns), "x", how)
    assert isinstance(found, JudgedRow)
    assert found.chosen == " x"


def test_alpacafarm() -> None:
    row = {"instruction": "Why?", "input": "", "output_1": "x", "output_2": "y"}
    preferences = {1: "x > y", 2.0: "y > x", 0: "x = y", 1.5: "x = y", "1.2": "x > y", 1.9: "y > x"}
    for preference, expected in preferences.items():
        assert short({**row, "preference": preference}) == [expected]
    assert short({**row, "preference": 3}) == ["preference is not 1 to 2"]
    assert short({**row, "preference": None}) == ["no preference"]
    assert first({**row, "input": "Text.", "preference": 1}).prompt == "User: Why?\n\nText.\n\nAssistant:"


def test_webgpt() -> None:
    row = {"question": {"full_text": "Why?"}, "answer_0": "x", "answer_1": "y", "score_0": 0.0, "score_1": 0}
    assert short(row) == ["x = y"]
    assert first({**row, "score_0": -1, "score_1": 1}).scores == (1, -1)
    assert short({**row, "score_0": None}) == ["no score_0 or no score_1"]
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
    assert short({**row, "choice": 2}) == ["choice is not 0 or 1"]
    assert short({**row, "summaries": [{"text": "x"}]}) == ["summaries is not two"]
    assert short({**row, "info": {"post": " "}}) == ["empty prompt"]


# Scores and ranks


def test_nectar() -> None:
    answers = [{"answer": a, "rank": r} for a, r in (("x", 2), ("y", 1), ("z", 2), ("", 4), ("w", None))]
    row = {"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": answers, "turns": 1}
    assert short(row) == ["empty answer", "no rank", "y > x", "x = z", "y > z"]
    assert first({**row, "answers": answers[:2]}).prompt == P


def test_responses_with_scores() -> None:
    row = {"prompt": "Why?", "responses": ["x", "y", "z"], "scores": [1, "2", 1]}
    assert short(row) == ["y > x", "x = z", "y > z"]
    assert (first(row).prompt, first(row).scores) == ("Why?", (2, 1))
    assert short({"prompt": "Why?", "completions": ["x", "y"], "rewards": [1, 2]}) == ["y > x"]
    assert first({**row, "prompt": [said("user", "Why?")]}).prompt == P
    assert short({**row, "scores": [1, 2]}) == ["responses and scores are not equally many"]
    assert short({**row, "scores": [1, "n/a", 2]}) == ["a score is not a number", "z > x"]
    # Two columns could be the responses: nobody guesses.
    both = {"prompt": "Why?", "completions": ["x"], "answers": ["y"], "scores": [1]}
    with pytest.raises(Exception, match="no column"):
        detect_format(both, "x")


def test_ultrafeedback_tens_that_should_be_ones() -> None:
    completions = [
        {"response": "x", "overall_score": 10, "fine-grained_score": 1.5},
        {"response": "y", "overall_score": 10, "fine-grained_score": 4.75},
        {"response": "z", "overall_score": 3, "fine-grained_score": 2},
    ]
    found = short({"instruction": "Why?", "completions": completions})
    assert found[0].startswith("overall_score 10 beside a fine-grained_score of 2 or less")
    assert found[1:] == ["y > z"]


def test_ratings_of_one_answer_a_row_become_pairs() -> None:
    rows = [
        {"prompt": "Why?", "response": r, "helpfulness": h, "correctness": 1, "coherence": 1, "verbosity": 1}
        for r, h in (("x", 1), ("y", 3), ("z", 1))
    ]
    how = Reading()
    found = [f for _, f in read_judged((("x", row) for row in rows), "helpsteer_rated", how)]
    assert [(f.prompt, f.chosen, f.rejected) for f in found if isinstance(f, JudgedRow)] == [
        (P, " y", " x"),
        (P, " y", " z"),
    ]
    assert how.notices.lines() == ["columns not used: verbosity"]


# OpenAssistant


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


# Other trainers


def openai(**other: Any) -> Row:
    asked = {
        "messages": [said("system", "Be brief."), said("user", "Why?")],
        "tools": [],
        "parallel_tool_calls": True,
    }
    row = {"input": asked, "preferred_output": [said("assistant", "x")]}
    return {**row, "non_preferred_output": [said("assistant", "y")], **other}


def test_openai_preferences() -> None:
    assert short(openai()) == ["x > y"]
    assert first(openai()).prompt == "System: Be brief.\n\nUser: Why?\n\nAssistant:"
    tools = {"messages": [said("user", "Why?")], "tools": [{"type": "function"}]}
    assert short(openai(input=tools)) == ["input with tools: only text can be kept"]
    assert short(openai(preferred_output=[])) == ["empty preferred_output"]
    assert short(openai(input={})) == ["no input.messages"]


SWIFT = {"messages": [said("user", "Why?"), said("assistant", "x")]}


def test_swift() -> None:
    assert short({**SWIFT, "rejected_response": "y"}) == ["x > y"]
    assert short({**SWIFT, "rejected_response": ["y", "z"]}) == ["x > y", "x > z"]
    worse = [said("user", "Why?"), said("assistant", "y")]
    assert short({**SWIFT, "rejected_messages": worse}) == ["x > y"]
    assert first({**SWIFT, "rejected_messages": worse}).prompt == P
    assert short({**SWIFT, "rejected_response": "y", "images": ["a.png"]}) == ["images: only text can be kept"]
    asked = {"messages": SWIFT["messages"][:1], "rejected_response": "y"}
    assert short(asked) == ["messages does not end with an answer of the assistant"]


def test_instructions() -> None:
    orca = {"system": "", "question": "Why?", "chosen": "x", "rejected": "y"}
    assert (short(orca), first(orca).prompt) == (["x > y"], P)
    assert first({**orca, "system": "Be brief."}).prompt == "System: Be brief.\n\nUser: Why?\n\nAssistant:"
    alpaca = {"instruction": "Why?", "input": "Text.", "chosen": "x", "rejected": "y"}
    assert first(alpaca).prompt == "User: Why?\n\nText.\n\nAssistant:"
    assert short({**alpaca, "history": [["a", "b"]]})[0].startswith("history")
    # A prompt of theirs wins, and the rest is told.
    assert detect_format({**orca, "prompt": "Why?"}, "x") == "trl"


def test_prodigy() -> None:
    options = [{"id": i, "text": t} for i, t in (("a", "x"), ("b", "y"), ("c", "z"))]
    row = {"text": "Why?", "options": options, "accept": ["b"], "answer": "accept", "_annotator_id": "set-ann"}
    assert short(row, salt="s") == ["y > x", "y > z"]
    assert first(row, salt="s").annotator is not None
    assert first(row).prompt == "Why?"
    assert short({**row, "accept": ["a", "b"]}) == ["x > z", "y > z"]
    assert [f.broken for f in parsed({**row, "answer": "reject"}) if isinstance(f, Unusable)] == [False]
    assert short({**row, "accept": []}) == ["nobody has answered"]
    assert short({**row, "accept": ["q"]}) == ["accept names no option"]
    assert short({**row, "options": [{"text": "x"}, {"text": "y"}]}) == ["an option without an id of its own"]
