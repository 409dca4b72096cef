"""The grammar of the drawing task: scenes of houses, trees, suns and clouds as lines of shapes, and their faults.

One latent care per scene decides how many faults it has, as one mood decides the sentences of a review.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product

COLOURS = {
    "house": ("red", "blue", "white", "grey", "orange"),
    "tree": ("green", "orange", "yellow"),
    "sun": ("yellow", "orange"),
    "cloud": ("white", "grey"),
}
"""The things of a scene, and their colours."""

MOST_THINGS = 3
FLOOR_OF_SKY = 10
"""Height above the ground from which there is only sky: no house and no tree is so high."""

FAULTS = {"missing": 0.2, "displaced": 0.3, "incomplete": 0.25, "colour": 0.15, "outside": 0.1, "extra": 0.25}
"""Probability of each fault of a thing in a careless scene; ``extra``: something else is drawn beside it."""
CARE = 0.1
"""A careful scene has a fault this many times as often."""


@dataclass(frozen=True)
class Thing:
    """A thing that a scene should have."""

    kind: str
    colour: str

    def words(self) -> str:
        """``a red house``; ``an orange tree``."""
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self.colour} {self.kind}"


@cache
def all_requests() -> list[tuple[Thing, ...]]:
    """Two or three things in each order and each choice of colours."""
    return [
        tuple(Thing(kind, colour) for kind, colour in zip(order, colours, strict=True))
        for size in range(2, MOST_THINGS + 1)
        for kinds in combinations(COLOURS, size)
        for order in permutations(kinds)
        for colours in product(*(COLOURS[kind] for kind in order))
    ]


def sentence(things: tuple[Thing, ...]) -> str:
    """The prompt: ``Draw a red house, a green tree and a yellow sun.``"""
    *before, last = (thing.words() for thing in things)
    return f"Draw {', '.join(before)} and {last}."


def scene(rng: random.Random, things: tuple[Thing, ...], *, faults: bool = True) -> str:
    """The lines of a scene; with ``faults`` every second one is careless."""
    care = 0.0 if not faults else 1.0 if rng.random() < 0.5 else CARE

    def has(fault: str) -> bool:
        return rng.random() < care * FAULTS[fault]

    lines: list[str] = []
    slots = rng.sample((0, 8, 16), 3)
    for thing, left in zip(things, slots, strict=False):
        if has("missing"):
            continue
        x = left + 18 if has("outside") else left + rng.randrange(2)
        colour = rng.choice(COLOURS[thing.kind]) if has("colour") else thing.colour
        parts = DRAWN[thing.kind](rng, colour, x, has("displaced"))
        lines += parts[:-1] if has("incomplete") and len(parts) > 1 else parts
        if has("extra"):
            lines += DRAWN["sun"](rng, rng.choice(("red", "blue", "brown")), rng.randrange(18), False)
    return "".join(f"\n{line}" for line in lines)


def _house(rng: random.Random, colour: str, x: int, displaced: bool) -> list[str]:
    width, height = rng.choice((4, 5, 6)), rng.choice((3, 4, 5))
    floor = rng.choice((1, 2, 3)) if displaced and rng.random() < 0.5 else 0
    roof = floor + height + (rng.choice((-1, 1, 2)) if displaced and not floor else 0)
    roof_colour = rng.choice([c for c in ("brown", "red", "grey") if c != colour])
    return [
        f"box {colour} {x} {floor} {width} {height}",
        f"tri {roof_colour} {x} {roof} {width} {rng.choice((2, 3))}",
        f"box brown {x + rng.randrange(1, width - 1)} {floor} 1 2",
    ]


def _tree(rng: random.Random, colour: str, x: int, displaced: bool) -> list[str]:
    radius, height = rng.choice((2, 2, 3)), rng.choice((2, 3))
    floor = rng.choice((1, 2)) if displaced and rng.random() < 0.5 else 0
    aside = rng.choice((-2, 3)) if displaced and not floor else 0
    middle = x + radius
    return [
        f"box brown {middle} {floor} 1 {height}",
        f"disc {colour} {max(middle + aside, 0)} {floor + height + radius} {radius}",
    ]


def _sun(rng: random.Random, colour: str, x: int, displaced: bool) -> list[str]:
    radius = rng.choice((1, 2))
    height = rng.randrange(2, 7) if displaced else rng.randrange(FLOOR_OF_SKY + radius, 17 - radius)
    return [f"disc {colour} {x + radius + 1} {height} {radius}"]


def _cloud(rng: random.Random, colour: str, x: int, displaced: bool) -> list[str]:
    height = rng.randrange(3, 8) if displaced else rng.randrange(12, 15)
    return [f"disc {colour} {x + 2} {height} 2", f"disc {colour} {x + 4} {height} {rng.choice((1, 2))}"]


DRAWN = {"house": _house, "tree": _tree, "sun": _sun, "cloud": _cloud}
"""(rng, colour, left, displaced) as lines."""
