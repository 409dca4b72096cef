"""Items, their ids, what stands where, and the spelling of choices."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from pipeline.base.records import Comparison
from pipeline.labelling.items import Item, Mode, as_meant, as_shown, items_from, order_of, parse_choice, ranking


def rows(*pairs: tuple[str, str, str]) -> list[tuple[str, dict[str, str]]]:
    return [("train", {"prompt": p, "completion_a": a, "completion_b": b}) for p, a, b in pairs]


def test_a_pairwise_item_has_the_id_of_its_comparison() -> None:
    assert Item("p", ("x", "y")).id == Comparison("p", "x", "y").id
    ids = {Item("p", ("x",), mode).id for mode in ("thumbs", "rating")} | {Item("p", ("x", "y"), "ranking").id}
    assert len(ids | {Item("p", ("x", "y")).id}) == 4


def test_split_and_gold_are_no_part_of_the_id() -> None:
    assert Item("p", ("x", "y"), gold="a", split="test").id == Item("p", ("x", "y")).id


def test_order_is_the_same_for_the_same_person_and_differs_between_people_and_projects() -> None:
    orders = {
        key: [order_of(f"i{n}", *key, 2) for n in range(64)] for key in (("p1", "s"), ("p2", "s"), ("p1", "t"))
    }
    assert orders["p1", "s"] == [order_of(f"i{n}", "p1", "s", 2) for n in range(64)]
    # Independent orders agree on 32 of 64 items, and on all with probability 2^-64.
    for one, other in itertools.combinations(orders.values(), 2):
        assert 12 < sum(a == b for a, b in zip(one, other, strict=True)) < 52


# Seen failing with: the hash without the index, which shows everything in the item's own order.
def test_every_order_is_equally_likely() -> None:
    counts = Counter(order_of(f"i{n}", "p1", "s", 3) for n in range(6000))
    assert set(counts) == set(itertools.permutations(range(3)))
    # 1000 expected of each, standard deviation 29: five of them either way.
    assert all(855 < n < 1145 for n in counts.values())


def test_items_of_each_mode() -> None:
    comparisons = rows(("p", "x", "y"), ("p", "y", "z"), ("q", "x", "y"))
    expected: dict[Mode, list[tuple[str, tuple[str, ...]]]] = {
        "pairwise": [("p", ("x", "y")), ("p", ("y", "z")), ("q", ("x", "y"))],
        "thumbs": [("p", ("x",)), ("p", ("y",)), ("p", ("z",)), ("q", ("x",)), ("q", ("y",))],
        "rating": [("p", ("x",)), ("p", ("y",)), ("p", ("z",)), ("q", ("x",)), ("q", ("y",))],
        "ranking": [("p", ("x", "y", "z")), ("q", ("x", "y"))],
    }
    for mode, wanted in expected.items():
        assert [(i.prompt, i.completions) for i in items_from(comparisons, mode)] == wanted
        assert {i.mode for i in items_from(comparisons, mode)} == {mode}


def test_a_long_ranking_is_cut_and_one_completion_alone_is_no_ranking() -> None:
    comparisons = rows(*(("p", f"c{i}", f"c{i + 1}") for i in range(4)))
    cut = [i.completions for i in items_from(comparisons, "ranking", rank_up_to=3)]
    assert cut == [("c0", "c1", "c2"), ("c3", "c4")]
    assert [i.completions for i in items_from(comparisons, "ranking", rank_up_to=4)] == [("c0", "c1", "c2", "c3")]


def test_items_keep_their_split() -> None:
    test = [("test", row) for _, row in rows(("p", "x", "y"))]
    for mode in ("pairwise", "thumbs", "ranking"):
        assert {i.split for i in items_from(test, mode)} == {"test"}


@pytest.mark.parametrize(
    ("choice", "mode", "n", "spelled"),
    [
        ("both_bad", "pairwise", 2, "both_bad"),
        ("dislike", "thumbs", 1, "dislike"),
        ("5", "rating", 1, "5"),
        ("2>1=0", "ranking", 3, "2>0=1"),
        ("1=0=2", "ranking", 3, "0=1=2"),
        (" 1 > 0", "ranking", 2, "1>0"),
    ],
)
def test_choices_in_their_one_spelling(choice: str, mode: Mode, n: int, spelled: str) -> None:
    assert parse_choice(choice, mode, n) == spelled


@pytest.mark.parametrize(
    ("choice", "mode", "n"),
    [
        ("A", "pairwise", 2),
        ("a", "thumbs", 1),
        ("6", "rating", 1),
        ("0>1", "ranking", 3),
        ("0>1>1", "ranking", 2),
        ("0>1>2", "ranking", 2),
        ("0>", "ranking", 1),
        ("", "ranking", 2),
        ("a>b", "ranking", 2),
    ],
)
def test_no_choice_of_the_mode(choice: str, mode: Mode, n: int) -> None:
    with pytest.raises(ValueError, match="choice"):
        parse_choice(choice, mode, n)


def test_ranking_best_first() -> None:
    assert ranking("2>0=1>3") == [[2], [0, 1], [3]]


def test_shown_and_meant_by_hand() -> None:
    # Place 0 shows completion 1: who chooses the left one means b.
    assert as_meant("a", "pairwise", (1, 0)) == "b"
    assert as_meant("a", "pairwise", (0, 1)) == "a"
    assert [as_meant(c, "pairwise", (1, 0)) for c in ("tie", "both_bad")] == ["tie", "both_bad"]
    # Places 0, 1, 2 show 2, 0, 1. Best the middle one, then both others alike.
    assert as_meant("1>0=2", "ranking", (2, 0, 1)) == "0>1=2"
    assert as_shown("0>1=2", "ranking", (2, 0, 1)) == "1>0=2"
    assert as_meant("4", "rating", (0,)) == "4"


# Seen failing with: as_shown using the order itself, which is right for two completions and wrong for most orders
# of three.
def test_shown_undoes_meant_in_every_order() -> None:
    choices: dict[Mode, tuple[int, list[str]]] = {
        "pairwise": (2, ["a", "b", "tie", "both_bad"]),
        "ranking": (3, ["0>1>2", "2>1>0", "1>0=2", "0=1=2", "0=2>1"]),
    }
    for mode, (n, said) in choices.items():
        for order in itertools.permutations(range(n)):
            for choice in said:
                assert as_shown(as_meant(choice, mode, order), mode, order) == choice
