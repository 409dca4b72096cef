"""Rows of labelling tools: which tool's they are, and what our own label page exports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import Format, JudgedRow, Reading, Unusable, detect_format, read_judged
from tests.helpers.read_rows import read, short

FIELDS = {"prompt": "Größe?", "response1": "Yes", "response2": "No"}
RECORDS: dict[Format, list[dict[str, Any]]] = {
    "argilla": [
        {"fields": FIELDS, "responses": {"preference": []}, "status": "pending"},
        {"fields": FIELDS, "responses": [], "external_id": None},
        {**FIELDS, "q.responses": None, "q.responses.users": None, "q.responses.status": None},
        {**FIELDS, "q": {"user_id": [], "value": [], "status": []}, "external_id": None},
    ],
    "label_studio": [
        {"id": 1, "data": FIELDS, "annotations": []},
        {**FIELDS, "id": 1, "annotator": None, "annotation_id": None, "lead_time": None},
    ],
}


@pytest.mark.parametrize("format", RECORDS)
def test_tools_are_told_by_their_records(format: Format) -> None:
    for row in RECORDS[format]:
        assert detect_format(row, "x") == format
        assert detect_format(row, "x", format, {"prompt": "prompt", "choice": "pw"}) == format
        with pytest.raises(DataError, match='no column "promt"'):
            detect_format(row, "x", columns={"prompt": "promt"})
        assert read(row) == [Unusable("nobody has answered", broken=False)]
    with pytest.raises(DataError, match=f'no column ".*export of {format}'):
        detect_format({"prompt": "p"}, "x", format)
    (found,) = read({"fields": 1, "data": 1, "responses": {}, "annotations": []}, format)
    assert isinstance(found, Unusable)
    assert found.broken


# Our own label page


def answer(choice: str, mode: str = "pairwise", completions: Any = ("a", "b"), **other: Any) -> dict[str, Any]:
    row = {
        "item": "x",
        "mode": mode,
        "split": "train",
        "gold": None,
        "prompt": "p",
        "completions": list(completions),
    }
    return {**row, "annotator": "p_0123456789", "round": 0, "choice": choice, "note": "n", "consent": "s", **other}


def page(*rows: dict[str, Any], **how: Any) -> list[JudgedRow | Unusable]:
    assert detect_format(rows[0], "x") == "label_page"
    return [f for _, f in read_judged([("x", row) for row in rows], "label_page", Reading(**how))]


@pytest.mark.parametrize(("choice", "counts"), [("a", (4, 1, 0)), ("b", (1, 4, 0)), ("tie", (1, 1, 3))])
def test_a_table_may_count_votes(choice: str, counts: tuple[int, int, int]) -> None:
    row = {"prompt": "q", "completion_a": "one", "completion_b": "two", "choice": choice}
    row |= dict(zip(("votes_a", "votes_b", "votes_tie"), map(float, counts), strict=True))
    ((_, found),) = read_judged([("x", {**row, "votes_total": 9})], "choices", Reading())
    assert isinstance(found, JudgedRow)
    comparison, said = found.comparison(0)
    by_text = {"a": comparison.completion_a, "b": comparison.completion_b, "tie": "tie"}
    ballots = {by_text[c]: n for c, n in found.ballots(comparison, said)}
    # Mutation caught: votes_a given to whichever was chosen.
    assert ballots == {k: n for k, n in zip(("one", "two", "tie"), counts, strict=True) if n}


def test_label_page_pairs_and_rankings() -> None:
    rows = [answer(choice) for choice in ("a", "b", "tie", "both_bad")]
    assert short(page(*rows), people=True) == [f"{s} p_0123456789" for s in ("a > b", "b > a", "a = b", "a x b")]
    ranking = answer("2>0=1", "ranking", "abc")
    assert short(page(ranking)) == ["a = b", "c > a", "c > b"]
    assert short(page(answer("2>0", "ranking", "abc"))) == ["unknown choice"]
    assert short(page(answer("like"))) == ["unknown choice"]


def test_label_page_tests_of_people_are_no_preferences() -> None:
    found = page(answer("a", gold="a"), answer("a", round=1), answer("a", round="0", gold=""))
    assert [f.broken for f in found if isinstance(f, Unusable)] == [False, False]
    assert short(found)[2] == "a > b"


def test_thumbs_on_one_completion_are_votes() -> None:
    people = [f"p_{i:010d}" for i in range(5)]

    def thumbs(completion: str, *likes: int) -> list[dict[str, Any]]:
        return [
            answer("like" if like else "dislike", "thumbs", completion, annotator=who)
            for who, like in zip(people, likes, strict=False)
        ]

    # Mutation caught: whatever anybody liked is above whatever anybody disliked, b above a and c too.
    rows = [*thumbs("a", 1, 1, 0, 1, 1), *thumbs("b", 0, 0, 0, 1, 0), *thumbs("c", 1, 0), *thumbs("d", 0)]
    for given in (rows, rows[::-1]):
        assert sorted(short(page(*given))) == ["a > b", "a > d", "as many like it as dislike it"]


def test_label_page_thumbs_and_ratings() -> None:
    thumbs = [answer("like", "thumbs", "a"), answer("dislike", "thumbs", "b"), answer("like", "thumbs", "c")]
    assert short(page(*thumbs), people=True) == ["a > b p_0123456789", "c > b p_0123456789"]
    thumbs[1]["annotator"] = "p_aaaaaaaaaa"
    # Mutation caught: a pair of two people's opinions is the first one's.
    assert short(page(*thumbs), people=True) == ["a > b None", "c > b None"]
    mine = [answer("5", "rating", "a"), answer("2", "rating", "b"), answer("2", "rating", "c")]
    theirs = [answer("4", "rating", "d", annotator="p_aaaaaaaaaa")]
    # By hand: one person's ratings are compared, the two 2s are equal, another person's 4 stands alone.
    assert sorted(short(page(*mine, *theirs))) == ["a > b", "a > c", "all opinions on the prompt are the same"]
    assert short(page(answer("6", "rating", "a"))) == ["unknown choice"]


def test_label_page_as_csv() -> None:
    row = answer("b", completions="", prompt="'=2+2") | {"completions": json.dumps(["ä", "=x"])}
    (found,) = page(row)
    assert isinstance(found, JudgedRow)
    assert (found.prompt, found.chosen, found.rejected) == ("=2+2", "=x", "ä")
    assert short(page({**row, "completions": "x"})) == ["completions is not JSON"]
    (verbatim,) = page(answer("a", prompt="'=2+2"))
    assert isinstance(verbatim, JudgedRow)
    assert verbatim.prompt == "'=2+2"
