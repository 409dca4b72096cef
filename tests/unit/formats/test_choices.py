"""Verdicts in tables of pairs: whose column is meant, by name, by number, by word or by the user's own mapping."""

from __future__ import annotations

import itertools
import random
from decimal import Decimal
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.choices import apart, in_order, known_side, plain_word
from pipeline.formats.detect import JudgedRow, Unusable, detect_format
from tests.helpers.read_rows import read, short, who


def pair(choice: Any = "b", **other: Any) -> dict[str, Any]:
    return {"prompt": "p", "completion_a": "one", "completion_b": "two", "choice": choice, **other}


def named(a: str, b: str, choice: Any, **how: Any) -> str:
    """What a choice comes to where the first completion stands in column ``a`` and the second in ``b``."""
    row = {"prompt": "p", a: "one", b: "two", "verdict": choice}
    columns = {"completion_a": a, "completion_b": b, "choice": "verdict"}
    assert detect_format(row, "x", columns=columns) == "choices"
    return short(read(row, "choices", columns=columns, **how))[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("a", "A", "left", "Response 1", "model_a", "completion_a", "first", "[[A]]", "A is better"),
            "one > two",
        ),
        (
            ("b", "Right", "answer2", "option-b", "second", "[[b]]", "B is much better", "Model B wins"),
            "two > one",
        ),
        (("A>B", "A > B", "A>>B", "B<A", "[[A>B]]", "model_a > model_b", "left>right"), "one > two"),
        (("B>A", "[[B>>A]]", "a<b", "completion_b > completion_a"), "two > one"),
        (
            ("tie", "Draw", "equal", "A=B", "a == b", "[[A=B]]", "[[C]]", "about the same", "both good"),
            "one = two",
        ),
        (("both_bad", "both bad", "tie (bothbad)", "TIE (BOTHBAD)", "Both are bad"), "one x two"),
        (("1", "0", "neither", "both", "aa", "c", "response3", "A>A", "A>C", "a is worse"), "unknown choice"),
        ((0, 1, 2, -1, 1.0, Decimal(1), True, False, "true", "1e3"), "unknown choice"),
        ((None, "", float("nan")), "no choice"),
        ((["a"], {"a": 1}), "choice is not text"),
    ],
)
def test_words_of_a_choice(words: tuple[Any, ...], expected: str) -> None:
    assert [short(read(pair(word), "choices")) for word in words] == [[expected]] * len(words)


@pytest.mark.parametrize(
    ("a", "b", "values", "expected"),
    [
        # Mutation caught: matched by the last character, so that response_1 is A.
        ("response_0", "response_1", ("response_1", "Response 1", 1, "1", 1.0, "1.0", Decimal("1")), "two > one"),
        ("response_0", "response_1", ("response_0", 0, "0", 0.0, "b<a"), "one > two"),
        ("answer_1", "answer_2", ("answer_2", 2, "2", "2.", 2.0, "model_2", "response 2", "b"), "two > one"),
        ("answer_1", "answer_2", ("answer_1", 1, "left", "model_a"), "one > two"),
        ("answer_2", "answer_1", ("answer_1", 1, "answer_1 > answer_2"), "two > one"),
        ("answer_2", "answer_1", ("answer_2", 2), "one > two"),
        ("gpt2", "tuned", ("tuned", "TUNED", "tuned>gpt2", "b", "model_b"), "two > one"),
        ("tuned", "gpt2", ("tuned", "a"), "one > two"),
        # Names that are words for sides, the other way round: the name is what is meant.
        ("b", "a", ("a", "A"), "two > one"),
        ("right", "left", ("left",), "two > one"),
        # Letters alone tell these apart.
        ("回答甲", "回答乙", ("回答乙",), "two > one"),
        ("A+", "A-", ("A-",), "two > one"),
        ("left_text", "right_text", ("right", "right_text", "B"), "two > one"),
        ("chatbot-x", "chatbot-y", ("a", "left", "chatbot x"), "one > two"),
    ],
)
def test_a_column_s_own_name_comes_first(a: str, b: str, values: tuple[Any, ...], expected: str) -> None:
    assert [named(a, b, value) for value in values if value != 'tie"'] == [expected] * sum(
        v != 'tie"' for v in values
    )


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ("response_0", "response_1", "model_1"),  # the second by the columns' numbers, the first by the word
        ("response_0", "response_1", "answer_2"),
        ("response_0", "response_1", 2),
        ("response_0", "response_1", -1),
        ("answer_1", "answer_2", 0),
        ("answer_1", "answer_2", "response_0"),
        ("answer_2", "answer_1", "response_1"),
        ("answer_2", "answer_1", "a"),
        ("answer_2", "answer_1", "left"),
        ("reply_b", "reply_a", "model_a"),
        ("reply_b", "reply_c", "b"),  # the first by its name, the second by the word
        ("right_text", "left_text", "left"),
        ("gpt2", "tuned", "response_0"),  # who counts from 0 means the second one by response_1
    ],
)
def test_names_and_words_that_contradict_each_other_stop(a: str, b: str, value: Any) -> None:
    # Not merely left out: then the other rows would be read by a rule that does not hold.
    with pytest.raises(DataError, match=r"a\.json:1: verdict is .*choices: \{") as caught:
        named(a, b, value)
    assert str(value) in str(caught.value)
    assert a in str(caught.value)
    # One line, and the way out works.
    assert "\n" not in str(caught.value)
    assert named(a, b, value, choices={str(value): "b"}) == "two > one"


def test_a_refusal_shows_the_value_and_what_is_accepted() -> None:
    (found,) = read(pair("w" * 99), "choices")
    assert isinstance(found, Unusable)
    assert found.reason == "unknown choice"  # counted by this, whatever the values are
    assert f'the value is "{"w" * 60}..."' in found.line
    for word in ("completion_a, completion_b", "left/right", "choices: {0: a, 1: b, 2: tie}"):
        assert word in found.line
    (found,) = read(pair(7), "choices", choices={"0": "a", "1": "b"})
    assert isinstance(found, Unusable)
    assert found.line == 'unknown choice: the value is "7"; choices names 0, 1'


@pytest.mark.parametrize(
    ("choices", "values", "expected"),
    [
        ({"0": "a", "1": "b", "2": "tie"}, [0, "1", 1.0, "2.0", Decimal(2)], ["a", "b", "b", "tie", "tie"]),
        ({"true": "a", "false": "b"}, [True, False, "TRUE", "no", "yes"], ["a", "b", "a", "b", "a"]),
        ({"Win": "b", "worst": "both_bad"}, ["win", "WORST", "Win"], ["b", "both_bad", "b"]),
        ({"1": "a", "-1": "b", "0": "tie"}, [1, -1, 0], ["a", "b", "tie"]),
        ({"completion_a": "b"}, ["completion_a"], ["b"]),  # whoever says so means it
    ],
)
def test_values_mean_what_the_user_says(choices: dict[str, str], values: list[Any], expected: list[str]) -> None:
    texts = {"a": "one > two", "b": "two > one", "tie": "one = two", "both_bad": "one x two"}
    assert [short(read(pair(v), "choices", choices=choices))[0] for v in values] == [texts[e] for e in expected]
    # Mutation caught: what is not in the mapping is read by the words.
    assert short(read(pair("a"), "choices", choices=choices)) == ["unknown choice"]


def test_values_to_leave_out() -> None:
    (found,) = read(pair("unsure"), "choices", choices={"unsure": "skip"})
    assert found == Unusable('choice is "unsure", which choices leaves out', broken=False)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("response_0", "response_1", ("0", "1")),
        ("responseA", "responseB", ("a", "b")),
        ("responsea", "responseb", ("a", "b")),
        ("a_text", "b_text", ("a", "b")),
        ("human_ref_A", "human_ref_B", ("a", "b")),
        ("text left", "text right", ("left", "right")),
        ("model-7b", "model-13b", ("7", "13")),
        ("gpt2", "tuned", None),
        ("good", "goods", None),
        ("cat", "car", None),
        ("a1", "b2", None),
        ("x", "x", None),
    ],
)
def test_what_tells_two_names_apart(one: str, other: str, expected: tuple[str, str] | None) -> None:
    assert apart(one, other) == expected
    assert in_order(one, other) is (None if expected in (None, ("7", "13")) else True)


def test_numbers_far_apart_are_models_and_not_places() -> None:
    # "model_2" and "model_3": 2 may be the second one. Mutation caught: any number in a name is its place.
    assert named("model_2", "model_3", 2) == "unknown verdict"
    assert named("model_2", "model_3", "model_3") == "two > one"


PAIRS = [
    ("completion_a", "completion_b"),
    ("response_0", "response_1"),
    ("answer_1", "answer_2"),
    ("gpt2", "tuned"),
]


@pytest.mark.parametrize("names", PAIRS)
def test_inverting_the_winner_inverts_every_label_and_order_says_nothing(names: tuple[str, str]) -> None:
    dice = random.Random(0)
    rows = [
        {"prompt": f"p{i}", names[0]: f"l{i}", names[1]: f"r{i}", "choice": dice.choice(names)} for i in range(30)
    ]
    columns = {} if names[0] == "completion_a" else {"completion_a": names[0], "completion_b": names[1]}

    def labels(rows: list[dict[str, Any]]) -> dict[str, str]:
        found = itertools.chain.from_iterable(read(row, "choices", columns=columns) for row in rows)
        return {f.prompt: f.chosen[0] for f in found if isinstance(f, JudgedRow)}

    other = dict(zip(names, reversed(names), strict=True))
    inverted = labels([{**row, "choice": other[row["choice"]]} for row in rows])
    assert inverted == {p: {"l": "r", "r": "l"}[side] for p, side in labels(rows).items()}
    shuffled = [dict(dice.sample(list(row.items()), len(row))) for row in dice.sample(rows, len(rows))]
    assert labels(shuffled) == labels(rows)
    # Naming the columns the other way round changes which one is A, and nothing else.
    if columns:
        columns = {"completion_a": names[1], "completion_b": names[0]}
        assert labels(shuffled) == labels(rows)


def test_pairs_with_a_margin_and_somebody() -> None:
    (found,) = read(pair("b", margin="0.5", annotator="p_0123456789"), "choices")
    assert isinstance(found, JudgedRow)
    assert (found.margin, found.annotator) == (0.5, "p_0123456789")
    (tie,) = read(pair("tie", margin="0.5", annotator="Ann Example"), "choices")
    assert isinstance(tie, JudgedRow)
    # A name that nobody pointed to is not read; one that columns points to becomes an id.
    assert (tie.margin, tie.annotator) == (None, None)
    (named,) = read(pair("b", worker="Ann Example"), "choices", columns={"annotator": "worker"})
    assert isinstance(named, JudgedRow)
    assert named.annotator == who("Ann Example")


# Catches: a word of which only the letters are looked at, so that "not A" is A, or a half-known comparison.
@pytest.mark.parametrize(
    "value", ["!A", "~A", "¬A", "-A", "- A", "A-", "A --", "A?", "A>=B", "A<=B", "A=>B", "A->B", "A>B>C", "-left"]
)
def test_a_sign_that_may_turn_a_word_round_is_not_passed_over(value: str) -> None:
    assert short(read(pair(value), "choices")) == ["unknown choice"]
    assert named("response_a", "response_b", value) == "unknown verdict"


def test_signs_are_read_where_they_are_the_columns_own() -> None:
    assert named("base", "base-", "base-") == "two > one"
    assert named("base", "-base", "base") == "one > two"


def test_one_letter_in_two_spellings_is_one() -> None:
    assert named("Antwört_A", "Antwört_B", "Antwo\u0308rt_B") == "two > one"
    assert named("response_a", "response_b", "\uff22") == "two > one"  # the wide B
    assert named("x", "y", "gru\u0308n", choices={"grün": "b"}) == "two > one"


def test_a_number_with_a_plus_and_an_empty_cell_can_be_mapped() -> None:
    graded: dict[str, Any] = {"-1": "a", "1": "b", "0": "tie"}
    assert named("x", "y", "+1", choices=graded) == named("x", "y", "+1.0", choices=graded) == "two > one"
    assert named("x", "y", "-1", choices=graded) == "one > two"
    for empty in ("", "  ", None, float("nan")):
        assert named("x", "y", empty, choices={"x": "a", "": "tie"}) == "one = two"
        assert named("x", "y", empty, choices={"x": "a"}) == "no verdict"
    assert named("x", "y", "  ") == "no verdict"


# Mutations caught: an underscore that stays; a capital that stays; a digit that goes.
def test_a_word_of_ascii_is_made_plain_as_any_other() -> None:
    whole = "".join(map(chr, range(128)))
    assert plain_word(whole) == plain_word(whole + "é").removesuffix("é")
    assert plain_word("Response_1 [[B]]!") == "response1b"
    assert [known_side(word) for word in ("[[C]]", " [[ c ]]\n", "c", "[C]", "C")] == [
        "tie",
        "tie",
        None,
        None,
        None,
    ]
