"""Named sets: what is read of them, what is left out and told, and that a score does not depend on the way in."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import VOTES, Comparison, row_id
from pipeline.labelling.judgements import Judgements
from pipeline.scoring import pair_sets
from pipeline.scoring.foreign_reward_models import AdapterScorer, ClassifierScorer
from pipeline.scoring.pair_sets import PairSet, parse_sets, score_pairs, score_unit, vote_shares
from pipeline.scoring.reward_adapter import Scoring
from pipeline.scoring.reward_functions import FunctionScorer
from pipeline.store.store import Store
from tests.helpers.row_files import write_rows

read_pairs = partial(pair_sets.read_pairs, judgements=Judgements)
BENCH = {"chosen_model": "x", "rejected_model": "y"}


def file_of(path: Path, *rows: dict[str, Any]) -> str:
    return write_rows(path, rows)


def pair(n: int, **other: Any) -> dict[str, Any]:
    return {"prompt": f"q{n}", "chosen": f"good{n}", "rejected": f"bad{n}", **other}


# Catches: only one way round of a training pair looked for, ties among the pairs, a reason not counted.
def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    rows = [pair(1), pair(2), pair(3), pair(4, tie=True), pair(5, chosen="bad5"), pair(6, kind="long")]
    known = {row_id("q1", "good1", "bad1"), row_id("q2", "bad2", "good2")}
    found = read_pairs(PairSet(file_of(tmp_path / "a.jsonl", *rows), slice=None), "c.yaml", known)
    assert [r["prompt"] for r in found.rows] == ["q3", "q6"]
    assert found.report == {
        "dataset": str(tmp_path / "a.jsonl"),
        "format": "trl",
        "rows": 6,
        "pairs": 2,
        "slice": None,
        "left_out": {"trained on": 2, "a tie": 1, "chosen equals rejected": 1},
        "notices": ["columns not used: kind"],
    }


def turned(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


# Catches: every row a pair of its own, a share of rows instead of votes, an even split decided by the first row.
def test_rows_on_one_comparison_are_votes(tmp_path: Path) -> None:
    by = [{**(pair(1) if i else turned(pair(1))), "worker": f"w{i}"} for i in range(5)]
    even = [{**pair(2), "worker": "w0"}, {**turned(pair(2)), "worker": "w1"}]
    more = [{**pair(3), "worker": "w0"}, {**pair(3), "worker": "w0"}, pair(4, tie=True), pair(4, worker="w1")]
    for columns in ({}, {"annotator": "worker"}):
        rows = [*more, *by, *even]
        options = PairSet(file_of(tmp_path / "a.jsonl", *[{"worker": "", **r} for r in rows]), columns=columns)
        found = read_pairs(options, "c.yaml")
        assert [(r["chosen"], r["share"], r["item"]) for r in found.rows] == [
            ("good3", None, "1"),
            ("good1", 0.8, "5"),
        ]
        assert found.report["left_out"] == {"an even split of votes": 2, "a duplicate": 1}
        assert (found.report["votes"], found.report["pairs"], found.report["split_votes"]) == (10, 2, 2)
        assert found.report.get("people") == (5 if columns else None)
    shared = read_pairs(PairSet(options.dataset, margin="share"), "c.yaml").rows
    assert [r["margin"] for r in shared] == [1.0, pytest.approx(0.6)]


def test_votes_count_within_a_slice(tmp_path: Path) -> None:
    rows = [pair(1, who="x"), turned(pair(1, who="y")), pair(1, who="x", more=2), turned(pair(2, who="y"))]
    found = read_pairs(PairSet(file_of(tmp_path / "a.jsonl", *rows), slice="who"), "c.yaml").rows
    assert [(r["slice"], r["chosen"]) for r in found] == [("x", "good1"), ("y", "bad1"), ("y", "bad2")]


# Catches: the slice read from the renamed row, votes for a tie left out of the share, a single vote taken as sure.
def test_slice_margin_and_votes(tmp_path: Path) -> None:
    rows = [
        pair(1, kind="a", margin=2, votes_chosen=3, votes_rejected=1, votes_equal=1),
        pair(2, kind=7, margin=None, votes_chosen=1, votes_rejected=0, votes_equal=0),
        pair(3, kind=None, margin=1, votes_chosen=None),
    ]
    rows = [{("better" if k == "chosen" else k): v for k, v in row.items()} for row in rows]
    options = PairSet(file_of(tmp_path / "a.jsonl", *rows), columns={"chosen": "better"}, slice="kind")
    found = read_pairs(options, "c.yaml").rows
    assert [r["slice"] for r in found] == ["a", "7", None]
    assert [r["share"] for r in found] == [0.6, None, None]
    assert [r["margin"] for r in found] == [2, None, 1]
    assert [r["item"] for r in found] == ["1", "2", "3"]


def test_reward_bench_is_known_and_sliced_by_subset(tmp_path: Path) -> None:
    two = {"prompt": "Why?", "chosen": ["Yes"], "rejected": ["No", "Maybe"], "num_correct": 1, "subset": "Focus"}
    rows = [pair(1, subset="hep-go", id=3, **BENCH), pair(2, subset="math-prm", id=4, **BENCH)]
    first = read_pairs(PairSet(file_of(tmp_path / "1.jsonl", *rows)), "c.yaml")
    assert (first.report["format"], first.report["slice"]) == ("rewardbench", "subset")
    assert tuple(first.rows[0][k] for k in ("prompt", "chosen", "slice")) == (
        "User: q1\n\nAssistant:",
        " good1",
        "hep-go",
    )
    second = read_pairs(PairSet(file_of(tmp_path / "2.jsonl", two, two)), "c.yaml").rows
    assert [(r["rejected"], r["item"], r["slice"]) for r in second] == [
        (rejected, item, "Focus") for item in "12" for rejected in (" No", " Maybe")
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"slice": "kinds"}, 'no column "kinds".*Set slice'), ({"columns": {"prompt": "x"}}, 'no column "x"')],
)
def test_a_column_that_is_not_there(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_pairs(PairSet(file_of(tmp_path / "a.jsonl", pair(1, kind="a")), **options), "c.yaml")


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 rows .* is a usable pair: a tie \(2\)"):
        read_pairs(PairSet(file_of(tmp_path / "a.jsonl", pair(1, tie=1), pair(2, tie=1))), "c.yaml: here")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a b": "f.jsonl"}, "no name for a set"),
        ({"default": "f.jsonl"}, "no name for a set"),
        ({"data": "f.jsonl"}, "no name for a set"),
        ({"a": {"format": "trl"}}, "names no dataset"),
        ({"a": 3}, "names no dataset"),
        ({"a": {"dataset": "f", "fromat": "trl"}}, 'unknown key "reward.test_sets.a.fromat".*a.format'),
        ({"a": {"dataset": "f", "limit": 0}}, "limit = 0"),
        ({"a": {"dataset": "f", "columns": {"chosn": "x"}}}, 'names "chosn"'),
    ],
)
def test_mistakes_in_the_config(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_sets(given, "c.yaml")


def test_a_set_is_a_path_or_more() -> None:
    found = parse_sets({"a": "f.jsonl", "b": {"dataset": "g", "slice": "kind"}}, "c.yaml")
    assert found == {"a": PairSet("f.jsonl"), "b": PairSet("g", slice="kind")}


class Recorder:
    """Stands in for a model: the score is the length of what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, str, str]] = []

    def __call__(self, samples: Any) -> torch.Tensor:
        self.seen += zip(samples.as_given, samples.completions, samples.texts, strict=True)
        return torch.tensor([float(len(text)) for text in samples.texts])


def test_texts_reach_a_scorer_as_they_are() -> None:
    scorer = Recorder()
    chosen, rejected = score_pairs(scorer, [pair(1), pair(2, chosen="")])
    assert (chosen, rejected) == ([7.0, 2.0], [6.0, 6.0])
    assert scorer.seen[1] == ("q2", "", "q2")

    def by_length(prompts: list[str], completions: list[str]) -> list[int]:
        return [len(p + c) for p, c in zip(prompts, completions, strict=True)]

    function = FunctionScorer(by_length, "f")
    assert score_pairs(function, [pair(1), pair(2, chosen="")]) == (chosen, rejected)


# Catches: normalised scores called log-odds, so that the calibration is that of another model.
def test_an_adapters_scores_are_raw_again() -> None:
    class Role(Recorder):
        scoring = Scoring("eos", 2.0, 0.5, 10)

        def score(self, prompt_ids: Any, completion_ids: Any) -> torch.Tensor:
            return (torch.tensor([3.0] * len(prompt_ids)) - 2.0) / 0.5

    class Tokenizer:
        def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
            return {"input_ids": [[1] for _ in texts]}

        bos_token_id, eos_token_id = 1, 2

        def __len__(self) -> int:
            return 5

    scorer = AdapterScorer(Role(), Tokenizer())  # type: ignore[arg-type]
    assert score_pairs(scorer, [pair(1)]) == ([3.0], [3.0])
    assert score_unit(scorer) == 0.5
    assert score_unit(Recorder()) == 1.0


# Catches: the blank before an answer kept inside a message, a plain prompt made into a conversation.
def test_a_classifier_with_a_chat_template_reads_conversations() -> None:
    class Chat(ClassifierScorer):
        def __init__(self, template: str | None) -> None:
            self.classifier: Any = type("C", (), {"tokenizer": type("T", (), {"chat_template": template})})
            self.recorder = Recorder()

        def __call__(self, samples: Any) -> torch.Tensor:
            return self.recorder(samples)

    row = pair(1, prompt="User: Why?\n\nAssistant:", chosen=" Yes", rejected=" No")
    with_template, without = Chat("{{ messages }}"), Chat(None)
    score_pairs(with_template, [row, pair(2)])
    assert [seen[:2] for seen in with_template.recorder.seen[:2]] == [
        ([{"role": "user", "content": "Why?"}], "Yes"),
        ("q2", "good2"),
    ]
    score_pairs(without, [row])
    assert without.recorder.seen[0][:2] == ("User: Why?\n\nAssistant:", " Yes")


PEOPLE = {**VOTES, "round": "int64", "gold": "string"}
OUTCOMES = {
    "comparison_id": "string",
    "choice": "string",
    "share": "double",
    "votes": "int64",
    "confidence": "double",
}


def preferences(tmp_path: Path, votes: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> Any:
    store = Store(tmp_path)
    with store.draft("p-preferences", kind="preferences", stage="collect") as draft:
        rows = [{**dict.fromkeys(PEOPLE), "id": str(i), **vote} for i, vote in enumerate(votes)]
        draft.write_rows("test", rows, "votes", schema=PEOPLE)
        if outcomes:
            draft.write_rows("test", outcomes, "outcomes", schema=OUTCOMES)
    return draft.version


# Catches: the loser's share, a repeat or a known answer counted, one vote taken as unanimous.
def test_shares_of_votes(tmp_path: Path) -> None:
    ids = [Comparison(f"q{n}", f"good{n}", f"bad{n}").id for n in range(3)]
    swapped = Comparison("q3", "bad3", "good3").id
    said = [
        (ids[0], "a"),
        (ids[0], "a"),
        (ids[0], "b"),
        (ids[0], "tie"),
        (ids[1], "a"),
        (swapped, "b"),
        (swapped, "b"),
    ]
    votes = [{"comparison_id": c, "choice": choice} for c, choice in said]
    votes += [{"comparison_id": ids[0], "choice": "b", "round": 1}, {"comparison_id": ids[0], "choice": None}]
    votes += [{"comparison_id": ids[0], "choice": "b", "gold": "a"}, {"comparison_id": ids[2], "choice": "b"}] * 2
    version = preferences(tmp_path, votes, [])
    rows = [pair(n) for n in range(4)]
    assert vote_shares(version, "test", rows) == [0.5, None, None, 1.0]
    reversed_row = {"prompt": "q0", "chosen": "bad0", "rejected": "good0"}
    assert vote_shares(version, "test", [reversed_row]) == [0.25]
    assert vote_shares(version, "train", rows) == [None] * 4


def test_a_count_is_so_many_votes(tmp_path: Path) -> None:
    id = Comparison("q0", "good0", "bad0").id
    votes = [{"comparison_id": id, "choice": c, "count": n} for c, n in (("a", 4), ("b", 1))]
    assert vote_shares(preferences(tmp_path, votes, []), "test", [pair(0)]) == [0.8]


def test_a_posterior_goes_before_a_share(tmp_path: Path) -> None:
    a, b = (Comparison(f"q{n}", f"good{n}", f"bad{n}").id for n in (0, 1))
    votes = [{"comparison_id": c, "choice": "a"} for c in (a, a, b, b)]
    base = {"choice": "a", "share": 1.0, "votes": 2}
    outcomes = [{**base, "comparison_id": a, "confidence": 0.97}, {**base, "comparison_id": b, "confidence": None}]
    assert vote_shares(preferences(tmp_path, votes, outcomes), "test", [pair(0), pair(1)]) == [0.97, 1.0]


def test_likes_and_dislikes_make_pairs_in_a_set_too(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": said, "label": said == "good"} for said in ("good", "bad", "worse")]
    options = PairSet(file_of(tmp_path / "a.jsonl", *rows))
    found = read_pairs(options, "c.yaml")
    assert sorted((r["chosen"], r["rejected"]) for r in found.rows) == [("good", "bad"), ("good", "worse")]
    assert (found.report["rows"], found.report["pairs"]) == (3, 2)
    sliced = PairSet(options.dataset, slice="label")
    with pytest.raises(DataError, match="slice does not go with format unpaired"):
        read_pairs(sliced, "c.yaml")
