"""Pictures as lines of shapes, such as ``box red 3 0 6 4``: what the gold score checks and what pages draw.

A line is a shape, a colour and whole numbers, in units of a canvas of :data:`WIDTH` by :data:`HEIGHT`. The height
above the ground counts upwards, and 0 is the ground:

- ``box COLOUR x y w h``: left, bottom, width, height
- ``tri COLOUR x y w h``: a triangle with its base at the bottom and its tip in the middle
- ``disc COLOUR x y r``: centre, radius
"""

from __future__ import annotations

import re
from dataclasses import dataclass

WIDTH, HEIGHT = 24, 16
COLOURS = {
    "red": "#c0392b",
    "blue": "#2e6da4",
    "white": "#ffffff",
    "grey": "#8d949b",
    "brown": "#7a4a21",
    "green": "#2e8b57",
    "orange": "#e67e22",
    "yellow": "#f4c20d",
}
SKY, GRASS, EDGE = "#cfe8f7", "#9bc587", "#333333"
MOST_SHAPES = 60
"""A text with more lines is drawn up to here."""

_LINE = re.compile(
    r"(?:(box|tri) (\w+) (\d{1,2}) (\d{1,2}) (\d{1,2}) (\d{1,2})|(disc) (\w+) (\d{1,2}) (\d{1,2}) (\d{1,2}))"
)


@dataclass(frozen=True)
class Shape:
    """One shape; a disc's ``x`` and ``y`` are those of the square around it, and ``w = h = 2 r``."""

    kind: str
    colour: str
    x: int
    y: int
    w: int
    h: int

    @property
    def inside(self) -> bool:
        """Whether all of it is on the canvas, and any of it to be seen."""
        return self.x >= 0 and self.y >= 0 and self.right <= WIDTH and self.top <= HEIGHT and self.w * self.h > 0

    @property
    def right(self) -> int:
        return self.x + self.w

    @property
    def top(self) -> int:
        return self.y + self.h

    def overlaps(self, other: Shape) -> bool:
        """Whether the boxes around the two share an area."""
        return self.x < other.right and other.x < self.right and self.y < other.top and other.y < self.top


def parse_picture(text: str) -> list[Shape | None]:
    """The shapes of a text, line by line; None is a line that is no shape. Empty lines are left out."""
    return [_shape(line.strip()) for line in text.split("\n") if line.strip()]


def _shape(line: str) -> Shape | None:
    match = _LINE.fullmatch(line)
    if match is None or (match[2] or match[8]) not in COLOURS:
        return None
    if match[1]:
        x, y, w, h = (int(match[i]) for i in range(3, 7))
        return Shape(match[1], match[2], x, y, w, h)
    x, y, r = (int(match[i]) for i in range(9, 12))
    return Shape("disc", match[8], x - r, y - r, 2 * r, 2 * r)
