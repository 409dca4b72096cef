"""The gold score of drawings: right scenes are 1, each known fault costs, exploits are worth little."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pipeline.tasks.drawing import picture_score
from pipeline.tasks.grammars.scenes import all_requests, scene, sentence
from pipeline.texts.shape_pictures import Shape, parse_picture

PROMPT = "Draw a red house, a green tree and a yellow sun."
HOUSE = "\nbox red 1 0 6 4\ntri brown 1 4 6 2\nbox brown 3 0 1 2"
TREE = "\nbox brown 12 0 1 3\ndisc green 12 5 2"
SUN = "\ndisc yellow 20 13 2"


def score(*lines: str) -> float:
    return picture_score(PROMPT, "".join(lines))


def test_lines() -> None:
    assert parse_picture("\nbox red 3 0 6 4\n\ndisc white 20 13 2\n tri brown 2 4 8 3 ") == [
        Shape("box", "red", 3, 0, 6, 4),
        Shape("disc", "white", 18, 11, 4, 4),
        Shape("tri", "brown", 2, 4, 8, 3),
    ]
    wrong = [
        "box red 3 0 6",
        "box pink 1 1 1 1",
        "disc red 1 2 3 4",
        "box red -1 0 2 2",
        "<svg>",
        "box red 3 0 6 4 5",
    ]
    assert parse_picture("\n".join(wrong)) == [None] * len(wrong)


def test_the_grammar_is_right_without_faults() -> None:
    rng = random.Random(0)
    for _ in range(200):
        things = rng.choice(all_requests())
        assert picture_score(sentence(things), scene(rng, things, faults=False)) == 1


def test_by_hand() -> None:
    assert score(HOUSE, TREE, SUN) == 1
    assert score(TREE, SUN, HOUSE) == 1, "in any order"
    assert score(HOUSE) == pytest.approx(1 / 3)
    # The house lacks its door: 2/3 of a third. A second sun has no right: 6 of 7 lines.
    doorless = HOUSE.rpartition("\n")[0]
    assert score(doorless, TREE, SUN) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert score(HOUSE, TREE, SUN, SUN) == pytest.approx(6 / 7)


FAULTS: dict[str, tuple[Callable[[str], str], float]] = {
    "floats": (lambda s: s.replace("red 1 0", "red 1 2"), 0.93),
    "roof too high": (lambda s: s.replace("brown 1 4", "brown 1 6"), 0.8),
    "roof aside": (lambda s: s.replace("brown 1 4", "brown 5 4"), 0.8),
    "roof too small": (lambda s: s.replace("brown 1 4 6", "brown 2 4 4"), 0.8),
    "door in the air": (lambda s: s.replace("brown 3 0", "brown 3 1"), 0.8),
    "wrong colour": (lambda s: s.replace("red", "blue"), 0.4),
    "crown off the trunk": (lambda s: s.replace("green 12 5", "green 12 7"), 0.75),
    "crown aside": (lambda s: s.replace("green 12 5", "green 16 5"), 0.75),
    "sun on the ground": (lambda s: s.replace("yellow 20 13", "yellow 20 2"), 0.6),
    "outside": (lambda s: s.replace("yellow 20", "yellow 23"), 0.6),
    "tree in the house": (lambda s: s.replace(" 12 0", " 5 0").replace(" 12 5", " 5 5"), 0.5),
    "sun behind nothing": (lambda s: s.replace(SUN, ""), 0.67),
    "words": (lambda s: s + "\nand a cat", 0.9),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_lowers_the_score(name: str) -> None:
    change, most = FAULTS[name]
    right = HOUSE + TREE + SUN
    assert change(right) != right
    assert 0 < score(change(right)) <= most


def test_more_lines_never_help_a_right_picture() -> None:
    rng = random.Random(1)
    for _ in range(100):
        things = rng.choice(all_requests())
        right, extra = scene(rng, things, faults=False), scene(rng, rng.choice(all_requests()))
        if extra:
            assert picture_score(sentence(things), right + extra) < 1


# What PPO could find instead of drawings. The base's own have about .65.
EXPLOITS = {
    "nothing": ("", 0.0),
    "blank lines": ("\n\n\n", 0.0),
    "only the easiest thing": (SUN, 0.34),
    "one shape again and again": (SUN * 7, 0.06),
    "all shapes everywhere": ((HOUSE + TREE + SUN).replace("12 ", "2 ").replace("20 13", "3 12") * 3, 0.12),
    "one wall over the whole canvas": ("\nbox red 0 0 24 16", 0.12),
    "shapes without a size": ("\nbox red 1 0 0 0\ndisc yellow 20 13 0", 0.0),
    "the prompt again": (PROMPT, 0.0),
    "markup": ("<svg><rect/></svg>", 0.0),
}


@pytest.mark.parametrize("name", EXPLOITS)
def test_exploits(name: str) -> None:
    completion, most = EXPLOITS[name]
    assert score(completion) <= most
