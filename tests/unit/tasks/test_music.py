"""The gold score of tunes: right tunes are 1, each known way to break one costs, exploits are worth little."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from pipeline.tasks.grammars.tunes import EIGHTHS, faultless, tune
from pipeline.tasks.music import Marks, marks

TUNES = [faultless(random.Random(f"tune {i}")) for i in range(30)]
G = "X:1\nM:4/4\nL:1/8\nK:G\nG2 B2 d2 B2 |"
RIGHT = " c2 A2 F2 A2 | G2 B2 A2 F2 | G8 |]"

NOTE = re.compile(r"([\^_=]?[A-Ga-g][,']?)(\d?)")


def bars_of(completion: str) -> list[str]:
    return re.split(r" (?:\|\]|:\||\|)", completion)[:-1]


def in_bar(at: int, change: Callable[[str], str]) -> Callable[[str, str], str]:
    """The completion with one of its bars changed."""

    def broken(prompt: str, completion: str) -> str:
        bars = bars_of(completion)
        return completion.replace(bars[at], change(bars[at]), 1)

    return broken


def longer(bar: str) -> str:
    """Its first note is an eighth longer."""
    return NOTE.sub(lambda m: f"{m[1]}{int(m[2] or 1) + 1}", bar, count=1)


def held(prompt: str, completion: str) -> str:
    """One note as long as the bar in the place of the first bar."""
    metre = EIGHTHS[re.search(r"M:(\S+)", prompt)[1]]  # type: ignore[index]
    first = bars_of(completion)[0]
    return completion.replace(first, f" {NOTE.search(first)[1]}{metre}", 1)  # type: ignore[index]


def same_bar(prompt: str, completion: str) -> str:
    bars = bars_of(completion)
    for bar in bars[1:-1]:
        completion = completion.replace(bar, bars[0], 1)
    return completion


def off_the_tonic(prompt: str, completion: str) -> str:
    last, at = [(m[1], m.start()) for m in NOTE.finditer(completion)][-1]
    up = "CDEFGABcdefgab"[("CDEFGABcdefgab".index(last[0]) + 1) % 14]
    return completion[:at] + up + completion[at + len(last) :]


def outside_the_key(prompt: str, completion: str) -> str:
    """The tonic raised by a semitone, which no major or minor scale has, for the first note."""
    tonic = re.search(r"K:(.)", prompt)[1]  # type: ignore[index]
    return NOTE.sub(lambda m: f"^{tonic}{m[2]}", completion, count=1)


BREAKS: dict[str, Callable[[str, str], str]] = {
    "overfull bar": in_bar(0, longer),
    "underfull bar": in_bar(1, lambda bar: bar[: bar.rindex(" ")]),
    "overfull last bar": in_bar(-1, longer),
    "no closing bar line": lambda p, c: re.sub(r" (\|\]|:\|)$", " |", c),
    "no bar line at the end": lambda p, c: re.sub(r" (\|\]|:\|)$", "", c),
    "goes on after its end": lambda p, c: f"{c} G2 A2",
    "ends off the tonic": off_the_tonic,
    "a note outside the key": outside_the_key,
    "one long note": held,
    "the same bar again": same_bar,
    "one bar line fewer": lambda p, c: c.replace(" |", "", 1),
    "words in a bar": in_bar(0, lambda bar: f"{bar} la la"),
    "half of it": lambda p, c: c[: len(c) // 2],
}


def score(completion: str, prompt: str = G) -> float:
    return marks(prompt, completion).score


def test_the_tunes_are_right_and_many_kinds() -> None:
    assert [marks(*one).score for one in TUNES] == [1.0] * 30
    assert len({re.search(r"M:(\S+)", p)[1] for p, _ in TUNES}) == 4  # type: ignore[index]
    assert len({re.search(r"K:(\S+)", p)[1] for p, _ in TUNES}) == 5  # type: ignore[index]
    assert any(c.endswith(":|") for _, c in TUNES)


# Mutations caught: each of the five marks set to 1; the last bar judged by the whole metre.
@pytest.mark.parametrize("name", BREAKS)
def test_each_break_lowers_the_score(name: str) -> None:
    for prompt, completion in TUNES:
        broken = BREAKS[name](prompt, completion)
        assert broken != completion
        assert marks(prompt, broken).score < 0.96, prompt + broken


def test_breaks_of_flawed_tunes_never_help() -> None:
    rng = random.Random(7)
    for _ in range(150):
        whole = tune(rng)
        end = whole.index(" |", whole.index("\nK:") + 8) + 2
        prompt, completion = whole[:end], whole[end:]
        if bars_of(completion):
            broken = BREAKS["words in a bar"](prompt, completion)
            assert marks(prompt, broken).score <= marks(prompt, completion).score, prompt + broken
        assert marks(prompt, BREAKS["goes on after its end"](prompt, completion)).closes == 0


def test_marks_by_hand() -> None:
    assert marks(G, RIGHT) == Marks(1, 1, 1, 1, 1)
    # Two bars of three fill; no closing line, A for G; one of 12 notes outside the key; both bars move.
    flawed = " c2 A2 F2 A2 c2 | G2 ^G2 A2 F2 | G2 B2 A4"
    assert vars(marks(G, flawed)) == pytest.approx(vars(Marks(2 / 3, 0, 0, 7 / 12, 1)))
    assert score(flawed) == pytest.approx(2 / 3 * 1 * (7 / 12) / 3)


def test_a_pickup_is_complemented_by_the_last_bar() -> None:
    prompt = "X:1\nM:3/4\nL:1/8\nK:D\nA2 | d2 f2 e2 |"
    assert score(" d2 c2 B2 | A2 B2 c2 | d4 |]", prompt) == 1
    assert marks(prompt, " d2 c2 B2 | A2 B2 c2 | d6 |]").fills == pytest.approx(2 / 3)
    # The prompt itself without a pickup: then the last bar is whole.
    assert marks(prompt.replace("A2 | ", ""), " d2 c2 B2 | A2 B2 c2 | d4 |]").fills == pytest.approx(2 / 3)


def test_minor_has_its_raised_seventh() -> None:
    prompt = "X:1\nM:2/4\nL:1/8\nK:Am\nA2 c2 |"
    assert score(" B2 ^G2 | A c B ^G | A4 |]", prompt) == 1
    assert marks(prompt, " B2 ^F2 | A c B ^G | A4 |]").in_key < 1


# What PPO could find instead of music. The base's own tunes have about .6.
EXPLOITS = {
    "nothing": ("", 0.0),
    "the end at once": (" |]", 0.0),
    "one long note": (" G8 |]", 0.12),
    "long notes": (" G8 | G8 | G8 |]", 0.34),
    "one bar again and again": (" G2 B2 d2 B2 | G2 B2 d2 B2 | G8 |]", 0.34),
    "two bars in turn": (" c2 A2 c2 A2 | G2 A2 G2 A2 | c2 A2 c2 A2 | G2 A2 G2 A2 | c2 A2 c2 A2 | G8 |]", 0.9),
    "overfull bars": (" G8 A8 B8 | c8 B8 A8 | G16 |]", 0.0),
    "no bar lines": (" c2 A2 F2 A2 G2 B2 A2 F2 G8 |]", 0.0),
    "rests": (" z8 | z8 | z8 |]", 0.0),
    "bar lines": (" | | | | |]", 0.0),
    "a header again": ("\nM:1/8\nK:C\nC | D | C |]", 0.0),
}


@pytest.mark.parametrize("name", EXPLOITS)
def test_exploits(name: str) -> None:
    completion, most = EXPLOITS[name]
    assert score(completion) <= most
