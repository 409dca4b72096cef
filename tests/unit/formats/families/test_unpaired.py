"""Opinions on single completions, and the pairs that are made of them."""

from __future__ import annotations

from typing import Any

from pipeline.formats.detect import (
    JudgedRow,
    Reading,
    Unusable,
    detect_format,
    parse_row,
    read_judged,
)
from tests.helpers.read_rows import bot, short, user

P = "User: Why?\n\nAssistant:"


def opinions(*rows: tuple[str, Any, Any], **how: Any) -> list[JudgedRow | Unusable]:
    found = [
        (f"x:{i}", dict(zip(("prompt", "completion", "label"), row, strict=True))) for i, row in enumerate(rows)
    ]
    assert detect_format(found[0][1], "x") == "unpaired"
    return [one for _, one in read_judged(found, "unpaired", Reading(**how))]


def test_unpaired_pairs_what_was_liked_with_what_was_not() -> None:
    rows = [("p", "a", True), ("q", "x", 1), ("p", "b", "false"), ("p", "c", "True"), ("p", "d", 0), ("p", "a", 1)]
    found = opinions(*rows)
    # By hand: a and c against b and d; q has nothing to be paired with; the second "a" is the first one again.
    assert sorted(short(found)) == sorted(
        ["a > b", "a > d", "c > b", "c > d", "all opinions on the prompt are the same"]
    )
    assert {f.prompt for f in found if isinstance(f, JudgedRow)} == {"p"}
    assert [f.broken for f in found if isinstance(f, Unusable)] == [False]
    assert short(opinions(*rows, pairs="best_worst"))[0] == "a > b"
    assert len(opinions(*rows, pairs="best_worst")) == 2


def test_the_same_completion_liked_and_disliked_is_no_error() -> None:
    # As when it won one comparison and lost another.
    found = opinions(("p", "a", True), ("p", "a ", False), ("p", "b", False))
    assert sorted(short(found)) == ["a > b", "the same completion, liked and disliked"]
    assert [f.broken for f in found if isinstance(f, Unusable)] == [False]


def test_the_pairs_of_one_prompt_are_bounded() -> None:
    def both(liked: int, disliked: int) -> list[JudgedRow | Unusable]:
        good = [("p", f"good {i}", True) for i in range(liked)]
        return opinions(*good, *[("p", f"bad {i}", False) for i in range(disliked)])

    found = both(100, 40)
    pairs = {(f.chosen, f.rejected) for f in found if isinstance(f, JudgedRow)}
    # By hand: each of the 100 with 16 different others; each of the 40 with 1600 / 40, give or take a turn of 8.
    assert len(pairs) == 1600
    assert all(32 <= sum(p[1] == f"bad {i}" for p in pairs) <= 48 for i in range(40))
    assert short(found)[0] == "a prompt with more pairs than 16 a completion"
    # Few of a kind are compared with all of the other kind, on whichever side they are.
    for liked, disliked in ((3, 50), (50, 3)):
        assert len(set(short(both(liked, disliked)))) == len(both(liked, disliked)) == 150


def test_unpaired_conversations() -> None:
    rows = [([user("Why?")], [bot(said)], label) for said, label in (("Yes", True), ("No", False))]
    (found,) = opinions(*rows)
    assert isinstance(found, JudgedRow)
    assert (found.prompt, found.chosen, found.rejected) == (P, " Yes", " No")


def test_refused_opinions() -> None:
    bad = [("", "a", True), ("p", " ", True), ("p", None, True), ("p", "a", None), ("p", "a", "perhaps")]
    assert short(opinions(*bad)) == [
        *("empty prompt", "empty completion", "no completion", "no label", "label is not true or false")
    ]


def test_one_opinion_alone_is_no_row() -> None:
    found = parse_row({"prompt": "p", "completion": "c", "label": True}, "auto", "x")
    assert isinstance(found, Unusable)
    assert found.reason.startswith("a single completion")
