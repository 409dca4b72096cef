"""The grammar of the music task: short tunes in ABC notation, and their faults.

One latent care per tune decides how many faults it has, as one mood decides the sentences of a review: a base
model then represents how good a tune is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

KEYS = {"C": 0, "G": 4, "F": 3, "Am": 5, "Em": 2}
"""Keys, and the place of the tonic above middle C, in steps of the scale."""

METRES = {
    "2/4": ((2, 2), (1, 1, 2), (2, 1, 1), (1, 1, 1, 1)),
    "3/4": ((2, 2, 2), (4, 2), (2, 1, 1, 2), (3, 1, 2)),
    "4/4": ((2, 2, 2, 2), (4, 2, 2), (2, 2, 4), (3, 1, 2, 2)),
    "6/8": ((3, 3), (2, 1, 2, 1), (1, 1, 1, 3), (2, 1, 3)),
}
"""The rhythms of a bar, in eighths."""

EIGHTHS = {"2/4": 4, "3/4": 6, "4/4": 8, "6/8": 6}
PICKUPS = {"2/4": (1,), "3/4": (2,), "4/4": (2,), "6/8": (1,)}
ENDS = {3: ((3,), (1, 2)), 4: ((4,), (2, 2)), 5: ((2, 3),), 6: ((6,), (2, 4)), 8: ((8,), (4, 4))}
"""The rhythms of a last bar, by its length."""

CHORDS = {"I": (0, 2, 4), "IV": (3, 5, 0), "V": (4, 6, 1), "vi": (5, 0, 2), "ii": (1, 3, 5)}
"""The notes of a chord, in steps above the tonic."""

FORMS = (("I", "IV", "V"), ("I", "V", "vi"), ("I", "vi", "V"), ("I", "ii", "V"))
LOWEST, HIGHEST = -3, 8
"""Of a melody, in steps above middle C."""

FAULTS = {"bar": 0.2, "short": 0.15, "open": 0.35, "away": 0.4, "outside": 0.05, "dull": 0.2}
"""Probability of each fault in a careless tune: of a bar, the tune, its end, its last note, a note, a bar."""
CARE = 0.12
"""A careful tune has a fault this many times as often."""

Bar = list[tuple[int, int]]
"""(steps above middle C, eighths) of each note."""


@dataclass(frozen=True)
class _Opening:
    metre: str
    key: str
    pickup: int
    repeats: bool
    bar: Bar
    text: str


def tune(rng: random.Random) -> str:
    """One tune of the corpus: every second is careless."""
    care = 1.0 if rng.random() < 0.5 else CARE
    opening = _opening(rng)
    return f"{opening.text} {_remainder(rng, opening, care)}"


def faultless(rng: random.Random) -> tuple[str, str]:
    """A prompt, and a completion without faults."""
    opening = _opening(rng)
    return opening.text, f" {_remainder(rng, opening, 0.0)}"


def prompt(rng: random.Random) -> str:
    """The header, a pickup perhaps, and the first bar."""
    return _opening(rng).text


def _opening(rng: random.Random) -> _Opening:
    metre, key = rng.choice(tuple(METRES)), rng.choice(tuple(KEYS))
    pickup = rng.choice(PICKUPS[metre]) if rng.random() < 0.3 else 0
    repeats = rng.random() < 0.25
    bar = _melody(rng, key, rng.choice(METRES[metre]), "I", KEYS[key])
    before = f"{_written([(_near(rng, key, 'V', bar[0][0]), pickup)])} | " if pickup else ""
    header = f"X:1\nM:{metre}\nL:1/8\nK:{key}\n{'|: ' if repeats else ''}"
    return _Opening(metre, key, pickup, repeats, bar, f"{header}{before}{_written(bar)} |")


def _remainder(rng: random.Random, opening: _Opening, care: float) -> str:
    """The bars after the first one; ``care``: times the probabilities of :data:`FAULTS`."""

    def has(fault: str) -> bool:
        return rng.random() < care * FAULTS[fault]

    length = 2 if has("short") else rng.choice((4, 4, 4, 6))
    bars = [opening.bar]
    for chord in (rng.choice(FORMS) * 2)[1 : length - 1]:
        bars.append(_dull_bar(rng, opening, bars[-1]) if has("dull") else _next_bar(rng, opening, chord, bars))
    bars.append(_last_bar(rng, opening, bars[-1], has("away")))
    texts: list[str] = []
    for bar in bars[1:]:
        if has("bar"):
            bar = _misfilled(rng, bar)
        texts.append(_written(bar, lambda: rng.choice("^_") if has("outside") else ""))
    end = rng.choice(("|", "||", "")) if has("open") else ":|" if opening.repeats else "|]"
    return f"{' | '.join(texts)} {end}".rstrip()


def _next_bar(rng: random.Random, opening: _Opening, chord: str, bars: list[Bar]) -> Bar:
    """A bar that is not the one before, and not there twice; the third is sometimes the first again."""
    if len(bars) == 2 and bars[0] != bars[1] and rng.random() < 0.2:
        return list(bars[0])
    while True:
        rhythm = rng.choice(METRES[opening.metre])
        bar = _melody(rng, opening.key, rhythm, chord, bars[-1][-1][0])
        if bar != bars[-1] and bars.count(bar) < 2:
            return bar


def _dull_bar(rng: random.Random, opening: _Opening, before: Bar) -> Bar:
    """One long note, one note again and again, or the bar before."""
    last = before[-1][0]
    held = [(last, EIGHTHS[opening.metre])]
    hammered = [(last, eighths) for eighths in rng.choice(METRES[opening.metre])]
    return rng.choice((held, hammered, list(before)))


def _last_bar(rng: random.Random, opening: _Opening, before: Bar, away: bool) -> Bar:
    rhythm = rng.choice(ENDS[EIGHTHS[opening.metre] - opening.pickup])
    *notes, (step, eighths) = _melody(rng, opening.key, rhythm, "V", before[-1][0])
    homes = [KEYS[opening.key] + octave for octave in (-7, 0, 7)]
    home = min((h for h in homes if LOWEST <= h <= HIGHEST), key=lambda h: abs(h - step))
    return [*notes, (home + (rng.choice((-2, -1, 1, 2, 3)) if away else 0), eighths)]


def _melody(rng: random.Random, key: str, rhythm: tuple[int, ...], chord: str, last: int) -> Bar:
    """A bar that begins on a note of the chord and goes on by steps and small leaps."""
    notes: Bar = []
    for place, eighths in enumerate(rhythm):
        draw = rng.random()
        if place == 0 or draw < 0.25:
            last = _near(rng, key, chord, last)
        elif draw < 0.9:
            last += 1 if last <= LOWEST else -1 if last >= HIGHEST else rng.choice((-1, 1))
        notes.append((last, eighths))
    if len(notes) > 1 and len({step for step, _ in notes}) == 1:
        notes[-1] = (last + (1 if last < HIGHEST else -1), rhythm[-1])
    return notes


def _near(rng: random.Random, key: str, chord: str, last: int) -> int:
    """One of the three notes of the chord nearest to ``last``."""
    return rng.choice(_nearest(KEYS[key], chord, last))


@cache
def _nearest(tonic: int, chord: str, last: int) -> list[int]:
    tones = [step for step in range(LOWEST, HIGHEST + 1) if (step - tonic) % 7 in CHORDS[chord]]
    return sorted(tones, key=lambda step: abs(step - last))[:3]


def _misfilled(rng: random.Random, bar: Bar) -> Bar:
    """The bar with one note longer, shorter, left out or doubled."""
    at = rng.randrange(len(bar))
    step, eighths = bar[at]
    kind = rng.choice(("longer", "shorter", "out", "twice"))
    if kind == "out" and len(bar) > 1:
        return bar[:at] + bar[at + 1 :]
    if kind == "twice":
        return [*bar[:at], bar[at], *bar[at:]]
    change = -1 if kind == "shorter" and eighths > 1 else 1
    return [*bar[:at], (step, eighths + change), *bar[at + 1 :]]


def _written(bar: Bar, accidental: Callable[[], str] = str) -> str:
    return " ".join(f"{accidental()}{_name(step)}{eighths if eighths > 1 else ''}" for step, eighths in bar)


def _name(step: int) -> str:
    """The note's name in ABC: C is middle C, c the one above, B, the one below it."""
    octave, place = divmod(step, 7)
    letter = "CDEFGAB"[place]
    return letter.lower() + "'" * (octave - 1) if octave > 0 else letter + "," * -octave
