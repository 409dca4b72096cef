"""Replay: what is counted, what stops it, and that the side of the better completion carries nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.annotators import Context, Source, load_annotator
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import Annotation, Comparison, preference_from
from tests.helpers.refusals import refusal
from tests.helpers.row_files import write_rows

HH = "\n\nHuman: {}\n\nAssistant:{}"


def replay(dataset: str, seed: int = 0, **options: Any) -> Source:
    context = Context(lambda p, c: None, seed, "configs/x.yaml")
    source = load_annotator("replay", {"dataset": dataset, **options}, context)
    assert isinstance(source, Source)
    return source


def judged(source: Source) -> list[tuple[Comparison, Annotation]]:
    return list(source.judged())


def pairs(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(n)]


def test_preferences_come_back_as_they_went_in(tmp_path: Path) -> None:
    rows = [{**row, "margin": i / 2} for i, row in enumerate(pairs(40))]
    source = replay(write_rows(tmp_path / "a.jsonl", rows))
    back = [preference_from(*pair) for pair in source.judged()]
    assert [(p.prompt, p.chosen, p.rejected, p.margin) for p in back if p] == [tuple(row.values()) for row in rows]
    assert {p.annotator for p in back if p} == {"replay:a.jsonl"}
    assert {c.id for c, _ in judged(source)} == {p.comparison_id for p in back if p}


def test_sides_are_a_coin(tmp_path: Path) -> None:
    # 3.3 standard deviations of Binomial(1000, 1/2). Catches: chosen always A.
    source = write_rows(tmp_path / "a.jsonl", pairs(1000))
    one, two = judged(replay(source)), judged(replay(source, seed=1))
    assert abs(Counter(a.choice for _, a in one)["a"] - 500) <= 52
    assert judged(replay(source)) == one
    assert [c.id for c, _ in one] != [c.id for c, _ in two]


def test_report_counts_everything(tmp_path: Path) -> None:
    good, other = pairs(2)
    rows = [
        good,
        good,
        {**other, "chosen": other["rejected"], "rejected": other["chosen"]},  # somebody disagrees: kept
        {**other, "tie": True},
        {**other, "chosen": ""},
        {**other, "chosen": "x", "rejected": "x"},
        {"prompt": "p", "chosen": "x"},
    ]
    source = replay(write_rows(tmp_path / "a.jsonl", rows), on_bad_row="skip")
    first = judged(source)
    expected = {
        "dataset": str(tmp_path / "a.jsonl"),
        "format": "trl",
        "rows": 7,
        "used": 3,
        "ties": 1,
        "duplicates": 1,
        "skipped": {"chosen equals rejected": 1, "empty chosen": 1, "no rejected": 1},
    }
    assert source.report() == expected
    assert judged(source) == first  # catches: counts and duplicates that survive into a second reading
    assert source.report() == expected
    # A tie and a decision on one pair are two votes. Catches: the second taken for a duplicate.
    assert first[1][0].id == first[2][0].id
    assert first[1][1].choice in ("a", "b")
    assert first[2][1].choice == "tie"


def test_votes_stay_with_the_comparison(tmp_path: Path) -> None:
    rows = [{**pairs(1)[0], "votes_chosen": 3, "votes_rejected": 2}]
    (comparison, for_it), (same, against) = judged(replay(write_rows(tmp_path / "a.jsonl", rows)))
    assert comparison.meta == {"votes_chosen": 3, "votes_rejected": 2}
    assert comparison == same
    assert (for_it.count, against.count) == (3, 2)
    # Mutation caught: the counts given to A and B instead of the chosen and the rejected one.
    p = preference_from(comparison, for_it)
    assert p is not None
    assert (p.chosen, p.margin) == ("good 0", None)


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        ({"votes_chosen": 1, "votes_rejected": 4}, "its own votes outvote it (chosen 1, rejected 4)"),
        ({"votes_chosen": 2, "votes_rejected": 0, "votes_equal": 3}, "outvote it (chosen 2, tie 3)"),
        ({"votes_chosen": 0.8, "votes_rejected": 0.2}, "votes_chosen is 0.8, which is no number of votes"),
        ({"votes_chosen": -1, "votes_rejected": 0}, "votes_chosen is -1"),
        ({"votes_chosen": "four", "votes_rejected": 1}, "votes_chosen is not a number"),
    ],
    ids=str,
)
def test_counts_that_make_no_sense(tmp_path: Path, votes: dict[str, Any], said: str) -> None:
    assert said in refused(replay(write_rows(tmp_path / "a.jsonl", [{**pairs(1)[0], **votes}])))


def counts(rows: list[dict[str, Any]], tmp_path: Path, **options: Any) -> dict[str, int]:
    found = Counter[str]()
    for comparison, vote in judged(replay(write_rows(tmp_path / "a.jsonl", rows), **options)):
        one = preference_from(comparison, vote)
        found[one.chosen if one is not None else vote.choice] += vote.count
    return dict(found)


def test_who_is_not_named_is_a_voter_for_each_row(tmp_path: Path) -> None:
    good = pairs(1)[0]
    bad = {**good, "chosen": good["rejected"], "rejected": good["chosen"]}
    by = [{**row, "worker": i} for i, row in enumerate([good, good, good, good, bad])]
    # A column that is not mapped tells them apart.
    assert counts(by, tmp_path) == {"good 0": 4, "bad 0": 1}
    # Mutation caught: equal rows are copies wherever they are, which makes 4 to 1 into 1 to 1.
    assert counts([good, bad, good, good, good], tmp_path) == {"good 0": 4, "bad 0": 1}
    # Once a set has shown that it holds votes, it does so everywhere.
    other = {"prompt": "q", "chosen": "x", "rejected": "y"}
    assert counts([other, other, good, good, bad], tmp_path) == {"x": 2, "good 0": 2, "bad 0": 1}
    # Nothing says that these are more than copies.
    assert counts([good, good, good, other, other], tmp_path) == {"good 0": 1, "x": 1}
    assert counts([good, good, {**other, "tie": True}, other], tmp_path) == {"good 0": 1, "x": 1, "tie": 1}


def test_column_map_over_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question,good,bad,draw\nq1,"a, b",c,false\nq2,d,e,TRUE\n')
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "tie": "draw"}
    back = judged(replay(str(path), columns=columns, annotator="crowd"))
    assert {back[0][0].completion_a, back[0][0].completion_b} == {"a, b", "c"}
    assert back[1][1].choice == "tie"
    assert back[0][1].annotator == "crowd"


def test_one_of_our_versions(tmp_path: Path) -> None:
    data = tmp_path / "reviews" / "versions" / "v000001" / "data"
    data.mkdir(parents=True)
    extra = {"annotator": "oracle", "comparison_id": "x", "margin": None}
    for split, rows in (("train", pairs(4)[1:]), ("test", pairs(1))):
        table = pa.Table.from_pylist([row | extra for row in rows])
        pq.write_table(table, data / f"{split}-00000-of-00001.parquet")
    (data.parent / "manifest.json").write_text("{}")
    assert [c.prompt for c, _ in judged(replay(str(data.parent)))] == ["p1", "p2", "p3"]
    assert [c.prompt for c, _ in judged(replay(str(data.parent), split="test"))] == ["p0"]
    assert replay(str(data.parent)).name == "replay:v000001"


def test_limit_is_of_usable_rows(tmp_path: Path) -> None:
    rows = pairs(5)
    source = replay(write_rows(tmp_path / "a.jsonl", [rows[0], rows[0], *rows[1:]]), limit=2)
    assert [c.prompt for c, _ in judged(source)] == ["p0", "p1"]
    assert source.report()["duplicates"] == 1


def hh_rows() -> list[dict[str, Any]]:
    return [
        {"chosen": HH.format("hi", " hello"), "rejected": HH.format("hi", " go away")},
        {"chosen": HH.format("hi", " hello"), "rejected": HH.format("ho", " hello")},
        {"chosen": HH.format("", " hello"), "rejected": HH.format("", " go")},
    ]


def test_hh_reports_its_odd_rows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", hh_rows())
    source = replay(path)
    assert [c.prompt for c, _ in judged(source)] == [HH.format("hi", "")]
    assert source.report()["skipped"] == {"empty turn": 1, "prompts differ": 1}
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*prompts differ"):
        judged(replay(path, on_bad_row="error"))


# Several people, several completions


def studio(path: Path, *tasks: dict[str, str]) -> str:
    """Tasks whose answers are {somebody: side}, as Label Studio exports them."""
    rows = []
    for i, sides in enumerate(tasks):
        by = [
            {
                "completed_by": {"id": who, "email": f"{who}@example.org"},
                "result": [{"from_name": "pw", "to_name": "answer1,answer2", "value": {"selected": side}}],
            }
            for who, side in sides.items()
        ]
        rows.append({"data": {"prompt": f"p{i}", "answer1": "one", "answer2": "two"}, "annotations": by})
    path.write_text(json.dumps(rows))
    return str(path)


def test_every_person_s_vote_is_there_and_no_name(tmp_path: Path) -> None:
    path = studio(tmp_path / "a.json", {"zoe": "left", "ben": "left", "eve": "right"}, {"zoe": "right"}, {})
    source = replay(path)
    votes = judged(source)
    # Mutation caught: duplicates told by the texts alone, which loses ben's vote.
    assert len(votes) == 4
    assert len({c.id for c, _ in votes}) == 2
    assert len({(c.id, a.annotator) for c, a in votes}) == 4
    chosen = [(p.chosen, p.annotator) for p in (preference_from(*v) for v in votes) if p]
    assert [c for c, _ in chosen] == ["one", "one", "two", "two"]
    assert chosen[0][1] == chosen[3][1]
    assert all(a.annotator.startswith("p_") and len(a.annotator) == 12 for _, a in votes)
    assert "zoe" not in json.dumps([vars(a) for _, a in votes])
    report = source.report()
    assert (report["rows"], report["used"], report["people"]) == (3, 4, 3)
    # Nobody's answer is no error, though errors stop by default.
    assert report["skipped"] == {"nobody has answered": 1}


def test_the_same_person_twice_is_a_duplicate_unless_the_choice_differs(tmp_path: Path) -> None:
    source = replay(studio(tmp_path / "a.json", {"ann": "left"}))
    once = json.loads((tmp_path / "a.json").read_text())
    twice = once[0]["annotations"] * 2
    other = json.loads(json.dumps(twice[0]).replace("left", "right"))
    (tmp_path / "a.json").write_text(json.dumps([{**once[0], "annotations": [*twice, other]}]))
    assert len(judged(source)) == 2
    assert source.report()["duplicates"] == 1


def test_scores_stay_with_the_side_they_were_given_to(tmp_path: Path) -> None:
    row = {"instruction": "Why?", "completions": [{"response": f"r{i}", "overall_score": i} for i in range(6)]}
    votes = judged(replay(write_rows(tmp_path / "a.jsonl", [row])))
    assert len(votes) == 15
    # Mutation caught: score_a is the chosen one's; half of the chosen ones are B.
    for comparison, a in votes:
        assert comparison.completion_a == f" r{a.score_a:.0f}"
        assert comparison.completion_b == f" r{a.score_b:.0f}"
        assert a.margin is None
    assert {a.choice for _, a in votes} == {"a", "b"}
    (one,) = judged(replay(write_rows(tmp_path / "a.jsonl", [row]), pairs="best_worst"))
    assert {one[0].completion_a, one[0].completion_b} == {" r0", " r5"}


def test_both_bad_and_ties_of_the_arena(tmp_path: Path) -> None:
    def battle(i: int, winner: str) -> dict[str, Any]:
        sides = {
            f"conversation_{s}": [{"role": "user", "content": str(i)}, {"role": "assistant", "content": s}]
            for s in "ab"
        }
        return {**sides, "winner": winner, "judge": "u1", "model_a": "x", "model_b": "y"}

    rows = [battle(i, w) for i, w in enumerate(("tie", "tie (bothbad)", "model_b", "model_c"))]
    source = replay(write_rows(tmp_path / "a.jsonl", rows))
    assert Counter(a.choice for _, a in judged(source)) in (
        {"tie": 1, "both_bad": 1, "a": 1},
        {"tie": 1, "both_bad": 1, "b": 1},
    )
    # One person, two verdicts on one comparison: both are there.
    same = [battle(0, "tie"), battle(0, "tie (bothbad)"), battle(0, "tie")]
    assert len(judged(replay(write_rows(tmp_path / "b.jsonl", same)))) == 2
    # A public set: bad rows are counted.
    assert source.report()["skipped"] == {"unknown winner": 1}
    assert source.report()["ties"] == 1
    with pytest.raises(DataError, match=r"a\.jsonl:4: .*format arena: unknown winner"):
        judged(replay(write_rows(tmp_path / "a.jsonl", rows), on_bad_row="error"))


def test_a_filter_never_stops(tmp_path: Path) -> None:
    post = {"history": "p", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}
    rows = [{**post, "score_ratio": 1.5}, {**post, "score_ratio": 2.5, "history": "q"}]
    source = replay(write_rows(tmp_path / "a.jsonl", rows), min_score_ratio=2, on_bad_row="error")
    assert len(judged(source)) == 1
    assert source.report()["skipped"] == {"score_ratio below 2": 1}


def test_unpaired_rows_become_pairs(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": c, "label": c == "a"} for c in "abc"]
    rows.append({"prompt": "q", "completion": "x", "label": True})
    source = replay(write_rows(tmp_path / "a.jsonl", rows))
    back = [preference_from(*pair) for pair in judged(source)]
    assert [(p.prompt, p.chosen, p.rejected) for p in back if p] == [("p", "a", "b"), ("p", "a", "c")]
    assert source.report()["rows"] == 4
    assert source.report()["skipped"] == {"all opinions on the prompt are the same": 1}


def test_names_in_a_column_become_ids(tmp_path: Path) -> None:
    rows = [{**row, "annotator": "oracle", "worker": f"Worker {i % 2}"} for i, row in enumerate(pairs(4))]
    path = write_rows(tmp_path / "a.jsonl", rows)
    # A column that happens to be called so is not read, as our own versions have one.
    assert {a.annotator for _, a in judged(replay(path))} == {"replay:a.jsonl"}
    people = {a.annotator for _, a in judged(replay(path, columns={"annotator": "worker"}))}
    assert len(people) == 2
    assert all(p.startswith("p_") for p in people)
    (tmp_path / "b.jsonl").write_text((tmp_path / "a.jsonl").read_text())
    other = {a.annotator for _, a in judged(replay(str(tmp_path / "b.jsonl"), columns={"annotator": "worker"}))}
    # Mutation caught: no salt, so that people could be followed from set to set.
    assert not people & other


# Bad input


def refused(source: Source) -> str:
    return refusal(DataError, judged, source)


def test_the_first_bad_row_stops_by_default(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [*pairs(2), {"prompt": "p", "chosen": "", "rejected": "x"}])
    said = refused(replay(path))
    assert said.startswith(f"{path}:3: ")
    assert "empty chosen" in said
    assert "on_bad_row: skip" in said


def test_missing_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"question": "q", "chosen": "a", "rejected": "b"}])
    said = refused(replay(path))
    assert said.startswith(f"{path}:1: ")
    assert "question, chosen, rejected" in said
    assert "columns: {prompt: question}" in said
    said = refused(replay(path, columns={"prompt": "questions"}))
    assert 'no column "questions"' in said


def test_missing_file(tmp_path: Path) -> None:
    said = refused(replay(str(tmp_path / "nothing.jsonl")))
    assert said.startswith("configs/x.yaml: collect.annotator_args.dataset: no file")


def test_nothing_usable(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "a"}] * 3)
    said = refused(replay(path, on_bad_row="skip"))
    assert "none of 3 rows is usable as trl: chosen equals rejected (3)" in said


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"columns": {"promt": "q"}}, "promt.*none of ours: prompt, chosen"),
        ({"limit": 0}, "limit = 0"),
        ({"format": "csv"}, "format = 'csv' should be one of auto, trl"),
        ({"on_bad_row": "ignore"}, "on_bad_row"),
    ],
    ids=str,
)
def test_refused_options(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        replay("a.jsonl", **options)


def test_what_was_done_to_rows_is_reported(tmp_path: Path) -> None:
    rows = [{"id": i, "prompt": f"Why {i}?", "chosen": f"Why {i}? x", "rejected": f"Why {i}? y"} for i in range(3)]
    source = replay(write_rows(tmp_path / "a.jsonl", rows))
    for _ in range(2):  # catches: notices that survive into a second reading
        assert {c.completion_a for c, _ in judged(source)} <= {" x", " y"}
        assert source.report()["notices"] == [
            "columns not used: id",
            "the prompt was cut off the completions, which repeated it: 3 rows",
        ]


def test_columns_can_be_joined_in_a_config(tmp_path: Path) -> None:
    rows = [{"context": "Text.", "question": f"Why {i}?", "chosen": "x", "rejected": "y"} for i in range(2)]
    source = replay(write_rows(tmp_path / "a.jsonl", rows), columns={"prompt": ["context", "question"]})
    assert [c.prompt for c, _ in judged(source)] == ["Text.\n\nWhy 0?", "Text.\n\nWhy 1?"]
    assert "notices" not in source.report()
    for columns in ({"chosen": ["context", "question"]}, {"prompt": []}):
        with pytest.raises(ConfigError, match="only prompt can be joined"):
            replay("a.jsonl", columns=columns)


# Whose side, and what was assumed


def test_options_of_verdicts_reach_the_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "x": "good", "y": "bad", "best": i % 3} for i in range(6)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    columns = {"completion_a": "x", "completion_b": "y", "choice": "best"}
    said = refused(replay(path, columns=columns))
    assert "the value is 0; accepted are x, y; a/b, left/right" in said
    assert "choices: {0: a, 1: b, 2: tie}" in said
    # Where such rows are left out, the end still shows what a value was.
    assert "unknown best (6); the value is 0; accepted" in refused(
        replay(path, columns=columns, on_bad_row="skip")
    )
    # As YAML reads it; and one meaning leaves rows out without stopping.
    source = replay(path, columns=columns, choices={0: "a", 1: "b", 2: "skip"})
    won = [p.chosen for p in (preference_from(*pair) for pair in judged(source)) if p]
    assert won == ["good", "bad", "good", "bad"]
    assert source.report()["skipped"] == {'best is "2", which choices leaves out': 2}


def test_a_coding_that_is_not_clear_stops_even_where_rows_may_be_skipped(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "r_1": "good", "r_2": "bad", "best": best} for i, best in enumerate((1, 1, 0))]
    columns = {"completion_a": "r_1", "completion_b": "r_2", "choice": "best"}
    path = write_rows(tmp_path / "a.jsonl", rows)
    # 0 says that 1 was the second one all along. Mutation caught: the row is skipped, and the others are inverted.
    said = refused(replay(path, columns=columns, on_bad_row="skip"))
    assert said.startswith(f"{path}:3: best is 0, which is no number of the columns")


def test_a_label_studio_project_s_configuration(tmp_path: Path) -> None:
    click = {"from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": "left"}}
    task = {"data": {"prompt": "p", "answer1": "one", "answer2": "two"}, "annotations": [{"result": [click]}]}
    (tmp_path / "a.json").write_text(json.dumps([task, {**task, "annotations": [{"result": []}]}]))
    source = replay(str(tmp_path / "a.json"))
    ((comparison, a),) = judged(source)
    assert {"a": comparison.completion_a, "b": comparison.completion_b}[a.choice] == "one"
    assert source.report()["skipped"] == {"submitted without a choice": 1}
    left, none = source.report()["notices"]
    assert left.startswith('left is "answer1" and right is "answer2"')
    assert "no_choice: tie" in none
    texts = "".join(f'<Text name="t{i}" value="$answer{i}"/>' for i in (1, 2))
    (tmp_path / "p.xml").write_text(f'<View>{texts}<Pairwise name="pw" toName="t2,t1"/></View>')
    source = replay(str(tmp_path / "a.json"), label_config=str(tmp_path / "p.xml"), no_choice="tie")
    (comparison, a), (_, tie) = judged(source)
    assert {"a": comparison.completion_a, "b": comparison.completion_b}[a.choice] == "two"
    assert tie.choice == "tie"
    assert "notices" not in source.report()
    assert "cannot be read" in refused(replay(str(tmp_path / "a.json"), label_config="no.xml"))


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"choices": {0: "A"}}, "choices"),
        ({"choices": "a"}, "choices = 'a' should be a mapping"),
        ({"drafts": "yes"}, "drafts = 'yes' should be one of refuse, count"),
        ({"no_choice": True}, "no_choice"),
    ],
    ids=str,
)
def test_refused_options_of_verdicts(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        replay("a.jsonl", **options)


CELLS = [
    *((cell, True) for cell in ("yes", "true", True, 1, 1.0, "v2", "2", "2024-05", "v1.3-b", "a" * 64)),
    *((cell, False) for cell in (None, "", "no", "false", False, 0, "0.0", float("nan"))),
]


# Mutation caught: any text that is not empty read as a yes.
def test_rows_without_consent_are_left_out(tmp_path: Path) -> None:
    for cell, agreed in CELLS:
        rows = [
            {"prompt": "p", "chosen": "a", "rejected": "b", "agreed": cell},
            {"prompt": "q", "chosen": "a", "rejected": "b", "agreed": "yes"},
        ]
        source = replay(write_rows(tmp_path / "a.jsonl", rows), columns={"consent": "agreed"})
        assert len(judged(source)) == 1 + agreed, cell
        assert source.report()["skipped"] == ({} if agreed else {"without consent": 1})
        assert source.consent.startswith("stated for all rows: those whose column agreed says so")


@pytest.mark.parametrize("cell", ["refused", "withdrawn", "n/a", "maybe", -1, "Ann"])
def test_what_is_neither_yes_nor_no_is_refused(cell: object, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b", "ok": cell}])
    assert "consent is not true or false" in refused(replay(path, columns={"consent": "ok"}))


def test_consent_is_known_where_somebody_says_so(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    assert replay(path, consent="asked  on paper").consent == "stated for all rows: asked on paper"
    assert replay(path).consent == "unknown: imported, and nobody has said what people agreed to"
    with pytest.raises(ConfigError, match="consent is empty"):
        replay(path, consent=" ")


def test_consent_may_be_a_field_of_a_labelling_tool(tmp_path: Path) -> None:
    rows = [
        {
            "fields": {"prompt": "p", "response_1": f"a{i}", "response_2": "b", "ok": ok},
            "responses": {"better": [{"value": "response_1", "user_id": "u"}]},
            "status": "completed",
        }
        for i, ok in enumerate(("yes", "no"))
    ]
    source = replay(write_rows(tmp_path / "a.jsonl", rows), columns={"consent": "ok"}, drafts="count")
    assert len(judged(source)) == 1
    assert source.report()["skipped"] == {"without consent": 1}
