"""Exports of labelling tools: several people's answers in one record, and what is not an answer."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import JudgedRow, Unusable, detect_format, parse_row
from pipeline.formats.families.argilla import account
from tests.helpers.read_rows import read, short, shuffled, who

FIELDS = {"prompt": "Größe?", "response1": "Yes", "response2": "No"}


# Argilla


def record(*answers: Any, question: str = "preference", status: Any = "submitted", **other: Any) -> dict[str, Any]:
    """As version 2 has it, responses by question, with the status that its JSON leaves out."""
    given = [{"value": value, "user_id": f"u{i}", "status": status} for i, value in enumerate(answers)]
    given = [{k: v for k, v in one.items() if v is not None or k == "value"} for one in given]
    return {
        "id": "r",
        "fields": FIELDS,
        "metadata": {},
        "suggestions": {},
        "responses": {question: given},
        "status": "pending",
        "_server_id": "1",
        **other,
    }


def flat(*answers: Any, question: str = "preference", fields: Any = None, **other: Any) -> dict[str, Any]:
    """As ``to_list(flatten=True)``, ``to_datasets`` and ``to_hub`` have it."""
    meta = {"id": "r", "status": "pending", "_server_id": "1", f"{question}.suggestion": "response2"}
    responses = {
        f"{question}.responses": list(answers) or None,
        f"{question}.responses.users": [f"u{i}" for i in range(len(answers))] or None,
        f"{question}.responses.status": ["submitted"] * len(answers) or None,
    }
    scores = {f"{question}.suggestion.score": 0.5, f"{question}.suggestion.agent": "a model"}
    return {**meta, **(fields or FIELDS), **responses, **scores, **other}


def old(*answers: Any, fields: dict[str, str] | None = None, question: str = "preference") -> dict[str, Any]:
    """As version 1 writes it: a response for each user, with values by question."""
    responses = [
        {"user_id": f"u{i}", "status": "submitted", "values": {question: {"value": value}}}
        for i, value in enumerate(answers)
    ]
    return {"fields": fields or FIELDS, "responses": responses, "suggestions": [], "external_id": None}


@pytest.mark.parametrize("make", [record, old, flat])
def test_argilla_every_answer_is_a_row(make: Any) -> None:
    found = read(make("response1", "response-2", "tie", "both_bad", "A", "2"))
    assert short(found, people=True) == [
        f"Yes > No {who('u0')}",
        f"No > Yes {who('u1')}",
        f"Yes = No {who('u2')}",
        f"Yes x No {who('u3')}",
        f"Yes > No {who('u4')}",
        f"No > Yes {who('u5')}",
    ]
    assert {f.prompt for f in found if isinstance(f, JudgedRow)} == {"Größe?"}


def test_argilla_ids_depend_on_the_set_and_ours_stay() -> None:
    assert read(record("response1"), salt="other") != read(record("response1"))
    ours = record("response1")
    ours["responses"]["preference"][0]["user_id"] = "p_0123456789"
    assert short(read(ours), people=True) == ["Yes > No p_0123456789"]
    nobody = record("response1")
    del nobody["responses"]["preference"][0]["user_id"]
    assert short(read(nobody), people=True) == ["Yes > No None"]


FOUR = {"instruction": "Why?", "response_1": "a", "response_2": "b", "response_3": "c", "context": "some"}


@pytest.mark.parametrize(
    "value",
    [
        [("response-2", 1), ("response-1", 2), ("response-3", 2)],
        # The order of the list says nothing where ranks are given.
        [("response_3", 4), ("response_1", 4), ("response_2", 1)],
    ],
)
def test_argilla_ranking_of_three_with_a_tie(value: Any) -> None:
    found = read(old([{"value": name, "rank": rank} for name, rank in value], fields=FOUR))
    # By hand: b before a and c, which are equal. Mutation caught: a higher rank is better.
    assert {frozenset(s.split(" = ")) if "=" in s else s for s in short(found)} == {
        "b > a",
        "b > c",
        frozenset(("a", "c")),
    }
    assert {f.annotator for f in found if isinstance(f, JudgedRow)} == {who("u0")}
    assert {f.scores for f in found if isinstance(f, JudgedRow)} == {None}


def test_argilla_ranking_as_a_list_best_first() -> None:
    row = record(["response_3", "response_1", "response_2"], fields=FOUR)
    assert short(read(row)) == ["c > a", "c > b", "a > b"]
    assert short(read(row, pairs="best_worst")) == ["c > b"]
    twice = record(["response_3", "response_1", "response_3"], fields=FOUR)
    assert short(read(twice)) == ["unknown choice"]


@pytest.mark.parametrize(
    "value",
    [
        "response3",
        "good",
        "1.",
        ["response1"],
        ["response1", "response9"],
        ["response1", "response1"],
        [{"value": "response1", "rank": None}, {"value": "response2", "rank": 1}],
        [{"value": "response1", "rank": float("nan")}, {"value": "response2", "rank": 1}],
        4,
        1,
    ],
)
def test_argilla_unknown_answers(value: Any) -> None:
    if value == "1.":  # punctuation is no difference
        assert short(read(record(value))) == ["Yes > No"]
    else:
        assert short(read(record(value, "response1"))) == ["unknown choice", "Yes > No"]


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_argilla_only_submitted_answers(status: str) -> None:
    row = old("response1", "response2")
    reason = {"draft": "a draft", "discarded": "discarded by who was asked"}[status]
    row["responses"][0]["status"] = status
    assert short(read(row)) == [reason, "No > Yes"]
    row["responses"][1] = {"user_id": "u1", "status": status, "values": None}
    # Mutation caught: counted as broken, so that it stops.
    assert read(row) == [Unusable(reason, broken=False)] * 2
    for make in (record, flat):
        row = make("response1", "response2")
        responses = row["responses"]["preference"] if make is record else None
        if responses:
            responses[0]["status"] = status
        else:
            row["preference.responses.status"][0] = status
        assert short(read(row)) == [reason, "No > Yes"]
        # Discarded is discarded.
        assert short(read(row, drafts="count")) == ["Yes > No" if status == "draft" else reason, "No > Yes"]


def test_argilla_json_without_a_status_is_refused() -> None:
    """Version 2's to_json leaves it out: drafts and discarded answers stand there like all others."""
    row = record("response1", "response2", status=None)
    with pytest.raises(DataError, match=r"does not say which answers were submitted.*flatten=True.*drafts: count"):
        read(row)
    assert short(read(row, drafts="count"), people=True) == [f"Yes > No {who('u0')}", f"No > Yes {who('u1')}"]
    row = old("response1")
    del row["responses"][0]["status"]
    with pytest.raises(DataError, match="drafts: count"):
        read(row)
    # Tables of the first version 2 have none either.
    row = flat("response1")
    del row["preference.responses.status"]
    with pytest.raises(DataError, match="drafts: count"):
        read(row)
    # Whoever wants its texts alone, prompts for example, has them.
    assert isinstance(parse_row(record("response1", status=None), "argilla", "x"), JudgedRow)
    # What we wrote ourselves without one holds nothing but votes: Argilla writes no such people.
    ours = {**record(), "responses": {"preference": [{"value": "response2", "user_id": "p_0123456789"}]}}
    assert short(read(ours), people=True) == ["No > Yes p_0123456789"]


@pytest.mark.parametrize(
    "row",
    [
        record(),
        record(responses={}),
        record(responses=[]),
        old(),
        # A model's guess is no answer.
        record(suggestions={"preference": {"value": "response1", "agent": "a model"}}),
    ],
)
def test_argilla_without_answers(row: dict[str, Any]) -> None:
    assert read(row) == [Unusable("nobody has answered", broken=False)]


def test_argilla_submitted_without_an_answer() -> None:
    assert read(record(None)) == [Unusable("submitted without a choice", broken=False)]
    assert short(read(record(None, "response1"), no_choice="tie")) == ["Yes = No", "Yes > No"]
    assert read(record(None, status="discarded"), no_choice="tie")[0] == Unusable(
        "discarded by who was asked", broken=False
    )


def test_argilla_other_questions_are_not_the_choice() -> None:
    row = record("response2")
    by = {"user_id": "u0", "status": "submitted"}
    row["responses"] |= {"quality": [{"value": 1, **by}], "why": [{"value": "short", **by}]}
    assert short(read(row)) == ["No > Yes"]
    row["responses"] = dict(reversed(row["responses"].items()))
    # Mutation caught: the first question is the choice.
    assert short(read(row)) == ["No > Yes"]
    row["responses"]["helpful"] = [{"value": "response1", **by}]
    assert short(read(row)) == ["several questions could be the choice; say  columns: {choice: ...}"]
    assert short(read(row, columns={"choice": "helpful"})) == ["Yes > No"]
    assert read(row, columns={"choice": "helpfull"}) == [Unusable("submitted without a choice", broken=False)]


def test_argilla_fields_of_any_name() -> None:
    fields = {"text": "Why?", "short one": "a", "long one": "b", "source": "web"}
    row = record("long one", fields=fields)
    assert short(read(row))[0].startswith("which fields are the completions?")
    columns = {"prompt": "text", "completion_a": "short one", "completion_b": "long one"}
    assert detect_format(row, "x", columns=columns) == "argilla"
    # Mutation caught: the label compared with our names instead of theirs.
    assert short(read(row, columns=columns)) == ["b > a"]
    with pytest.raises(DataError, match='no column "longone"; the columns are: text, short one, long one, source'):
        detect_format(row, "x", columns={**columns, "completion_b": "longone"})
    # Two fields and the prompt need no names.
    del row["fields"]["source"]
    row["fields"]["prompt"] = row["fields"].pop("text")
    assert short(read(row)) == ["b > a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": None}, "no prompt"),
        ({"prompt": ""}, "empty prompt"),
        ({"response1": " "}, "empty response1"),
        ({"response1": None}, "no response1"),
        ({"response2": "Yes\n"}, "response1 equals response2"),
        ({"response2": "\ud800"}, "response2 is not valid Unicode"),
    ],
)
def test_argilla_bad_fields(change: dict[str, Any], reason: str) -> None:
    (found,) = short(read(record("response1", fields={**FIELDS, **change})))
    assert found.startswith(reason)


def test_argilla_prompt_of_messages() -> None:
    row = record("response2", fields={**FIELDS, "prompt": [{"role": "user", "content": "Why?"}]})
    (found,) = read(row)
    assert isinstance(found, JudgedRow)
    assert (found.prompt, found.chosen) == ("User: Why?\n\nAssistant:", " No")


# Flat tables, ratings, and what our own exports have


def test_argilla_flat_cells_as_text() -> None:
    """What a CSV of the table holds: lists as JSON or as Python writes them."""
    row = flat("response2", "response1")
    for write in (json.dumps, repr):
        cells = {k: write(v) if isinstance(v, list) else v for k, v in row.items()}
        assert short(read(cells), people=True) == [f"No > Yes {who('u0')}", f"Yes > No {who('u1')}"]
    row["preference.responses.users"] = ["u0"]
    assert short(read(row)) == ["preference.responses and its users and statuses are not equally many"]


@pytest.mark.parametrize("listed", [True, False])
def test_argilla_sets_of_version_1_on_the_hub(listed: bool) -> None:
    given = [
        {"user_id": f"u{i}", "value": f"response{i + 1}", "status": s}
        for i, s in enumerate(("submitted", "draft"))
    ]
    column = given if listed else {k: [one[k] for one in given] for k in given[0]}
    row = {**FIELDS, "preference": column, "preference-suggestion": None, "external_id": "1", "metadata": "{}"}
    assert detect_format(row, "x") == "argilla"
    assert short(read(row), people=True) == [f"Yes > No {who('u0')}", "a draft"]


def test_argilla_rankings_in_a_table() -> None:
    row = flat(
        ["response_3", "response_1"], [{"value": "response_1", "rank": 1}, {"value": "response_2", "rank": 1}]
    )
    row = {k: v for k, v in row.items() if k not in FIELDS} | FOUR
    assert short(read(row)) == ["c > a", "a = b"]


def test_argilla_ratings_of_each_completion() -> None:
    def stars(value: Any, by: str = "u0") -> dict[str, Any]:
        return {"value": value, "user_id": by, "status": "submitted"}

    # Mutation caught: one person's rating of the first against another's of the second.
    responses = {"quality_1": [stars(2), stars(5, "u1")], "quality_2": [stars(4), stars(1, "u1")]}
    row = {**record(), "responses": responses}
    assert short(read(row), people=True) == [f"No > Yes {who('u0')}", f"Yes > No {who('u1')}"]
    named = {**record(), "responses": {"response1 is good": [stars(3)], "response2 is good": [stars(3)]}}
    assert short(read(named)) == ["Yes = No"]
    # One scale from the first to the second: the user knows its ends.
    scale = record(1, 3, 5)
    assert short(read(scale)) == ["unknown choice"] * 3
    ends = {"1": "a", "2": "a", "3": "tie", "4": "b", "5": "b"}
    assert short(read(scale, choices=ends)) == ["Yes > No", "Yes = No", "No > Yes"]


def test_argilla_people_of_our_own_exports() -> None:
    ours = record("response1", "response2", metadata={"annotator": "p_0123456789", "margin": 2.0})
    ours["responses"]["preference"][0]["user_id"] = account("p_0123456789")
    found = read(ours)
    # Mutation caught: the person in metadata is everybody who answered, also on the page later.
    assert short(found, people=True) == ["Yes > No p_0123456789", f"No > Yes {who('u1')}"]
    assert isinstance(found[0], JudgedRow)
    assert found[0].margin == 2.0
    table = flat("response1", **ours["metadata"])
    table["preference.responses.users"] = [account("p_0123456789")]
    assert short(read(table), people=True) == ["Yes > No p_0123456789"]
    ours["responses"]["preference"][0]["user_id"] = account(None)
    assert short(read(ours), people=True)[0] == "Yes > No None"


@pytest.mark.parametrize("make", [record, old, flat])
def test_inverting_the_answer_inverts_every_label_and_order_says_nothing(make: Any) -> None:
    dice = random.Random(1)
    sides = [dice.choice("12") for _ in range(20)]

    def rows(sides: list[str]) -> list[dict[str, Any]]:
        fields = [{"prompt": f"p{i}", "response1": f"1{i}", "response2": f"2{i}"} for i in range(len(sides))]
        return [make(f"response{side}", fields=fields[i]) for i, side in enumerate(sides)]

    def labels(rows: list[dict[str, Any]]) -> dict[str, str]:
        return {f.prompt: f.chosen[0] for row in rows for f in read(row) if isinstance(f, JudgedRow)}

    assert labels(rows(sides)) == {f"p{i}": side for i, side in enumerate(sides)}
    assert labels(rows(["2" if side == "1" else "1" for side in sides])) == {
        f"p{i}": "2" if side == "1" else "1" for i, side in enumerate(sides)
    }
    mixed = shuffled(dice.sample(rows(sides), len(sides)), dice)
    assert labels(mixed) == labels(rows(sides))


# Catches: people lost where their cell cannot be read, so that their answers are nobody's.
@pytest.mark.parametrize(
    ("end", "cell", "reason"),
    [
        (".users", "[UUID('00000000-0000-0000-0000-000000000001')]", "preference.responses.users is not a list"),
        (".status", "submitted", "preference.responses.status is not a list"),
        ("", "response1", "preference.responses is not a list"),
        ("", "['response1' 'response2']", "preference.responses is a list as Python or numpy writes it"),
        (".users", "['u1' 'u2']", "preference.responses.users is a list as Python or numpy writes it"),
    ],
)
def test_a_cell_that_is_no_list_of_answers_is_refused(end: str, cell: str, reason: str) -> None:
    (found,) = short(read(flat("response1") | {f"preference.responses{end}": cell}))
    assert found.startswith(reason)
