"""The page's renderer and the gold score mean the same picture."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.texts import shape_pictures
from pipeline.texts.shape_pictures import COLOURS, HEIGHT, MOST_SHAPES, WIDTH, Shape, parse_picture

SCRIPT = Path(__file__).parents[3] / "pipeline/labelling/web/static/renderers/shapes.js"


def test_the_pages_script_has_the_same_numbers_and_colours() -> None:
    script = SCRIPT.read_text(encoding="utf-8")
    for name, value in (("WIDTH", WIDTH), ("HEIGHT", HEIGHT), ("MOST_SHAPES", MOST_SHAPES)):
        assert f"const {name} = {value};" in script
    colours = re.search(r"const COLOURS = \{(.*?)\};", script, re.DOTALL)
    assert colours
    assert dict(re.findall(r'(\w+): "(#\w+)"', colours[1])) == COLOURS
    for name in ("SKY", "GRASS", "EDGE"):
        assert f'"{getattr(shape_pictures, name)}"' in script


def test_places() -> None:
    (disc,) = parse_picture("disc red 4 5 3")
    assert disc == Shape("disc", "red", 1, 2, 6, 6)
    assert disc is not None
    assert (disc.right, disc.top, disc.inside) == (7, 8, True)
    assert not disc.overlaps(Shape("box", "red", 7, 2, 2, 2)), "side by side"
    assert disc.overlaps(Shape("box", "red", 6, 2, 2, 2))
    inside = {line: bool(s and s.inside) for line in LINES for s in parse_picture(line)}
    assert inside == LINES


LINES = {
    "box red 0 0 24 16": True,
    "box red 1 0 24 16": False,
    "box red 0 1 24 16": False,
    "disc red 2 5 3": False,
    "disc red 5 2 3": False,
    "box red 3 3 0 4": False,
}
