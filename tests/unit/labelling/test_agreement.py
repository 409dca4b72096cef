"""Agreement against hand arithmetic, the published example of alpha, crowd-kit and closed forms."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.labelling.agreement import krippendorff_alpha
from pipeline.labelling.items import Item, Mode
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.events import Event
from pipeline.labelling.vote_summary import summary
from pipeline.results.stats import to_json
from pipeline.statistics.intervals import wilson
from tests.unit.labelling.helpers import current_vote as vote


def item(name: str, mode: Mode = "pairwise", gold: str | None = None) -> Item:
    n = {"pairwise": 2, "ranking": 3}.get(mode, 1)
    return Item(name, tuple(f"{name} {i}" for i in range(n)), mode, gold=gold)


def event(kind: Any, of: Item, who: str) -> Event:
    return Event(1, "k" * 8, kind, who, of.id, {}, None, "", 0)


def table(choices: Sequence[Sequence[str | None]], mode: Mode = "pairwise") -> tuple[dict[str, Item], list[Vote]]:
    """Items and votes from one row of choices per item, one column per person."""
    items = [item(f"prompt {n}", mode) for n in range(len(choices))]
    votes = [vote(i, f"p{k}", c) for i, row in zip(items, choices, strict=True) for k, c in enumerate(row) if c]
    return {i.id: i for i in items}, votes


def told(items: dict[str, Item], votes: list[Vote], **more: Any) -> dict[str, Any]:
    found = to_json(summary(items, votes, more.get("skips", []), more.get("flags", []), too_fast_ms=1500))
    json.dumps(found, allow_nan=False)
    return found


def test_raw_agreement_is_of_pairs_of_first_votes_by_hand() -> None:
    # a a b: 1 of 3 pairs agrees; a a: 1 of 1; one vote: no pair. Together 2 of 4.
    items, votes = table([["a", "a", "b"], ["a", "a", None], ["b", None, None]])
    known = item("known", gold="a")
    items[known.id] = known
    others = [vote(known, "p0", "a"), vote(known, "p1", "a"), replace(votes[0], choice="b", round=1)]
    found = told(items, votes + others)
    assert found["raw"] == {"value": 0.5, "low": None, "high": None, "n": 4, "items": 2}
    assert found["choices"] == {"a": 4, "b": 2, "tie": 0, "both_bad": 0}


# Computing Krippendorff's Alpha-Reliability (2011), the example of four observers and twelve units with gaps.
PUBLISHED = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def test_ordinal_alpha_of_the_published_example() -> None:
    # Values by unit: 111 2223 3333 3333 2222 1234 4444 1112 2222 555 11, and a 3 alone, which pairs with nothing.
    # n_c = 9 13 10 5 3, so mid-ranks 4.5 15.5 27 34.5 38.5. Observed, c < k:
    # (4*121 + 506.25 + 900 + 4*132.25 + 361 + 56.25) / 3 = 945.5. Expected: 117*121 + 90*506.25 + 45*900 + 27*1156
    # + 130*132.25 + 65*361 + 39*529 + 50*56.25 + 30*132.25 + 15*16 = 199740.
    # alpha = 1 - 39 * 945.5 / 199740; the paper says .815.
    rows = [[c if c != "." else None for c in unit] for unit in zip(*PUBLISHED, strict=True)]
    found = told(*table(rows, "rating"))["alpha"]
    assert found["value"] == pytest.approx(1 - 39 * 945.5 / 199740, abs=1e-12)
    assert found["value"] == pytest.approx(0.815, abs=5e-4)
    assert (found["n"], found["items"], found["reason"]) == (40, 11, None)


def test_nominal_alpha_of_the_published_coincidences() -> None:
    # Of 40 values 32 lie on the diagonal; the squares of 9 13 10 5 3 add up to 384.
    # alpha = 1 - 39 * (40 - 32) / (1600 - 384) = 1 - 312 / 1216; the paper says .743.
    third = 1 / 3
    matrix = np.array(
        [
            [7, 4 * third, third, third, 0],
            [4 * third, 10, 4 * third, third, 0],
            [third, 4 * third, 8, third, 0],
            [third, third, third, 4, 0],
            [0, 0, 0, 0, 3],
        ]
    )
    assert krippendorff_alpha(matrix) == pytest.approx(1 - 312 / 1216, abs=1e-12)
    both = np.stack([matrix, np.eye(5)])
    assert krippendorff_alpha(both) == pytest.approx([1 - 312 / 1216, 1], abs=1e-12)


@pytest.mark.parametrize("mode", ["pairwise", "thumbs", "ranking"])
def test_alpha_equals_crowd_kits(mode: Mode) -> None:
    import pandas as pd
    from crowdkit.metrics.data import alpha_krippendorff

    draw = random.Random(3)
    choices = {
        "pairwise": ["a", "b", "tie"],
        "thumbs": ["like", "dislike"],
        "ranking": ["0>1>2", "2>0=1", "1=2>0"],
    }
    rows = [[draw.choice([*choices[mode], *choices[mode], None]) for _ in range(5)] for _ in range(60)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    place = {"0>1>2": (0, 1, 2), "2>0=1": (1, 1, 0), "1=2>0": (1, 0, 0)}
    given = [
        (
            (unit, pair),
            who,
            choice if mode != "ranking" else np.sign(place[choice][pair[0]] - place[choice][pair[1]]),
        )
        for unit, row in enumerate(rows)
        for who, choice in enumerate(row)
        if choice
        for pair in (pairs if mode == "ranking" else pairs[:1])
    ]
    expected = alpha_krippendorff(
        pd.DataFrame([(str(t), w, c) for t, w, c in given], columns=["task", "worker", "label"])
    )
    assert told(*table(rows, mode))["alpha"]["value"] == pytest.approx(expected, abs=1e-12)


def test_alpha_says_why_it_is_undefined() -> None:
    assert told({}, [])["alpha"]["reason"] == "no item has two votes"
    assert told(*table([["a"], ["b"]]))["alpha"] == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "items": 0,
        "reason": "no item has two votes",
    }
    same = told(*table([["a", "a"]] * 30))
    assert (same["alpha"]["value"], same["alpha"]["reason"]) == (None, "all votes are the same")
    assert same["raw"] == {"value": 1, "low": 1, "high": 1, "n": 30, "items": 30}


# 7000 items are dealt into 2000 groups. Catches: groups drawn too often or too seldom, items of a group weighted
# alike however many pairs they have.
@pytest.mark.parametrize("n", [500, 7000])
def test_interval_of_raw_agreement_is_that_of_a_proportion(n: int) -> None:
    draw = random.Random(n)
    found = told(*table([["a", "a" if draw.random() < 0.7 else "b"] for _ in range(n)]))["raw"]
    half = 1.96 * math.sqrt(found["value"] * (1 - found["value"]) / n)
    assert found["high"] - found["value"] == pytest.approx(half, rel=0.25)
    assert found["value"] - found["low"] == pytest.approx(half, rel=0.25)


def test_items_are_resampled_and_not_pairs_of_votes() -> None:
    # 0.7 on average, of 10 of 10 and of 4 of 10 pairs: by items +-1.96 * 0.3 / 10, by pairs less than half of it.
    found = told(*table([["a"] * 5, ["a", "a", "a", "b", "b"]] * 50))
    assert found["raw"]["value"] == pytest.approx(0.7)
    assert found["raw"]["high"] - found["raw"]["low"] == pytest.approx(2 * 1.96 * 0.03, rel=0.25)
    assert found["alpha"]["low"] < found["alpha"]["value"] < found["alpha"]["high"]


def test_few_items_have_no_bootstrap_interval() -> None:
    assert told(*table([["a", "b"], ["a", "a"]] * 9))["raw"]["low"] is None
    assert told(*table([["a", "b"], ["a", "a"]] * 10))["raw"]["low"] is not None


def test_position_bias_follows_what_was_shown_first() -> None:
    # Five chose place 0 and five place 1, however the sides were named; a tie and two bad ones chose neither.
    # 5 of 10 by Wilson: (0.5 +- 1.959964 sqrt(.025 + .0096037)) / 1.3841459.
    i = item("prompt")
    shown = (
        [("a", (0, 1)), ("b", (1, 0))] * 2 + [("a", (0, 1))] + [("a", (1, 0)), ("b", (0, 1))] * 2 + [("b", (0, 1))]
    )
    votes = [
        vote(i, f"p{n}", c, order=order)
        for n, (c, order) in enumerate([*shown, ("tie", (0, 1)), ("both_bad", (0, 1))])
    ]
    votes.append(vote(i, "p0", "a", order=(1, 0), round=1))
    found = told({i.id: i}, votes)
    assert found["position_bias"] == pytest.approx(
        {"value": 0.5, "low": 0.2366, "high": 0.7634, "n": 10, "method": "Wilson"}, abs=1e-4
    )
    own = [found["annotators"][f"p{n}"]["position_bias"]["value"] for n in range(12)]
    assert own == [1] * 5 + [0] * 5 + [None] * 2


def test_position_bias_of_a_ranking_compares_the_first_two_places() -> None:
    i = item("prompt", "ranking")
    given = [("1>0>2", (1, 2, 0)), ("0>1>2", (1, 0, 2)), ("2>0=1", (0, 1, 2)), ("2>1>0", (2, 0, 1))]
    found = told({i.id: i}, [vote(i, f"p{n}", c, order=o) for n, (c, o) in enumerate(given)])
    # Place 0 over place 1: 1 over 2 yes, 1 over 0 no, 0 and 1 equal, 2 over 0 yes.
    assert [found["annotators"][f"p{n}"]["position_bias"]["value"] for n in range(4)] == [1, 0, None, 1]
    assert (found["position_bias"]["value"], found["position_bias"]["n"]) == (2 / 3, 3)


def test_single_completions_have_no_position() -> None:
    for given in (table([["like", "dislike"]], "thumbs"), table([["1", "4"]], "rating")):
        found = told(*given)
        assert found["position_bias"] is None
        assert found["annotators"]["p0"]["position_bias"] is None


def test_the_majority_is_that_of_the_others() -> None:
    # a a b: for either a the others are split; for b they say a. a a a b: each a meets a majority, b does not.
    found = told(*table([["a", "a", "b"], ["a", "a", "a", "b"]]))["annotators"]
    shares = {
        who: (f["agreement_with_majority"]["value"], f["agreement_with_majority"]["n"]) for who, f in found.items()
    }
    assert shares == {"p0": (1, 1), "p1": (1, 1), "p2": (0.5, 2), "p3": (0, 1)}


def test_rankings_are_compared_pair_by_pair() -> None:
    # 0>1>2 and 1>0>2 agree on two pairs of three.
    i = item("prompt", "ranking")
    first = [vote(i, "p0", "0>1>2", order=(0, 1, 2)), vote(i, "p1", "1>0>2", order=(0, 1, 2))]
    found = told({i.id: i}, [*first, replace(first[0], choice="2>0>1", round=1)])
    assert (found["raw"]["value"], found["raw"]["n"], found["raw"]["items"]) == (2 / 3, 3, 1)
    assert found["annotators"]["p1"]["agreement_with_majority"]["value"] == pytest.approx(2 / 3)
    assert found["annotators"]["p1"]["agreement_with_majority"]["n"] == 1
    assert found["annotators"]["p0"]["self_agreement"]["value"] == pytest.approx(1 / 3)
    assert found["choices"] == {"a": 5, "b": 1, "tie": 0}


def test_each_persons_numbers_by_hand() -> None:
    items = {i.id: i for i in (item("one"), item("two"), item("known", gold="b"))}
    one, two, known = items.values()
    votes = [
        vote(one, "p0", "a", ms=1000),
        vote(one, "p0", "b", ms=1499, round=1),
        vote(two, "p0", "a", ms=1500),
        vote(two, "p0", "a", ms=9000, round=1),
        vote(known, "p0", "b", ms=None),
        vote(known, "p0", "a", ms=2000, round=1),
        vote(known, "p1", "a", ms=3000),
    ]
    skips, flags = [event("skip", two, "p1"), event("skip", one, "p2")], [event("flag", one, "p1")]
    found = told(items, votes, skips=skips, flags=flags)["annotators"]
    assert list(found) == ["p0", "p1", "p2"]
    p0, p1, p2 = found.values()
    assert (p0["votes"], p0["median_ms"]) == (6, 1500)
    assert (p0["too_fast"]["value"], p0["too_fast"]["n"]) == (0.4, 5)
    assert (p0["self_agreement"]["value"], p0["self_agreement"]["n"]) == (0.5, 2)
    assert (p0["gold"]["value"], p0["gold"]["n"]) == (1, 1)
    assert (p1["votes"], p1["skips"], p1["flags"], p1["gold"]["value"]) == (1, 1, 1, 0)
    assert p2 == {
        **dict.fromkeys(("gold", "too_fast", "self_agreement", "agreement_with_majority", "position_bias")),
        **{k: to_json(wilson(0, 0)) for k, v in p2.items() if isinstance(v, dict)},
        "votes": 0,
        "skips": 1,
        "flags": 0,
        "median_ms": None,
    }


def test_the_most_disputed_comes_first() -> None:
    rows = [
        ["a", "a", "b"],
        ["a", "b"],
        ["a", "a", "b", "b", "tie"],
        ["a"] * 3 + ["b"] * 2,
        ["a"],
        ["a", "b", "b", "a"],
    ]
    items, votes = table([*rows, ["a"] * 4 + ["b"]])
    found = told(items, votes)["disputed"]
    # Shares of the leading choice: 2/5, then 1/2 with four votes before 1/2 with two, then 3/5; 2/3 is enough.
    assert [list(items).index(d["item"]) for d in found] == [2, 5, 1, 3]
    assert found[0]["votes"] == {"a": 2, "b": 2, "tie": 1}


def test_ratings_are_disputed_when_two_apart() -> None:
    items, votes = table([["4", "5"], ["2", "5", "5"], ["3", "5"], ["1"]], "rating")
    found = told(items, votes)["disputed"]
    assert [list(items).index(d["item"]) for d in found] == [1, 2]
    assert found[0]["votes"] == {"2": 1, "5": 2}


def test_a_ranking_is_disputed_when_a_pair_of_it_is() -> None:
    items, votes = table([["0>1>2", "0>1>2"], ["0>1>2", "1>0>2"], ["0>1>2", "0>1>2", "0>2>1"]], "ranking")
    assert told(items, votes)["disputed"] == [{"item": list(items)[1], "votes": {"0>1>2": 1, "1>0>2": 1}}]


def many(n: int) -> tuple[dict[str, Item], list[Vote]]:
    draw = random.Random(0)
    items = [Item(f"prompt {k}", (f"x{k}", f"y{k}")) for k in range(n)]
    votes = [
        vote(i, f"p{who}", draw.choice("aaab"), order=draw.choice([(0, 1), (1, 0)]), ms=draw.randrange(10**4))
        for i in items
        for who in draw.sample(range(20), 3)
    ]
    return {i.id: i for i in items}, votes


def test_nothing_depends_on_the_order_of_votes_or_on_names() -> None:
    items, votes = many(60)
    found = told(items, votes)
    assert told(items, random.Random(1).sample(votes, len(votes))) == found
    renamed = told(items, [replace(v, annotator=f"other {v.annotator}") for v in votes])
    assert {f"other {who}": own for who, own in found["annotators"].items()} == renamed.pop("annotators")
    assert {k: v for k, v in found.items() if k != "annotators"} == renamed


def test_which_completion_is_a_changes_only_names() -> None:
    items, votes = many(60)
    turned = {i.id: Item(i.prompt, i.completions[::-1]) for i in items.values()}
    other = [
        replace(
            v, item=turned[v.item].id, choice="ba"["ab".index(v.choice)], order=(1 - v.order[0], 1 - v.order[1])
        )
        for v in votes
    ]
    found, again = told(items, votes), told({i.id: i for i in turned.values()}, other)
    for key in ("raw", "alpha", "position_bias"):
        assert again[key] == pytest.approx(found[key], abs=1e-12)
    assert again["annotators"] == found["annotators"]
    assert (again["choices"]["a"], again["choices"]["b"]) == (found["choices"]["b"], found["choices"]["a"])
    assert [turned[d["item"]].id for d in found["disputed"]] == [d["item"] for d in again["disputed"]]


@pytest.mark.slow
def test_a_hundred_thousand_items_take_about_a_second() -> None:
    items, votes = many(100_000)
    started = time.process_time()
    told(items, votes)
    assert time.process_time() - started < 3  # 0.9 s where it was written; a plain loop takes minutes
