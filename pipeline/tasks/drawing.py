"""Draw the scene that a prompt asks for, as lines of shapes. Needs no download.

The prompt is a sentence such as ``Draw a red house and a green tree.``; the completion is a picture, one shape a
line (:mod:`pipeline.texts.shape_pictures`), which pages draw. The base learns from a grammar of our own, and the
gold score looks at where the shapes are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.tasks import Split
from pipeline.tasks._pool import PromptPool, pool_by_hash
from pipeline.tasks.grammars.scenes import COLOURS, FLOOR_OF_SKY, Thing, all_requests, scene, sentence
from pipeline.texts.shape_pictures import Shape, parse_picture

GOLD_NAME = "picture by its parts (0..1)"


@dataclass
class Task:
    """Draw two or three things.

    Args:
        corpus_size: scenes to pretrain on, every second of them careless.
        test_share: share of the prompts that are test prompts.
        completion_tokens: most tokens in a completion.
    """

    corpus_size: int = 8000
    test_share: float = 0.2
    completion_tokens: int = 72
    gold_name: str | None = field(init=False, default=GOLD_NAME)
    renderer: str | None = field(init=False, default="shapes")

    @cached_property
    def _pool(self) -> PromptPool:
        return pool_by_hash(map(sentence, all_requests()), self.test_share, "task drawing")

    def corpus(self, seed: int) -> list[str]:
        rng = random.Random(f"corpus {seed}")
        train = set(self._pool.train)
        requests = [request for request in all_requests() if sentence(request) in train]
        chosen = (rng.choice(requests) for _ in range(self.corpus_size))
        return [sentence(things) + scene(rng, things) for things in chosen]

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """See :func:`picture_score`."""
        return [picture_score(p, c) for p, c in zip(prompts, completions, strict=True)]


_THING = re.compile(rf"\b({'|'.join(sorted({c for cs in COLOURS.values() for c in cs}))}) ({'|'.join(COLOURS)})\b")


def picture_score(prompt: str, completion: str) -> float:
    """How much of what was asked is there, times the share of lines that have a right to be there; in [0, 1].

    - Each thing asked for counts by its parts, in its colour and its place: a house has a wall that stands on the
      ground, a roof that covers the wall and lies on it, and a door in it; a tree has a trunk on the ground and a
      crown on the trunk; a sun is in the sky; a cloud is two discs in the sky that touch.
    - A line has a right to be there if it is a shape inside the canvas that is part of a thing asked for, and
      overlaps no other thing. A second sun, or one shape again and again, has none.
    - Nothing drawn is 0.
    """
    things = [Thing(kind, colour) for colour, kind in _THING.findall(prompt)]
    lines = parse_picture(completion)
    if not things or not lines:
        return 0.0
    shapes = [shape for shape in lines if shape is not None and shape.inside]
    parts: list[list[Shape]] = []
    there = 0.0
    for thing in things:
        score, used = PARTS[thing.kind](shapes, thing.colour)
        there += score / len(things)
        parts.append(used)
        for shape in used:
            shapes.remove(shape)  # a part of one thing only
    rightful = sum(
        not any(shape.overlaps(other) for others in parts if others is not used for other in others)
        for used in parts
        for shape in used
    )
    return there * rightful / len(lines)


Parts = tuple[float, list[Shape]]
"""The share of a thing's parts that are in place, and all shapes that belong to it."""


def _best(candidates: list[Parts]) -> Parts:
    return max(candidates, key=lambda parts: (parts[0], -len(parts[1])), default=(0.0, []))


def _of(shapes: Sequence[Shape], kind: str, colour: str | None = None) -> list[Shape]:
    return [s for s in shapes if s.kind == kind and (colour is None or s.colour == colour)]


def _first(shapes: Sequence[Shape], fits: Callable[[Shape], bool]) -> list[Shape]:
    return [next(s for s in shapes if fits(s))] if any(map(fits, shapes)) else []


def _house(shapes: Sequence[Shape], colour: str) -> Parts:
    def around(wall: Shape) -> Parts:
        roof = _first(
            _of(shapes, "tri"),
            lambda s: s.y == wall.top and wall.x - 1 <= s.x <= wall.x and wall.right <= s.right <= wall.right + 1,
        )
        door = _first(
            _of(shapes, "box"),
            lambda s: s.y == wall.y and wall.x <= s.x and s.right <= wall.right and s.w < wall.w and s.h < wall.h,
        )
        stands = wall.y == 0 and wall.w >= 3 and wall.h >= 3
        return (stands + len(roof) + len(door)) / 3, [wall, *roof, *door]

    walls = [s for s in _of(shapes, "box", colour) if s.w >= 3]
    return _best([around(wall) for wall in walls])


def _tree(shapes: Sequence[Shape], colour: str) -> Parts:
    def around(trunk: Shape) -> Parts:
        crown = _first(
            [*_of(shapes, "disc", colour), *_of(shapes, "tri", colour)],
            lambda s: s.y <= trunk.top < s.top and s.x <= trunk.x and trunk.right <= s.right,
        )
        return ((trunk.y == 0) + len(crown)) / 2, [trunk, *crown]

    trunks = [s for s in _of(shapes, "box", "brown") if s.w <= 2 and s.h >= 2]
    return _best([around(trunk) for trunk in trunks])


def _sun(shapes: Sequence[Shape], colour: str) -> Parts:
    return _best([(1.0, [s]) for s in _of(shapes, "disc", colour) if s.y >= FLOOR_OF_SKY])


def _cloud(shapes: Sequence[Shape], colour: str) -> Parts:
    def around(disc: Shape) -> Parts:
        second = _first(high, lambda s: s is not disc and s != disc and s.overlaps(disc))
        return (1 + len(second)) / 2, [disc, *second]

    high = [s for s in _of(shapes, "disc", colour) if s.y >= FLOOR_OF_SKY]
    return _best([around(disc) for disc in high])


PARTS = {"house": _house, "tree": _tree, "sun": _sun, "cloud": _cloud}
