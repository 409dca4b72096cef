"""Somebody's own completions as groups, and items whose answer is known."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import Notices
from pipeline.labelling.items import items_of
from pipeline.labelling.own_data import gold_items, own_groups


def file(path: Path, *rows: dict[str, Any]) -> str:
    name = path / "own.jsonl"
    name.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(name)


def groups(path: Path, *rows: dict[str, Any], columns: dict[str, str] | None = None) -> list[Any]:
    return list(own_groups(file(path, *rows), columns or {}, "c.yaml"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "completion_a": "x", "completion_b": "y"},
        {"prompt": "p", "chosen": "x", "rejected": "y"},
        {"prompt": "p", "completions": ["x", "y"]},
        {"prompt": "p", "completions": '["x", "y"]'},  # as in a CSV
    ],
)
def test_every_shape_of_a_row_gives_the_same_group(tmp_path: Path, row: dict[str, Any]) -> None:
    assert groups(tmp_path, row) == [("p", ("x", "y"))]


def test_columns_are_mapped_and_a_completion_may_stand_alone(tmp_path: Path) -> None:
    row = {"question": "p", "answer": "x"}
    assert groups(tmp_path, row, columns={"prompt": "question", "completion": "answer"}) == [("p", ("x",))]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "", "completion": "x"}, "empty prompt"),
        ({"prompt": "p"}, "no completions"),
        ({"prompt": "p", "completion_a": "x"}, "no completions"),
        ({"prompt": "p", "completions": ["x", 1]}, "no completions"),
        ({"prompt": "p", "completions": "[broken"}, "no completions"),
        ({"prompt": "p", "completions": ["x", "x"]}, "same completion twice"),
        ({"prompt": "p", "completions": ["x", " x "]}, "same completion twice"),
        ({"prompt": "p", "completion_a": "x", "completion_b": ""}, "an empty completion"),
        ({"prompt": "p", "chosen": "x", "rejected": "x"}, "chosen equals rejected"),
    ],
)
def test_a_row_that_is_none_is_named_with_its_line(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    good = {"prompt": "p", "completion": "x"}
    with pytest.raises(DataError, match=rf"own.jsonl:2: .*{said}"):
        groups(tmp_path, good, row)


def gold(path: Path, row: dict[str, Any], mode: Any = "pairwise") -> Any:
    return gold_items(file(path, row), {}, mode, "c.yaml")[0].gold


def test_known_answers_in_each_mode(tmp_path: Path) -> None:
    pair = {"prompt": "p", "completion_a": "x", "completion_b": "y"}
    assert gold(tmp_path, {**pair, "choice": "both_bad"}) == "both_bad"
    assert gold(tmp_path, {"prompt": "p", "chosen": "x", "rejected": "y"}) == "a"
    assert gold(tmp_path, {"prompt": "p", "completion": "x", "choice": "dislike"}, "thumbs") == "dislike"
    assert gold(tmp_path, {"prompt": "p", "completion": "x", "choice": 4}, "rating") == "4"
    assert gold(tmp_path, {"prompt": "p", "completions": ["x", "y", "z"], "choice": "2>1=0"}, "ranking") == "2>0=1"


@pytest.mark.parametrize(
    ("row", "mode", "said"),
    [
        ({"prompt": "p", "completion_a": "x", "completion_b": "y"}, "pairwise", "choice"),
        ({"prompt": "p", "completion_a": "x", "completion_b": "y", "choice": "left"}, "pairwise", "left"),
        ({"prompt": "p", "completion_a": "x", "completion_b": "y", "choice": "like"}, "thumbs", "2 completions"),
        ({"prompt": "p", "completion": "x", "choice": "1"}, "ranking", "1 completions"),
        ({"prompt": "p", "completions": ["x", "y"], "choice": "0>0"}, "ranking", "rank each"),
    ],
)
def test_an_answer_that_is_none_is_refused(tmp_path: Path, row: dict[str, Any], mode: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"own.jsonl:1: .*{said}"):
        gold(tmp_path, row, mode)


def test_items_of_groups() -> None:
    # By hand: two prompts; the first one's completions meet in one ranking of at most three and a rest of two.
    some = [("train", "p", ("1", "2", "3")), ("train", "q", ("1", "2")), ("train", "p", ("3", "4", "5"))]
    assert [i.completions for i in items_of(some, "pairwise")] == [
        *(("1", "2"), ("1", "3"), ("2", "3"), ("1", "2"), ("3", "4"), ("3", "5"), ("4", "5")),
    ]
    assert [i.completions for i in items_of(some, "ranking", 3)] == [("1", "2", "3"), ("4", "5"), ("1", "2")]
    assert [i.completions for i in items_of(some, "thumbs")] == [(c,) for c in "1234512"]
    # A lone completion can be liked, and compared with nothing.
    assert list(items_of([("train", "p", ("1",))], "pairwise")) == []
    assert list(items_of([("train", "p", ("1",))], "ranking")) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "completion_a": "['x']", "completion_b": "y"}, "a completion is a list of texts"),
        ({"prompt": '["p"]', "completion": "y"}, "prompt is a list of texts"),
        ({"prompt": "p", "completions": "['x' 'y']"}, "completions is a list as Python or numpy writes it"),
        ({"prompt": [{"role": "user", "content": None}], "completion": "y"}, "a message without content"),
        ({"prompt": "q", "chosen": [{"role": "tool", "content": "x"}], "rejected": "y"}, "role|conversation"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"own.jsonl:1: .*({said})"):
        groups(tmp_path, row)


def test_own_pairs_as_people_have_them(tmp_path: Path) -> None:
    pandas = {"prompt": "p", "completions": "['x', \"it's\"]"}
    assert groups(tmp_path, pandas) == [("p", ("x", "it's"))]
    repeated = {"prompt": "Why so?", "completion_a": "Why so? x", "completion_b": "Why so? y"}
    assert groups(tmp_path, repeated) == [("Why so?", (" x", " y"))]
    flat = {"system": "Be kind.", "question": "Why?", "completion": "x"}
    columns: Any = {"prompt": ["system", "question"]}
    assert groups(tmp_path, flat, columns=columns) == [("Be kind.\n\nWhy?", ("x",))]
    columns = {"prompt": "question", "system": "system"}
    assert groups(tmp_path, flat, columns=columns) == [("Be kind.\n\nWhy?", ("x",))]
    turns = [{"role": "user", "content": "Why?"}]
    assert groups(tmp_path, {"prompt": turns, "completion": "x"}) == [("User: Why?\n\nAssistant:", (" x",))]


def test_unused_columns_of_own_pairs_are_collected(tmp_path: Path) -> None:
    notices = Notices()
    path = file(
        tmp_path, {"prompt": "p", "completion": "x", "topic": 1}, {"prompt": "p", "completion": "y", "id": 2}
    )
    assert len(list(own_groups(path, {}, "c.yaml", notices=notices))) == 2
    assert notices.lines() == ["columns not used: id, topic"]


# Catches: a column that columns names and the file lacks, for which another one of ours is taken.
def test_a_mapped_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    row = {"prompt": "p", "completion_a": "x", "completion_b": "y"}
    with pytest.raises(DataError, match='no column "left"'):
        groups(tmp_path, row, columns={"completion_a": "left"})
    with pytest.raises(DataError, match='no column "left"'):
        gold_items(file(tmp_path, {**row, "choice": "a"}), {"completion_a": "left"}, "pairwise", "c.yaml")


def test_a_verdict_that_is_not_read_is_named(tmp_path: Path) -> None:
    notices = Notices()
    source = file(tmp_path, {"prompt": "p", "completion_a": "x", "completion_b": "y", "choice": "a"})
    assert list(own_groups(source, {}, "c.yaml", notices=notices)) == [("p", ("x", "y"))]
    assert notices.lines() == ["columns not used: choice"]
