"""Judgements of others: what several come to, whatever their order, sides and blanks; and what is counted."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.base.records import VOTES, Annotation, Choice, Comparison, turned
from pipeline.formats.read_options import Aggregation, Margin
from pipeline.labelling.judgements import KINDS, Decision, Judgements, summary

Said = tuple[Comparison, Annotation]


def said(choice: Choice, who: str = "set", texts: tuple[str, str, str] = ("q", "x", "y"), **more: Any) -> Said:
    comparison = Comparison(*texts)
    return comparison, Annotation(comparison.id, who, choice, **more)


def swapped(one: Said) -> Said:
    c, a = one
    other = Comparison(c.prompt, c.completion_b, c.completion_a)
    return other, Annotation(other.id, a.annotator, turned(a.choice), a.score_b, a.score_a, a.margin, a.count)


def decided(
    votes: list[Said], aggregate: Aggregation = "majority", margin: Margin = "strength"
) -> tuple[list[Decision], Judgements]:
    judgements = Judgements(aggregate, margin, "set")
    texts: dict[int, Comparison] = {}
    for comparison, vote in votes:
        number, kept = judgements.add(comparison, vote)
        if kept:
            texts[number] = comparison
    return [judgements.decide(n, c) for n, c in sorted(texts.items())], judgements


def winner(one: Decision) -> str | None:
    c = one.comparison
    return {"a": c.completion_a, "b": c.completion_b}.get(str(one.outcome.choice), one.outcome.choice)


def the(votes: list[Said], *rules: Any) -> Decision:
    (one,), _ = decided(votes, *rules)
    return one


def test_four_to_one() -> None:
    one = the([said("a"), said("a"), said("b"), said("a"), said("a")], "majority", "share")
    assert winner(one) == "x"
    assert (one.outcome.n, one.outcome.share) == (5, 0.8)
    assert one.margin == pytest.approx(0.6)
    assert one.annotator == "majority:5"
    assert [(v.choice, v.count) for v in one.votes] == [("a", 4), ("b", 1)]


@pytest.mark.parametrize(
    ("choices", "won"),
    [("ab", None), ("aab", "x"), ("abt", None), ("att", "tie"), ("tt", "tie"), ("2ab2", "both_bad"), ("b", "y")],
)
def test_majorities(choices: str, won: str | None) -> None:
    words: dict[str, Choice] = {"a": "a", "b": "b", "t": "tie", "2": "both_bad"}
    assert winner(the([said(words[c]) for c in choices])) == won


# Catches: sides told by the letter, the completions compared with their blanks, texts that depend on the order.
def test_sides_and_blanks_make_no_other_comparison() -> None:
    votes = [
        said("a"),
        swapped(said("a")),
        said("b", texts=("q ", "x", " y")),
        said("a", texts=("q", " x", "y\n")),
    ]
    for _ in range(10):
        random.Random(_).shuffle(votes)
        one = the(votes)
        assert str(winner(one)).strip() == "x"
        assert sorted(v.count for v in one.votes) == [1, 3]
        assert one.comparison == Comparison("q", " x", "y\n")
        assert {v.comparison_id for v in one.votes} == {one.comparison.id}


def many(seed: int, n: int = 60) -> list[Said]:
    """Votes of five people, of whom two know nothing, on n comparisons, some of them swapped."""
    draw = random.Random(seed)
    votes: list[Said] = []
    for i in range(n):
        for who, right in (("p1", 0.9), ("p2", 0.85), ("p3", 0.9), ("p4", 0.5), ("p5", 0.5)):
            words: list[Choice] = ["a"] if draw.random() < right else ["b", "b", "tie"]
            vote = said(draw.choice(words), who, (f"q{i // 2}", f"x{i}", f"y{i}"), margin=draw.choice([1.0, 0.5]))
            votes.append(swapped(vote) if draw.random() < 0.5 else vote)
    return votes


RULES: list[tuple[Aggregation, Margin]] = [
    ("majority", "share"), ("majority", "strength"), ("dawid_skene", "share"), ("bradley_terry", "share"),
]  # fmt: skip


def by_texts(votes: list[Said], *rules: Any) -> dict[tuple[str, str], tuple[Any, ...]]:
    found, _ = decided(votes, *rules)
    return {
        (d.comparison.prompt, min(d.comparison.completion_a, d.comparison.completion_b)): (
            winner(d),
            d.outcome.n,
            None if d.margin is None else round(d.margin, 6),
            None if d.outcome.confidence is None else round(d.outcome.confidence, 6),
        )
        for d in found
    }


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_the_order_of_rows_and_the_sides_are_nothing(rules: tuple[Aggregation, Margin]) -> None:
    votes = many(3)
    first = by_texts(votes, *rules)
    assert len(first) == 60
    shuffled = [swapped(v) if i % 3 else v for i, v in enumerate(votes)]
    random.Random(1).shuffle(shuffled)
    assert by_texts(shuffled, *rules) == first


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
def test_inverted_votes_invert_every_outcome(rules: tuple[Aggregation, Margin]) -> None:
    votes = many(4)
    turn = [(c, Annotation(a.comparison_id, a.annotator, turned(a.choice), margin=a.margin)) for c, a in votes]
    straight, inverted = by_texts(votes, *rules), by_texts(turn, *rules)
    other = {"x": "y", "y": "x"}
    for key, (won, *rest) in straight.items():
        expected = other[won[0]] + won[1:] if won and won[0] in other else won
        assert inverted[key] == (expected, *rest)


# Catches: the even ones decided by whichever came first, people of no worth weighed like the others.
def test_dawid_and_skene_know_whom_to_trust() -> None:
    right = {how: sum(str(won).startswith("x") for won, *_ in by_texts(many(5, 200), how).values())
             for how in ("majority", "dawid_skene")}  # fmt: skip
    assert right["dawid_skene"] > right["majority"] > 150


def test_margins() -> None:
    votes = [said("a", margin=2.0), said("a", margin=1.0), said("b", margin=9.0), said("a")]
    assert the(votes).margin == 1.5
    assert the(votes, "majority", "none").margin is None
    assert the(votes, "majority", "share").margin == 0.5
    assert the([said("a")]).margin is None
    assert the([said("a", margin=0.1)] * 3).margin == 0.1
    assert the([said("a", margin=0.1), said("b", margin=0.2)], "majority", "share").margin is None


# Catches: a count taken for one vote, in the outcome, the share, or the rows.
def test_counts_are_votes() -> None:
    one = the([said("b", count=3), said("a", count=2), said("a", "p1"), said("tie", count=1)], "majority", "share")
    assert (winner(one), one.outcome.n, one.outcome.share) == (None, 7, 3 / 7)
    rows = list(one.vote_rows())
    assert {(r["annotator"], r["choice"], r["count"]) for r in rows} == {
        ("p1", "a", 1), ("set", "a", 2), ("set", "b", 3), ("set", "tie", 1),
    }  # fmt: skip
    assert len({r["id"] for r in rows}) == 4
    assert all(set(r) == set(VOTES) for r in rows)


def test_a_single_vote_stays_as_it_was() -> None:
    one = the([said("b", "p1", score_a=1.0, score_b=4.0, margin=0.3)])
    assert one.annotation() == Annotation(one.comparison.id, "p1", "b", margin=0.3)
    (vote,) = one.votes
    assert (vote.score_a, vote.score_b, vote.margin) == (1.0, 4.0, 0.3)
    _, judgements = decided([said("a"), said("b", texts=("r", "x", "y"))])
    assert judgements.counts() == {"comparisons": 2, "votes": 2}
    assert not judgements.several


def test_scores_go_with_their_side() -> None:
    votes = [said("a", "p1", score_a=5.0, score_b=2.0), swapped(said("a", "p2", score_a=4.0, score_b=1.0))]
    one = the(votes)
    on_x = [
        (v.score_a, v.score_b) if one.comparison.completion_a == "x" else (v.score_b, v.score_a) for v in one.votes
    ]
    assert on_x == [(5.0, 2.0), (4.0, 1.0)]


def test_what_is_counted_and_said() -> None:
    votes = [said(c, f"p{i}", ("q", "x", f"y{k}")) for k in range(4) for i, c in enumerate(["a", "a", "b"])]  # type: ignore[arg-type]
    votes += [said("a", "p0", ("q", "v", "w")), said("b", "p1", ("q", "v", "w"))]
    found, judgements = decided(votes)
    counts = judgements.counts()
    assert (counts["comparisons"], counts["votes"], counts["people"], counts["aggregate"]) == (
        5,
        14,
        3,
        "majority",
    )
    # By hand: each of four items has one agreeing pair of three, the fifth has none of one.
    assert counts["agreement"]["raw"]["value"] == pytest.approx(4 / 13)
    kinds = [KINDS[d.outcome.choice] for d in found]
    counts |= {kind: kinds.count(kind) for kind in KINDS.values()}
    assert summary(counts).startswith(
        "5 comparisons from 14 votes of 3 people, by majority: 4 decided, 1 even; agree"
    )
    plain = {"comparisons": 2, "votes": 2, "decided": 1, "ties": 1, "both_bad": 0, "split_votes": 0}
    assert summary(plain) == "2 comparisons: 1 decided, 1 tie"


# Catches: sides in the order of the alphabet, by which 4 to 1 for the same word looks like less than chance.
def test_agreement_takes_sides_for_nothing() -> None:
    votes = [said("ab"[k == i % 5], f"p{k}", (f"q{i}", "x", "y")) for i in range(200) for k in range(5)]  # type: ignore[arg-type]
    _, judgements = decided(votes)
    agreement = judgements.counts()["agreement"]
    assert agreement["raw"]["value"] == pytest.approx(0.6)
    # By hand: observed disagreement .4, by chance .5.
    assert agreement["alpha"]["value"] == pytest.approx(0.2, abs=0.02)


def test_votes_count_within_what_is_the_same() -> None:
    judgements = Judgements()
    numbers = [judgements.add(*said(c), within=w)[0] for c, w in (("a", "1"), ("b", "2"), ("b", None))]  # type: ignore[arg-type]
    assert numbers == [0, 1, 2]
    assert winner(judgements.decide(1, said("a")[0])) == "y"
