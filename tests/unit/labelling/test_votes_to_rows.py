"""Rows that follow from votes, by hand; what never makes a row; and the way back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from pipeline.base.records import PEOPLES_VOTES, Comparison, row_id
from pipeline.base.records import VOTES as COLLECT_VOTES
from pipeline.labelling import vote_models
from pipeline.labelling.items import Item, Mode
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.events import Event
from pipeline.labelling.row_schemas import EDITS, OUTCOMES, UNPAIRED
from pipeline.labelling.rows_to_votes import adjudications_from_rows, edits_from_rows, votes_from_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import Labelled, Labelling, labelled
from tests.unit.labelling.helpers import current_vote

SEQ = count(1)
PAIR = Item("prompt", ("x", "y"))


def vote(of: Item, who: str, choice: str, **more: Any) -> Vote:
    return current_vote(of, who, choice, seq=next(SEQ), **more)


def event(kind: Any, of: Item, who: str, **payload: Any) -> Event:
    return Event(next(SEQ), "k" * 8, kind, who, of.id, payload, 700, "2026-01-02", 0)


def skip(of: Item, who: str) -> Event:
    return event("skip", of, who, reason="I cannot tell", note="both are long")


def make(
    items: Iterable[Item],
    votes: Sequence[Vote] = (),
    edits: Sequence[Event] = (),
    *,
    adjudications: Mapping[str, str] = {},
    skips: Sequence[Event] = (),
    flags: Sequence[Event] = (),
    consents: Mapping[str, str] = {},
    needed: int = 1,
    **settings: Any,
) -> Labelled:
    items = list(items)
    section = LabelSection(**{"mode": items[0].mode, "ask": ["strength"], "votes": needed, **settings})
    return labelled(Labelling(items, section, votes, skips, edits, flags, adjudications, consents))


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here holds after any number of EM's rounds, and each takes 10 ms."""
    monkeypatch.setattr(vote_models, "EM_ITERATIONS", 5)


def texts(found: Labelled, split: str = "train") -> list[tuple[str, str]]:
    return [(r["chosen"], r["rejected"]) for r in found.preferences[split]]


def test_a_vote_becomes_a_preference() -> None:
    found = make([PAIR], [vote(PAIR, "p1", "b")])
    assert found.preferences == {
        "train": [
            {
                "id": row_id("prompt", "y", "x"),
                "prompt": "prompt",
                "chosen": "y",
                "rejected": "x",
                "margin": None,
                "annotator": "p1",
                "comparison_id": Comparison("prompt", "x", "y").id,
            }
        ],
        "test": [],
    }
    assert PAIR.id == Comparison("prompt", "x", "y").id
    assert make([replace(PAIR, split="test")], [vote(PAIR, "p1", "b")]).preferences["train"] == []


def test_who_made_a_row() -> None:
    three = [vote(PAIR, "p1", "b"), vote(PAIR, "p2", "b"), vote(PAIR, "p3", "a")]

    def makers(votes: list[Vote], **more: Any) -> list[str]:
        return [r["annotator"] for r in make([PAIR], votes, **more).preferences["train"]]

    assert makers(three) == ["majority:3"]
    assert makers(three, aggregate="dawid_skene") == ["dawid_skene:3"]
    assert makers(three[:1], aggregate="dawid_skene") == ["p1"]
    assert makers(three[:1], aggregate="bradley_terry") == ["bradley_terry:1"]
    assert makers(three, adjudications={PAIR.id: "a"}) == ["operator"]
    assert makers([*three[:2], replace(three[0], round=1)]) == ["majority:2"]


def test_undecided_items_are_kept_as_such() -> None:
    items = [Item(f"prompt {n}", ("x", "y")) for n in range(6)]
    rows = [["a", "a"], ["tie", "tie"], ["both_bad"], ["a", "b"], [], ["b", "tie"]]
    votes = [vote(i, f"p{k}", c) for i, row in zip(items, rows, strict=True) for k, c in enumerate(row)]
    found = make(items, votes, needed=2, adjudications={items[5].id: "b"})
    assert [(r["choice"], r["votes"], r["adjudicated"]) for r in found.outcomes["train"]] == [
        ("a", 2, False),
        ("tie", 2, False),
        ("both_bad", 1, False),
        (None, 2, False),
        ("b", 2, True),
    ]
    assert [r["item_id"] for r in found.outcomes["train"]] == [items[n].id for n in (0, 1, 2, 3, 5)]
    assert [r["share"] for r in found.outcomes["train"]] == [1, 1, 1, 0.5, 0.5]
    assert all(set(r) == set(OUTCOMES) for r in found.outcomes["train"])
    assert len(texts(found)) == 2
    expected = {"items": 6, "done": 4, "decided": 2, "ties": 1, "both_bad": 1, "split_votes": 1, "unanswered": 1}
    expected |= {"fewer_votes": 1, "adjudicated": 1, "votes": 9, "pairs": 2}
    assert {k: n for k, n in found.counts.items() if n} == expected
    assert all(type(n) is int for n in found.counts.values())


def test_an_adjudicated_item_needs_no_vote() -> None:
    found = make([PAIR], [], adjudications={PAIR.id: "a", "f" * 64: "b"})
    assert texts(found) == [("x", "y")]
    assert (found.counts["done"], found.counts["unanswered"]) == (1, 0)


def test_gold_items_and_repeats_make_no_row() -> None:
    known = Item("known", ("x", "y"), gold="a")
    votes = [vote(PAIR, "p1", "a"), vote(PAIR, "p1", "b", round=1), vote(known, "p1", "a")]
    edits = [event("edit", known, "p1", completion=0, text="better")]
    found = make([PAIR, known], votes, edits, adjudications={known.id: "a"})
    assert texts(found) == [("x", "y")]
    assert found.edits["train"] == []
    assert len(found.outcomes["train"]) == 1
    assert [(r["round"], r["gold"]) for r in found.votes["train"]] == [(0, None), (1, None), (0, "a")]
    counts = found.counts
    assert (counts["items"], counts["votes"], counts["gold_votes"], counts["repeats"]) == (1, 3, 1, 1)
    assert (counts["adjudicated"], counts["decided"]) == (0, 1)


def test_nothing_is_used_of_people_who_agreed_to_no_text() -> None:
    other = Item("prompt 2", ("x", "y"))
    votes = [vote(PAIR, "p1", "a"), vote(PAIR, "p2", "b", consent=None), vote(PAIR, "p3", "b", consent=None)]
    edits = [event("edit", PAIR, who, completion=0, text=f"by {who}") for who in ("p1", "p2", "p4")]
    skips = [skip(other, who) for who in ("p1", "p2", "p4")]
    found = make([PAIR, other], votes, edits, skips=skips, consents={"p4": "newer"})
    assert texts(found) == [("x", "y"), ("by p1", "x"), ("by p4", "x")]
    assert {r["annotator"] for r in found.votes["train"]} == {"p1", "p4"}
    assert [r["consent"] for r in found.votes["train"]] == ["sha", "sha", "newer"]
    assert found.counts["without_consent"] == 4


def test_votes_on_items_of_elsewhere_are_left_out() -> None:
    found = make([PAIR], [vote(PAIR, "p1", "a"), vote(Item("another", ("x", "y")), "p1", "b")])
    assert (found.counts["unknown_item"], len(found.votes["train"])) == (1, 1)


def test_margin_by_strength() -> None:
    said = [("p1", "a", "much"), ("p2", "a", "slightly"), ("p3", "a", None), ("p4", "b", "much")]
    votes = [vote(PAIR, who, c, strength=s) for who, c, s in said]
    (row,) = make([PAIR], votes, margin="strength").preferences["train"]
    assert (
        row["margin"] == 1.5
    )  # of much = 2 and slightly = 1; the loser's strength and a missing one do not count
    unknown = make([PAIR], [vote(PAIR, "p1", "a")], margin="strength")
    assert unknown.preferences["train"][0]["margin"] is None
    assert unknown.counts["without_margin"] == 1
    assert make([PAIR], votes).counts["without_margin"] == 0


def test_margin_by_share() -> None:
    votes = [vote(PAIR, f"p{n}", c) for n, c in enumerate(["a", "a", "a", "b", "tie"])]
    (row,) = make([PAIR], votes, margin="share").preferences["train"]
    assert row["margin"] == pytest.approx(2 / 5)
    (settled,) = make([PAIR], votes, margin="share", adjudications={PAIR.id: "b"}).preferences["train"]
    assert (settled["chosen"], settled["margin"]) == ("y", None)
    (strength,) = make([PAIR], votes[:1], margin="share", aggregate="bradley_terry").preferences["train"]
    assert strength["margin"] == pytest.approx(0.6748, abs=1e-4)  # sigmoid(-d) = d / 2
    assert make([PAIR], votes).preferences["train"][0]["margin"] is None


def test_a_ranking_makes_its_decided_pairs() -> None:
    i = Item("prompt", ("x", "y", "z"), "ranking")
    found = make([i], [vote(i, "p1", "2>0=1")])
    assert texts(found) == [("z", "x"), ("z", "y")]
    assert [r["comparison_id"] for r in found.preferences["train"]] == [
        Comparison("prompt", "x", "z").id,
        Comparison("prompt", "y", "z").id,
    ]
    assert (found.outcomes["train"][0]["choice"], found.outcomes["train"][0]["comparison_id"]) == ("2>0=1", None)
    circle = make([i], [vote(i, f"p{n}", c) for n, c in enumerate(["0>1>2", "1>2>0", "2>0>1"])])
    assert texts(circle) == [("x", "y"), ("z", "x"), ("y", "z")]
    assert circle.counts["split_votes"] == 1
    equal = make([i], [vote(i, "p1", "0=1=2")])
    assert (equal.counts["ties"], equal.counts["decided"]) == (1, 0)
    settled = make([i], [vote(i, "p1", "0=1=2")], adjudications={i.id: "0>1=2"})
    assert texts(settled) == [("x", "y"), ("x", "z")]


def singles(choices: Sequence[Sequence[str]], mode: Mode, prompt: str = "prompt") -> tuple[list[Item], list[Vote]]:
    items = [Item(prompt, (f"text {n}",), mode) for n in range(len(choices))]
    return items, [vote(i, f"p{k}", c) for i, row in zip(items, choices, strict=True) for k, c in enumerate(row)]


def test_likes_make_unpaired_rows_and_pairs() -> None:
    items, votes = singles([["like"], ["dislike", "dislike", "like"], ["like", "dislike"], ["dislike"]], "thumbs")
    found = make(items, votes, margin="share")
    assert [(r["completion"], r["label"], r["annotator"]) for r in found.unpaired["train"]] == [
        ("text 0", True, "p0"),
        ("text 1", False, "majority:3"),
        ("text 3", False, "p0"),
    ]
    assert all(set(r) == set(UNPAIRED) for r in found.unpaired["train"])
    assert texts(found) == [("text 0", "text 1"), ("text 0", "text 3")]
    # Shares of likes: 1, 1/3 and 0. The votes of both completions count; all by one person are that person's.
    assert [(r["margin"], r["annotator"]) for r in found.preferences["train"]] == [
        (pytest.approx(2 / 3), "majority:4"),
        (1, "p0"),
    ]
    assert found.preferences["train"][0]["comparison_id"] == Comparison("prompt", "text 0", "text 1").id
    assert (found.counts["unpaired"], found.counts["pairs"], found.counts["split_votes"]) == (3, 2, 1)
    strength = make(items, votes, margin="strength")
    assert [r["margin"] for r in strength.preferences["train"]] == [None, None]


def test_only_completions_of_one_prompt_and_split_are_paired() -> None:
    a, b, c = Item("one", ("x",), "thumbs"), Item("two", ("y",), "thumbs"), Item("one", ("z",), "thumbs", "test")
    found = make([a, b, c], [vote(a, "p1", "like"), vote(b, "p1", "dislike"), vote(c, "p1", "dislike")])
    assert found.counts["pairs"] == 0
    assert [len(found.unpaired[s]) for s in ("train", "test")] == [2, 1]


def test_ratings_make_unpaired_rows_and_pairs() -> None:
    items, votes = singles([["4", "4"], ["3", "2"], ["2", "2"], ["5", "3"], ["1", "4"]], "rating")
    found = make(items, votes, margin="share")
    # Means 4, 2.5, 2, 4, 2.5.
    assert [(r["completion"], r["label"]) for r in found.unpaired["train"]] == [
        ("text 0", True),
        ("text 2", False),
        ("text 3", True),
    ]
    assert found.counts["middling"] == 2
    pairs = [(0, 1), (0, 2), (0, 4), (1, 2), (3, 1), (3, 2), (3, 4), (4, 2)]
    assert sorted(texts(found)) == sorted((f"text {i}", f"text {j}") for i, j in pairs)
    margins = {(r["chosen"], r["rejected"]): r["margin"] for r in found.preferences["train"]}
    assert margins["text 0", "text 1"] == 1.5
    assert margins["text 4", "text 2"] == 0.5
    assert {r["margin"] for r in make(items, votes).preferences["train"]} == {None}
    settled = make(items, votes, adjudications={items[1].id: "5"}, margin="share")
    assert ("text 1", "text 0") in texts(settled)


# Mutations caught: LIKED 4 -> 3.5, DISLIKED 2 -> 2.5, and either taken with its limit.
def test_where_a_rating_becomes_a_like() -> None:
    items, votes = singles([["4", "4", "3"], ["4"], ["2", "2", "3"], ["2"], ["4", "3"], ["3", "2"]], "rating")
    found = make(items, votes)
    # Means 3.67, 4, 2.33, 2, 3.5, 2.5.
    labels = {r["completion"]: r["label"] for split in found.unpaired.values() for r in split}
    assert labels == {"text 1": True, "text 3": False}
    assert found.counts["middling"] == 4


def test_pairs_of_one_prompt_are_all_up_to_seventeen_completions_then_sixteen_each() -> None:
    items, votes = singles([[str(1 + n % 5)] for n in range(17)], "rating")
    every = sum(n % 5 != m % 5 for n in range(17) for m in range(n))
    found = make(items, votes)
    assert (found.counts["pairs"], found.counts["over_cap"]) == (every, 0)
    items, votes = singles([["like" if n % 2 else "dislike"] for n in range(60)], "thumbs")
    capped = make(items, votes)
    assert capped.counts["pairs"] + capped.counts["over_cap"] == 30 * 30
    assert 60 * 16 / 2 / 3 < capped.counts["pairs"] < 60 * 16 / 2
    each = Counter(t for pair in texts(capped) for t in pair)
    assert max(each.values()) <= 16
    assert len(set(texts(capped))) == capped.counts["pairs"]
    again = make(random.Random(0).sample(items, 60), votes)
    assert set(texts(again)) == set(texts(capped))


def test_an_edit_is_chosen_over_what_it_replaced() -> None:
    edits = [
        event("edit", PAIR, "p1", completion=1, text="better"),
        event("edit", PAIR, "p1", completion=0, text="x"),
    ]
    found = make([PAIR], [vote(PAIR, "p1", "a")], edits)
    assert texts(found) == [("x", "y"), ("better", "y")]
    row = found.preferences["train"][1]
    assert (row["annotator"], row["margin"]) == ("p1", None)
    assert row["comparison_id"] == Comparison("prompt", "y", "better").id
    (sft,) = found.edits["train"]
    assert set(sft) == set(EDITS)
    assert (sft["prompt"], sft["completion"], sft["annotator"], sft["replaced"]) == ("prompt", "better", "p1", 1)
    assert found.counts["edits"] == 1


def test_a_pair_decided_twice_is_one_row_and_a_contradiction_is_none() -> None:
    turned, third = Item("prompt", ("y", "x")), Item("prompt", ("x", "z"))
    same = make([PAIR, turned, third], [vote(PAIR, "p1", "a"), vote(turned, "p2", "b"), vote(third, "p1", "a")])
    assert texts(same) == [("x", "y"), ("x", "z")]
    assert same.preferences["train"][0]["annotator"] == "p1"
    assert (same.counts["repeated"], same.counts["contradictory"]) == (1, 0)
    both = make([PAIR, turned, third], [vote(PAIR, "p1", "a"), vote(turned, "p2", "a"), vote(third, "p1", "a")])
    assert texts(both) == [("x", "z")]
    assert (both.counts["repeated"], both.counts["contradictory"], both.counts["pairs"]) == (0, 1, 1)


def test_every_vote_and_skip_is_a_row_in_the_order_of_the_log() -> None:
    before = skip(PAIR, "p1")
    more: dict[str, Any] = {"order": (1, 0), "strength": "much", "tags": ("clear", "né"), "note": "why"}
    given = [vote(PAIR, "p1", "a", ms=None, round=1, **more)]
    flags = [event("flag", PAIR, "p1"), event("flag", PAIR, "p2")]
    found = make([PAIR], given, skips=[before], flags=flags)
    skipped, voted = found.votes["train"]
    assert voted == {
        **dict.fromkeys(PEOPLES_VOTES),
        "id": voted["id"],
        "comparison_id": PAIR.id,
        "item_id": PAIR.id,
        "mode": "pairwise",
        "annotator": "p1",
        "choice": "a",
        "shown": "1,0",
        "strength": "much",
        "tags": '["clear", "né"]',
        "note": "why",
        "at": "2026-01-01",
        "round": 1,
        "consent": "sha",
    }
    assert (skipped["choice"], skipped["reason"], skipped["note"]) == (None, "I cannot tell", "both are long")
    assert (skipped["ms"], skipped["shown"], skipped["consent"]) == (700, None, "sha")
    assert voted["id"] != skipped["id"]
    assert list(voted) == list(PEOPLES_VOTES)
    assert set(COLLECT_VOTES) <= set(PEOPLES_VOTES)
    assert all(PEOPLES_VOTES[k] == kind for k, kind in COLLECT_VOTES.items())
    assert (found.counts["skipped"], found.counts["flagged"], found.counts["votes"]) == (1, 1, 1)
    i = Item("prompt", ("x",), "rating")
    (rated,) = make([i], [vote(i, "p1", "4")]).votes["train"]
    assert (rated["comparison_id"], rated["item_id"]) == (None, i.id)


def project(mode: Mode, seed: int) -> tuple[list[Item], dict[str, Any]]:
    """Votes, repeats, skips, edits, gold items and adjudications on both splits."""
    draw = random.Random(seed)
    size = {"pairwise": 2, "ranking": 3}.get(mode, 1)
    choices = {
        "pairwise": ["a", "b", "tie", "both_bad"],
        "ranking": ["0>1>2", "1>0=2", "2>1>0", "2>0>1"],
        "thumbs": ["like", "dislike"],
        "rating": list("12345"),
    }[mode]
    items = [
        Item(f"prompt {n // 4}", tuple(f"{n} {k}" for k in range(size)), mode, "test" if n < 8 else "train")
        for n in range(32)
    ]
    items += [replace(items[n], prompt="known", gold=choices[0]) for n in (1, 30)]
    found: dict[str, Any] = {"votes": [], "edits": [], "skips": [skip(items[9], "p9")], "adjudications": {}}
    found["edits"].append(event("edit", items[9], "p9", completion=0, text="by somebody without a vote"))
    for i in items:
        for who in draw.sample(range(6), 3):
            if draw.random() < 0.15:
                found["skips"].append(skip(i, f"p{who}"))
                continue
            order = tuple(draw.sample(range(size), size))
            more: dict[str, Any] = {"order": order, "strength": draw.choice([None, "much", "slightly"])}
            more |= {
                "tags": tuple(draw.sample(["clear", "ab, c"], draw.randrange(3))),
                "note": draw.choice(["", "x\n"]),
            }
            found["votes"].append(vote(i, f"p{who}", draw.choice(choices), **more))
            if draw.random() < 0.1:
                found["votes"].append(vote(i, f"p{who}", draw.choice(choices), round=1))
            if draw.random() < 0.1:
                found["edits"].append(event("edit", i, f"p{who}", completion=0, text=f"better {i.id[:4]} {who}"))
        if draw.random() < 0.1:
            found["adjudications"][i.id] = draw.choice(choices)
    return items, found


def everything(found: Labelled) -> dict[str, Any]:
    return {k: v for k, v in vars(found).items() if k != "counts"}


CASES = [("pairwise", "majority"), ("pairwise", "dawid_skene"), ("pairwise", "bradley_terry")]
CASES += [("ranking", "majority"), ("thumbs", "dawid_skene"), ("rating", "majority")]


@pytest.mark.parametrize(("mode", "how"), CASES)
def test_a_version_is_rebuilt_from_its_rows(mode: Mode, how: str) -> None:
    items, answers = project(mode, seed=3)
    settings: dict[str, Any] = {"aggregate": how, "margin": "share", "needed": 2}
    agreed = {"p9": "a later text"}
    found = make(items, **answers, **settings, consents=agreed)
    assert "by somebody without a vote" in str(found.preferences)
    for split in ("train", "test"):
        assert found.preferences[split]
        assert found.votes[split]

    def rebuilt(less: str) -> Labelled:
        def rows(by_split: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
            return [r for s in ("train", "test") for r in by_split[s] if r.get("annotator") != less]

        votes, skips = votes_from_rows(rows(found.votes))
        edits, settled = edits_from_rows(rows(found.edits)), adjudications_from_rows(rows(found.outcomes))
        return make(items, votes, edits, skips=skips, adjudications=settled, **settings)

    assert everything(rebuilt("")) == everything(found)
    assert rebuilt("").counts == found.counts
    kept: dict[str, Any] = {k: [a for a in answers[k] if a.annotator != "p2"] for k in ("votes", "edits", "skips")}
    direct = make(items, **kept, adjudications=answers["adjudications"], consents=agreed, **settings)
    assert everything(rebuilt("p2")) == everything(direct)
    assert "p2" not in str(everything(rebuilt("p2")))


@pytest.mark.parametrize(("mode", "how"), CASES)
def test_the_order_of_answers_does_not_matter(mode: Mode, how: str) -> None:
    items, answers = project(mode, seed=4)
    found = make(items, **answers, aggregate=how, margin="share")
    draw = random.Random(0)
    shuffled: dict[str, Any] = {k: draw.sample(answers[k], len(answers[k])) for k in ("votes", "edits", "skips")}
    again = make(items, **shuffled, adjudications=answers["adjudications"], aggregate=how, margin="share")
    assert everything(again) == everything(found)
    assert again.counts == found.counts


def test_which_completion_is_a_changes_no_preference() -> None:
    items, answers = project("pairwise", seed=5)
    turned = {i.id: replace(i, completions=i.completions[::-1]) for i in items}
    other: dict[str, str] = {"a": "b", "b": "a"}
    votes = [replace(v, item=turned[v.item].id, choice=other.get(v.choice, v.choice)) for v in answers["votes"]]
    settled = {turned[k].id: other.get(c, str(c)) for k, c in answers["adjudications"].items()}
    found = make(items, answers["votes"], adjudications=answers["adjudications"], margin="share")
    again = make(list(turned.values()), votes, adjudications=settled, margin="share")
    assert found.counts == again.counts
    for split in ("train", "test"):
        rows = [[{**r, "comparison_id": None} for r in f.preferences[split]] for f in (found, again)]
        assert rows[0] == rows[1]
