"""Label Studio's exports as its server 1.23.2 writes them: which side, whose vote, and what is no vote."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import JudgedRow, Reading, Unusable, detect_format, parse_rows
from pipeline.formats.families.label_config import read_label_config
from pipeline.sources.row_files import read_file
from tests.helpers.read_rows import read, short, shuffled, who

DATA = {"prompt": "Why?", "answer1": "Yes", "answer2": "No"}
CONFIG = """<?xml version="1.0"?>
<!-- two answers -->
<View>
  <Header value="Which &amp; why?"/>
  <Text name="t" value="$prompt"/>
  <View><Text name="one" value="$baseline"/><HyperText name="two" value="$ours"/></View>
  <Pairwise name="pw" toName="two, one" leftClass="l"/>
  <Choices name="kind" toName="t"><Choice value="A"/></Choices>
  <Rating name="stars-1" toName="one"/><Rating name="stars-2" toName="two"/>
</View>
"""


def click(selected: Any, to: str = "pw", **other: Any) -> dict[str, Any]:
    value = {"selected": selected}
    return {"id": "a1b2c3", "from_name": "pw", "to_name": to, "type": "pairwise", "value": value, **other}


def annotation(*results: dict[str, Any], by: Any = 7, **other: Any) -> dict[str, Any]:
    meta = {"id": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 2.5, "project": 1}
    return {**meta, "completed_by": by, "result": list(results), **other}


def of(*annotations: dict[str, Any], data: dict[str, Any] | None = None) -> dict[str, Any]:
    nobody = {"drafts": [], "predictions": [{"result": [click("right")], "model_version": "m"}]}
    return {"id": 1, "data": DATA if data is None else data, "annotations": list(annotations), **nobody}


def task(*selected: Any, to: str = "pw", data: dict[str, Any] | None = None) -> dict[str, Any]:
    return of(*(annotation(click(side, to), by=i) for i, side in enumerate(selected)), data=data)


def flat(row: dict[str, Any] | None = None, **cells: Any) -> dict[str, Any]:
    """As JSON_MIN has it."""
    meta = {"id": 1, "annotator": 7, "annotation_id": 3, "created_at": "2026-01-01", "updated_at": "2026-01-01"}
    return {**(DATA if row is None else row), **meta, "lead_time": 2.5, **cells}


def test_every_annotation_is_a_vote() -> None:
    found = read(task("left", "right"))
    assert short(found, people=True) == [f"Yes > No {who(0)}", f"No > Yes {who(1)}"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (7, 7),
        (7.0, 7),
        ("7", 7),
        ({"id": 7, "email": "somebody@example.org", "first_name": ""}, 7),
        ({"id": None, "email": "somebody@example.org"}, "somebody@example.org"),
        ("somebody@example.org", "somebody@example.org"),
        ({"username": "somebody"}, "somebody"),
    ],
    ids=repr,
)
def test_accounts_of_all_shapes(by: Any, expected: Any) -> None:
    assert short(read(of(annotation(click("left"), by=by))), people=True) == [f"Yes > No {who(expected)}"]
    assert short(read(flat(pw=[{"selected": "left"}], annotator=by)), people=True) == [f"Yes > No {who(expected)}"]


@pytest.mark.parametrize("by", [None, "", {}, []])
def test_nobody_named(by: Any) -> None:
    (found,) = read(of(annotation(click("left"), by=by)))
    assert isinstance(found, JudgedRow)
    assert found.annotator is None


# Left and right


@pytest.mark.parametrize(
    ("one", "other"),
    [("answer1", "answer2"), ("text_a", "text_b"), ("response_0", "response_1"), ("left", "right"), ("A1", "A2")],
)
def test_names_that_differ_in_a_place_are_in_that_order(one: str, other: str) -> None:
    # As written by a page whose project had the second field first; a database may reorder keys as well.
    for data in ({one: "Yes", other: "No", "prompt": "Why?"}, {"prompt": "Why?", other: "No", one: "Yes"}):
        how = Reading()
        # Mutation caught: the order of the keys.
        assert short(parse_rows(task("left", "right", data=data), "auto", "x", how)) == ["Yes > No", "No > Yes"]
        # It is an assumption, so it is said; once.
        assert how.notices.lines() == [
            f'left is "{one}" and right is "{other}": by their names, as the file does not say it'
        ]


@pytest.mark.parametrize(
    "data",
    [
        {"prompt": "Why?", "baseline": "Yes", "ours": "No"},
        {"prompt": "Why?", "model_7b": "Yes", "model_13b": "No"},
    ],
)
def test_names_that_tell_no_order_stop(data: dict[str, str]) -> None:
    with pytest.raises(
        DataError, match=r'"left", and nothing says which.*columns: \{completion_a: .*label_config:'
    ):
        read(task("left", data=data))
    columns = {"completion_a": list(data)[1], "completion_b": list(data)[2]}
    assert short(read(task("left", data=data), columns=columns)) == ["Yes > No"]
    assert short(read(task("left", data=dict(reversed(data.items()))), columns=columns)) == ["Yes > No"]


def test_many_fields_need_names() -> None:
    data = {**DATA, "answer3": "Maybe", "source": "web"}
    assert short(read(task("left", data=data))) == ["unknown choice"]
    assert short(
        read(task("left", data=data), columns={"completion_a": "answer3", "completion_b": "answer1"})
    ) == ["Maybe > Yes"]
    data = {"prompt": "Why?", "one": "Yes", "two": "No", "source": "web"}
    assert short(read(task("left", data=data)))[0].startswith("which fields are the completions?")


def test_what_our_own_exports_had_once_is_still_read() -> None:
    # Two names in to_name, of the task's own fields: Label Studio never writes that.
    data = {"prompt": "Why?", "two": "No", "one": "Yes", "source": "web"}
    assert short(read(task("left", to="two,one", data=data))) == ["No > Yes"]
    assert short(read(task("left", to="answer1,answer2"))) == ["Yes > No"]
    # Names of tags, which are no fields: they agree with the fields' names, or nothing is known.
    assert short(read(task("left", to="txt-1,txt-2"))) == ["Yes > No"]
    with pytest.raises(DataError, match="nothing says which"):
        read(task("left", to="txt-2,txt-1"))


@pytest.fixture
def config(tmp_path: Path) -> Any:
    path = tmp_path / "project.xml"
    path.write_text(CONFIG)
    return read_label_config(path)


def test_the_project_s_configuration_decides(config: Any) -> None:
    data = {"prompt": "Why?", "baseline": "Yes", "ours": "No"}
    # toName="two, one", and two shows $ours.
    assert short(read(task("left", "right", data=data), label_config=config)) == ["No > Yes", "Yes > No"]
    # Left is what the project showed there, also where the fields' names say the opposite.
    old = task("left", to="answer2,answer1")
    assert short(read(old)) == ["No > Yes"]
    with pytest.raises(DataError, match='choice is "left", but the columns are "answer2"'):
        read(task("left"), columns={"completion_a": "answer2", "completion_b": "answer1"})
    # Mutation caught: columns have the last word on what was left.
    columns = {"completion_a": "baseline", "completion_b": "ours"}
    assert short(read(task("left", data=data), label_config=config, columns=columns)) == ["No > Yes"]
    with pytest.raises(
        DataError, match="ours stood on the left and baseline on the right, but the fields are prompt, answer1"
    ):
        read(task("left", data=DATA), label_config=config)


def test_ratings_of_two_completions(config: Any) -> None:
    def stars(name: str, n: Any, to: str) -> dict[str, Any]:
        return {"from_name": name, "to_name": to, "type": "rating", "value": {"rating": n}}

    data = {"prompt": "Why?", "baseline": "Yes", "ours": "No"}
    rated = of(annotation(stars("stars-1", 2, "one"), stars("stars-2", 5, "two")), data=data)
    assert short(read(rated, label_config=config), people=True) == [f"No > Yes {who(7)}"]
    cells = {"stars-1": [{"rating": 4}], "stars-2": [{"rating": 4}]}
    assert short(read(flat(data, **cells), label_config=config)) == ["Yes = No"]
    # Without the configuration by what the names end with.
    rated = of(annotation(stars("s1", 2, "txt-1"), stars("s2", 5, "txt-2")))
    assert short(read(rated)) == ["No > Yes"]
    one = of(annotation(stars("s1", 2, "txt-1")))
    assert short(read(one)) == ["submitted without a choice"]


@pytest.mark.parametrize(
    ("xml", "fact"),
    [
        ("<View><Text", "is no labelling configuration"),
        ("", "is no labelling configuration"),
        ("<View><Text name='a' value='$a'/></View>", "has no Pairwise"),
        ("<View><Pairwise name='p' toName='a,b'/></View>", '"p" is about "a", and no tag'),
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><View>&e;</View>', "document type is not read"),
        ('<!DOCTYPE x [<!ENTITY e "ee"><!ENTITY f "&e;&e;">]><View a="&f;"/>', "document type is not read"),
    ],
)
def test_bad_configurations(tmp_path: Path, xml: str, fact: str) -> None:
    path = tmp_path / "project.xml"
    path.write_text(xml)
    with pytest.raises(DataError, match=fact) as caught:
        read_label_config(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=r"label_config"):
        read_label_config(tmp_path / "none.xml")


# What is no vote


def test_what_is_no_vote_is_counted_by_its_reason() -> None:
    assert read(of()) == [Unusable("nobody has answered", broken=False)]
    skipped = [annotation(was_cancelled=True), annotation(click("left"), was_cancelled=True)]
    assert read(of(*skipped)) == [Unusable("skipped by who was asked", broken=False)] * 2
    assert read(of(annotation())) == [Unusable("submitted without a choice", broken=False)]
    # A draft is in another list, a prediction is a model's: see of().
    assert short(read({**of(annotation(click("left"))), "drafts": [annotation(click("right"))]})) == ["Yes > No"]
    # Each beside the votes of others.
    mixed = of(*skipped, annotation(click("right")), annotation())
    assert short(read(mixed)) == [*["skipped by who was asked"] * 2, "No > Yes", "submitted without a choice"]
    assert read(flat(annotation_id=None, annotator=None)) == [Unusable("nobody has answered", broken=False)]
    assert read({"fields": 1, "data": 1, "annotations": 2}, "label_studio")[0] == Unusable(
        "no task of Label Studio: data and annotations"
    )


def test_no_click_may_mean_a_tie() -> None:
    how = Reading()
    parse_rows(of(annotation()), "auto", "x", how)
    (said,) = how.notices.lines()
    assert "no_choice: tie" in said
    remark = {"from_name": "why", "to_name": "t", "type": "textarea", "value": {"text": ["the same"]}}
    row = of(annotation(), annotation(remark), annotation(click("left"), was_cancelled=True))
    assert short(read(row, no_choice="tie")) == ["Yes = No", "Yes = No", "skipped by who was asked"]
    assert short(read(flat(), no_choice="tie", columns={"choice": "pw"})) == ["Yes = No"]
    # In a table the control's column may hold a word that is not known: only its name tells that from no click.
    with pytest.raises(DataError, match=r"columns: \{choice: "):
        read(flat(), no_choice="tie")
    row = flat(pw="perhaps")
    assert short(read(row, no_choice="tie", columns={"choice": "pw"})) == ["unknown choice"]


def test_choices_words_and_other_controls() -> None:
    def word(*choices: str) -> dict[str, Any]:
        return {"from_name": "best", "to_name": "t1", "type": "choices", "value": {"choices": list(choices)}}

    row = of(
        *(annotation(word(w)) for w in ("tie", "A", "Answer 2", "answer1", "Both bad")),
        annotation(click("middle")),
    )
    assert short(read(row, columns={"choice": "best"})) == [
        *("Yes = No", "Yes > No", "No > Yes", "Yes > No", "Yes x No"),
        "submitted without a choice",
    ]
    assert short(read(of(annotation(word("A", "B"))))) == ["several choices at once"]
    # Ticked in their own order, not in one of preference.
    assert short(read(of(annotation(word("answer1", "answer2"))))) == ["several choices at once"]
    # Several labels of another question are in nobody's way.
    assert short(read(of(annotation(click("right"), {**word("long", "odd"), "from_name": "tags"})))) == [
        "No > Yes"
    ]
    assert short(read(task("left", "middle"))) == ["Yes > No", "unknown choice"]
    # Words that are no sides are another question's.
    both = of(annotation({**word("long"), "from_name": "kind"}, click("right")))
    assert short(read(both)) == ["No > Yes"]
    two = of(annotation(word("A"), click("right")))
    assert short(read(two)) == ["several questions could be the choice; say  columns: {choice: ...}"]
    assert short(read(two, columns={"choice": "best"})) == ["Yes > No"]
    mapped = of(annotation(word("win")), annotation(word("lose")))
    assert short(read(mapped, choices={"win": "a", "lose": "b"})) == ["Yes > No", "No > Yes"]
    box = {"from_name": "box", "to_name": "t1", "type": "labels", "value": {"start": 0, "labels": ["x"]}}
    assert short(read(of(annotation(box)))) == ["an answer of type labels is not read"]


def ranker(*ids: str, **buckets: Any) -> dict[str, Any]:
    value = {"ranker": buckets or {"rank": list(ids)}}
    return {"from_name": "rank", "to_name": "list", "type": "ranker", "value": value}


def test_a_ranking_of_items() -> None:
    items = [
        {"id": "x", "title": "1", "body": "a"},
        {"id": "y", "title": "2", "body": "b"},
        {"id": "z", "body": "c"},
    ]
    data = {"prompt": "Why?", "items": items, "source": "web"}
    assert short(read(of(annotation(ranker("z", "x", "y")), data=data)), people=True) == [
        f"{s} {who(7)}" for s in ("c > a", "c > b", "a > b")
    ]
    assert short(read(of(annotation(ranker("z", "x", "y")), data=data), pairs="best_worst")) == ["c > b"]
    cell = [{"ranker": {"rank": ["z", "x"]}}]
    assert short(read(flat(data, rank=cell))) == ["c > a"]
    assert short(read(flat({**data, "items": json.dumps(items)}, rank=json.dumps(cell)))) == ["c > a"]
    # By the items' ids alone: another list, other items, buckets whose order nobody knows.
    assert short(read(of(annotation(ranker("z", "q")), data=data))) == ["a Ranker whose items are not in the task"]
    buckets = of(annotation(ranker(good=["x"], bad=["y"])), data=data)
    assert short(read(buckets)) == ["a Ranker with buckets is not read"]


# Tables: JSON_MIN and CSV


def test_tables_have_a_row_for_each_submission(tmp_path: Path) -> None:
    rows = [flat(pw=[{"selected": side}], annotator=n) for n, side in enumerate(("left", "right"))]
    rows.append(flat())
    assert {detect_format(row, "x") for row in rows} == {"label_studio"}
    expected = [f"Yes > No {who(0)}", f"No > Yes {who(1)}", "submitted without a choice"]
    assert [short(read(row), people=True)[0] for row in rows] == expected
    # CSV has its columns in the order of the alphabet, and JSON in its cells.
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({k for row in rows for k in row}))
        writer.writeheader()
        writer.writerows({k: json.dumps(v) if k == "pw" else v for k, v in row.items()} for row in rows)
    assert [short(read(row), people=True)[0] for _, row in read_file(path)] == expected


def test_words_in_tables() -> None:
    for word, expected in (("answer2", "No > Yes"), ("A", "Yes > No"), ("Tie", "Yes = No")):
        assert short(read(flat(best=word), columns={"choice": "best"})) == [expected]
    assert short(read(flat(best="perhaps"), columns={"choice": "best"})) == ["unknown choice"]
    # A word in a column of any name may be about anything; "b" may be where the task came from.
    (found,) = read(flat(best="b"))
    assert isinstance(found, Unusable)
    assert "columns: {choice: ...}" in found.line


# For every shape


def shapes(side: str, i: int) -> list[dict[str, Any]]:
    data = {"prompt": f"p{i}", "text1": f"l{i}", "text2": f"r{i}"}
    items = [{"id": "left", "body": f"l{i}"}, {"id": "right", "body": f"r{i}"}]
    rank = {"from_name": "r", "to_name": "l", "type": "ranker"}
    order = [side, "right" if side == "left" else "left"]
    stars = [
        {"from_name": f"s{n}", "to_name": f"t{n}", "type": "rating", "value": {"rating": 1 + 3 * (side == name)}}
        for n, name in ((1, "left"), (2, "right"))
    ]
    return [
        task(side, data=data),
        flat(data, pw=[{"selected": side}]),
        flat(data, pw=json.dumps([{"selected": side}])),
        flat(data, best=side),
        of(
            annotation({"from_name": "c", "to_name": "t1", "type": "choices", "value": {"choices": [side]}}),
            data=data,
        ),
        of(annotation(*stars), data=data),
        of(annotation({**rank, "value": {"ranker": {"r": order}}}), data={"prompt": f"p{i}", "items": items}),
    ]


@pytest.mark.parametrize("shape", range(7))
def test_inverting_the_click_inverts_every_label_and_order_says_nothing(shape: int) -> None:
    dice = random.Random(shape)
    sides = [dice.choice(["left", "right"]) for _ in range(20)]
    named = {"columns": {"choice": "best"}} if shape == 3 else {}

    def labels(rows: list[dict[str, Any]]) -> dict[str, str]:
        return {f.prompt: f.chosen[0] for row in rows for f in read(row, **named) if isinstance(f, JudgedRow)}

    rows = [shapes(side, i)[shape] for i, side in enumerate(sides)]
    assert labels(rows) == {f"p{i}": side[0] for i, side in enumerate(sides)}
    inverted = [shapes("right" if side == "left" else "left", i)[shape] for i, side in enumerate(sides)]
    assert labels(inverted) == {f"p{i}": {"l": "r", "r": "l"}[side[0]] for i, side in enumerate(sides)}
    assert labels(shuffled(dice.sample(rows, len(rows)), dice)) == labels(rows)


# Catches: ratings that are passed over, so that no_choice makes a tie of them.
@pytest.mark.parametrize("no_choice", ["skip", "tie"])
def test_a_rating_of_which_nothing_says_what_it_is_about_is_named(no_choice: str) -> None:
    def stars(name: str, n: int) -> dict[str, Any]:
        return {"from_name": name, "to_name": "t", "type": "rating", "value": {"rating": n}}

    unnamed = "a Rating of which nothing says what it rates; say  label_config: project.xml"
    for results in ([stars("overall", 2)], [stars("rating_a", 2), stars("rating_b", 5)]):
        assert short(read(of(annotation(*results)), no_choice=no_choice)) == [unnamed]
    # Beside a choice it is a remark.
    assert short(read(of(annotation(click("right"), stars("overall", 2))))) == ["No > Yes"]


def test_a_click_among_three_answers_shows_what_was_clicked() -> None:
    (found,) = read(task("right", data={**DATA, "answer3": "Perhaps"}))
    assert isinstance(found, Unusable)
    assert found.line == 'unknown choice: the value is "right" of 3 completions'
