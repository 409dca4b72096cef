"""Public sets as published: Arena, UltraFeedback, SHP, HelpSteer, RewardBench; and what is refused of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import (
    Format,
    JudgedRow,
    Reading,
    Unusable,
    detect_format,
    parse_row,
    parse_rows,
)
from tests.helpers import read_rows
from tests.helpers.read_rows import bot, user

P = "User: Why?\n\nAssistant:"
NAN = float("nan")


def parsed(row: dict[str, Any], **how: Any) -> list[JudgedRow | Unusable]:
    return parse_rows(row, "auto", "a.jsonl:1", Reading(**how))


def refused(row: dict[str, Any], format: Format = "auto", **how: Any) -> str:
    (found,) = parse_rows(row, format, "a.jsonl:1", Reading(**how))
    assert isinstance(found, Unusable), found
    return found.reason


def short(rows: list[JudgedRow | Unusable]) -> list[str]:
    """As there, without the space that the first completion begins with."""
    return [line.strip() for line in read_rows.short(rows)]


def battle(winner: Any = "model_a", **other: Any) -> dict[str, Any]:
    a, b = [user("Why?"), bot("Yes")], [user("Why?"), bot("No")]
    row = {"question_id": "q", "model_a": "x", "model_b": "y", "winner": winner, "judge": "arena_user_9"}
    return {**row, "conversation_a": a, "conversation_b": b, "turn": 1, **other}


def test_a_judge_may_be_a_hash() -> None:
    (named,) = parsed(battle(), salt="s")
    (hashed,) = parsed(battle(judge=None, judge_hash="arena_user_9"), salt="s")
    (neither,) = parsed(battle(judge=None), salt="s")
    assert isinstance(named, JudgedRow)
    assert named == hashed
    assert named.annotator is not None
    assert isinstance(neither, JudgedRow)
    assert neither.annotator is None


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("model_a", " Yes >  No"),
        ("model_b", " No >  Yes"),
        ("tie", " Yes =  No"),
        ("tie (bothbad)", " Yes x  No"),
        ("both_bad", " Yes x  No"),
    ],
)
def test_arena(winner: str, expected: str) -> None:
    (found,) = parsed(battle(winner), salt="s")
    assert short([found]) == [expected.strip()]
    assert isinstance(found, JudgedRow)
    assert found.prompt == P
    assert found.margin is None


def test_arena_as_json_strings_with_parts_of_content() -> None:
    # The 2025 set has lists of parts, CSVs have JSON.
    a = [user("Größe \u2028?"), {"role": "assistant", "content": [{"type": "text", "text": "„Ja“"}]}]
    row = battle(conversation_a=json.dumps(a), conversation_b=json.dumps([a[0], bot("No")], ensure_ascii=False))
    (found,) = parsed(row)
    assert isinstance(found, JudgedRow)
    assert (found.prompt, found.chosen) == ("User: Größe \u2028?\n\nAssistant:", " „Ja“")


TWO = [user("Why?"), bot("So."), user("And?")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"winner": "model_c"}, "unknown winner"),
        ({"winner": "1"}, "unknown winner"),
        ({"winner": None}, "no winner"),
        ({"winner": NAN}, "no winner"),
        ({"winner": ""}, "no winner"),
        ({"winner": 1}, "unknown winner"),
        ({"winner": ["model_a"]}, "winner is not text"),
        ({"conversation_a": [user("What?"), bot("Yes")]}, "prompts differ"),
        ({"conversation_a": [*TWO, bot("x")]}, "several turns after the prompt"),
        ({"conversation_a": [user("Why?"), bot("No")]}, "conversation_a equals conversation_b"),
        ({"conversation_a": [user("Why?"), bot("No ")]}, "conversation_a equals conversation_b"),
        ({"conversation_a": [user("Why?"), bot("")]}, "empty conversation_a"),
        ({"conversation_b": [user("Why?")]}, "empty conversation_b"),
        ({"conversation_b": []}, "empty conversation_b"),
        ({"conversation_b": None}, "no conversation_b"),
        ({"conversation_b": "[{'role': 'user'}]"}, "a message without content in conversation_b"),
        (
            {"conversation_b": [{"role": "user", "content": [{"type": "image", "image": 1}]}]},
            "conversation_b: a message with",
        ),
        ({"conversation_b": [{"role": "user", "content": ["x"]}]}, "a message without"),
    ],
)
def test_refused_battles(change: dict[str, Any], reason: str) -> None:
    assert refused(battle(**change)).startswith(reason)


def test_arena_turns_that_are_shared_are_the_prompt() -> None:
    (found,) = parsed(battle(conversation_a=[*TWO, bot("Yes")], conversation_b=[*TWO, bot("No")]))
    assert isinstance(found, JudgedRow)
    assert found.prompt == "User: Why?\n\nAssistant: So.\n\nUser: And?\n\nAssistant:"


def feedback(*scored: tuple[Any, Any], **other: Any) -> dict[str, Any]:
    completions = [{"response": said, "overall_score": score, "model": "m"} for said, score in scored]
    return {"source": "flan", "instruction": "Why?", "models": ["m"], "completions": completions, **other}


def test_ultrafeedback_makes_every_pair() -> None:
    found = parsed(feedback(("a", 5), ("b", 7.5), ("c", 5)))
    # By hand: b beats both, a and c are equal.
    assert short(found) == ["b >  a", "a =  c", "b >  c"]
    first = found[0]
    assert isinstance(first, JudgedRow)
    # Mutation caught: scores left in the order of the file though b was chosen.
    assert (first.prompt, first.scores, first.margin) == (P, (7.5, 5.0), None)


def test_the_first_usable_pair_stands_for_the_row() -> None:
    found = parse_row(feedback(("", 9), ("b", 7), ("c", 5)), "auto", "x")
    assert isinstance(found, JudgedRow)
    assert found.chosen == " b"
    assert parse_row(feedback(("", 9), ("b", 7)), "auto", "x") == Unusable("empty response")


def test_best_against_worst() -> None:
    rows = feedback(("a", 5), ("b", 7.5), ("c", 5), ("d", 9), ("e", 1))
    assert short(parsed(rows, pairs="best_worst")) == ["d >  e"]
    assert short(parsed(feedback(("a", 5), ("b", 5)), pairs="best_worst")) == ["a =  b"]


def test_ultrafeedback_leaves_out_bad_completions_only() -> None:
    found = parsed(
        feedback(("a", 1), ("", 9), ("b", None), ("c", NAN), (None, 3), ("d", "n/a"), ("e", "2"), (" a", 3))
    )
    assert sorted(short(found)) == sorted(
        [
            *(
                "empty response",
                "no overall_score",
                "no overall_score",
                "no response",
                "overall_score is not a number",
            ),
            *("e >  a", "a completion equals another one", "a >  e"),
        ]
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (feedback(("a", 1)), "fewer than two completions"),
        (feedback(("a", 1), ("b", 2), instruction=""), "empty prompt"),
        (feedback(("a", 1), ("b", 2), instruction=None), "no instruction"),
        (feedback(("a", 1), ("b", 2), completions=[]), "empty completions"),
        (feedback(("a", 1), ("b", 2), completions=None), "no completions"),
        (feedback(("a", 1), ("b", 2), completions="x"), "completions is not JSON"),
        (feedback(("a", 1), ("b", 2), completions=["a"]), "no overall_score"),
    ],
)
def test_refused_feedback(row: dict[str, Any], reason: str) -> None:
    assert reason in short(parse_rows(row, "ultrafeedback", "x", Reading()))


# SHP


def post(labels: Any = 1, **other: Any) -> dict[str, Any]:
    row = {"post_id": "x", "history": "Why?", "human_ref_A": "Yes", "human_ref_B": "No", "labels": labels}
    return {**row, "score_A": 12, "score_B": 4, "score_ratio": 3.0, **other}


def test_shp() -> None:
    (a,), (b,) = parsed(post()), parsed(post("0", score_A=4, score_B=12))
    assert short([a, b]) == ["Yes >  No", "No >  Yes"]
    assert isinstance(a, JudgedRow)
    assert isinstance(b, JudgedRow)
    assert (a.prompt, a.scores, b.scores) == (P, (12.0, 4.0), (12.0, 4.0))
    (bare,) = parsed({k: v for k, v in post().items() if "score" not in k})
    assert isinstance(bare, JudgedRow)
    assert bare.scores is None


def test_shp_filter_by_score_ratio() -> None:
    assert short(parsed(post(), min_score_ratio=3)) == ["Yes >  No"]
    (found,) = parsed(post(score_ratio=1.9), min_score_ratio=2)
    assert found == Unusable("score_ratio below 2", broken=False)
    assert refused(post(score_ratio=None), min_score_ratio=2) == "no score_ratio"
    assert short(parsed(post(score_ratio=None))) == ["Yes >  No"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (post(2), "labels is not 0 or 1"),
        (post(None), "no labels"),
        (post("b"), "labels is not a number"),
        (post(human_ref_A=" "), "empty human_ref_A"),
        (post(human_ref_B=None), "no human_ref_B"),
        (post(human_ref_B="Yes "), "human_ref_A equals human_ref_B"),
        (post(history="\n"), "empty prompt"),
        (post(score_A="many"), "score_A is not a number"),
    ],
)
def test_refused_posts(row: dict[str, Any], reason: str) -> None:
    assert refused(row) == reason


def steer(preference: Any, **other: Any) -> dict[str, Any]:
    row = {"domain": "general", "context": [user("Why?")], "response1": "Yes", "response2": "No"}
    return {**row, "overall_preference": preference, **other}


def test_helpsteer_strength_is_the_margin() -> None:
    found = [parsed(steer(p))[0] for p in (-3, -1, 0, 2, "3")]
    # Mutation caught: the sign the other way round.
    assert short(found) == ["Yes >  No", "Yes >  No", "Yes =  No", "No >  Yes", "No >  Yes"]
    assert [f.margin for f in found if isinstance(f, JudgedRow)] == [3.0, 1.0, None, 2.0, 3.0]
    assert {f.prompt for f in found if isinstance(f, JudgedRow)} == {P}


def test_helpsteer2_names_and_turns_in_one_text() -> None:
    prompt = "Why?\n<extra_id_1>Assistant\nSo.\n<extra_id_1>User\nAnd?"
    row = {"prompt": prompt, "response_1": "Yes", "response_2": "No", "preference_strength": 1}
    (found,) = parsed(row)
    assert isinstance(found, JudgedRow)
    assert found.prompt == "User: Why?\n\nAssistant: So.\n\nUser: And?\n\nAssistant:"
    assert found.chosen == " No"
    (single,) = parsed({**row, "prompt": "Why?"})
    assert isinstance(single, JudgedRow)
    assert single.prompt == P


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (steer(None), "no overall_preference"),
        (steer(NAN), "no overall_preference"),
        (steer(-100), "overall_preference is not -3 to 3"),
        (steer("much"), "overall_preference is not a number"),
        (steer(1, response1=""), "empty response1"),
        (steer(1, response2="Yes"), "response1 equals response2"),
        (steer(1, context=None), "no prompt"),
        (steer(1, context=[]), "empty prompt"),
        (steer(1, context=[user("a"), bot(" "), user("b")]), "empty turn"),
    ],
)
def test_refused_steering(row: dict[str, Any], reason: str) -> None:
    assert refused(row, "helpsteer") == reason


@pytest.mark.parametrize(
    ("row", "format"),
    [
        (battle(), "arena"),
        (feedback(("a", 1)), "ultrafeedback"),
        (post(), "shp"),
        (steer(1), "helpsteer"),
        ({"prompt": "p", "completion_a": "a", "completion_b": "b", "choice": "a"}, "choices"),
        # Our columns win: binarised sets carry the old ones along.
        ({"prompt": "p", "chosen": "a", "rejected": "b", **feedback(("a", 1))}, "trl"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "completion": "c", "label": 1}, "trl"),
    ],
)
def test_the_first_row_tells_the_format(row: dict[str, Any], format: Format) -> None:
    assert detect_format(row, "x") == format


def test_a_named_format_needs_its_columns() -> None:
    with pytest.raises(DataError, match='no column "winner"; the columns are: conversation_a, conversation_b'):
        detect_format({"conversation_a": 1, "conversation_b": 1}, "x", "arena")
    with pytest.raises(DataError, match='no column "response2"'):
        detect_format({"response_1": "a"}, "x", "helpsteer")


def bench(**other: Any) -> dict[str, Any]:
    row = {"prompt": "Why?", "chosen": "Yes", "chosen_model": "x", "rejected": "No", "rejected_model": "y"}
    return {**row, "subset": "alpacaeval-easy", "id": 3, **other}


# Catches: the prompt as it stands, so that a chat model meets no turn; sides exchanged.
def test_rewardbench() -> None:
    (found,) = parsed(bench())
    assert short([found]) == ["Yes >  No"]
    assert isinstance(found, JudgedRow)
    assert found.prompt == P


# Catches: the first of each list only, a bad one stopping the rest.
def test_rewardbench_2() -> None:
    row = {
        "prompt": "Why?",
        "chosen": ["Yes", "Sure"],
        "rejected": ["No", " "],
        "num_correct": 2,
        "subset": "Ties",
    }
    assert detect_format(row, "a.jsonl:1") == "rewardbench"
    assert short(parsed(row)) == ["Yes >  No", "empty rejected", "Sure >  No", "empty rejected"]
    assert refused({**row, "chosen": []}) == "no chosen or no rejected"


def test_only_rewardbench_is_taken_for_it() -> None:
    plain = {k: v for k, v in bench().items() if not k.endswith("_model")}
    assert detect_format(plain, "a.jsonl:1") == "trl"
    assert detect_format(plain, "a.jsonl:1", "rewardbench") == "rewardbench"
    assert (
        detect_format(bench(chosen=[user("Why?"), bot("Yes")], rejected=[user("Why?"), bot("No")]), "a")
        == "conversational"
    )
