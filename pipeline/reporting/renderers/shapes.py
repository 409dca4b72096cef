"""Draw a picture of shapes as SVG, from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.texts.shape_pictures import COLOURS, EDGE, GRASS, HEIGHT, MOST_SHAPES, SKY, WIDTH, Shape

GROUND = 2
"""Height of the strip of grass below the canvas."""


def shapes_svg(shapes: Sequence[Shape]) -> str:
    """An ``<svg>`` with the sky, the ground, and the shapes in their order."""
    drawn = "".join(_element(shape) for shape in shapes[:MOST_SHAPES])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + GROUND}" role="img" '
        'aria-label="the drawing">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{SKY}"/>'
        f'<rect y="{HEIGHT}" width="{WIDTH}" height="{GROUND}" fill="{GRASS}"/>'
        f'<g stroke="{EDGE}" stroke-width="0.12" stroke-linejoin="round">{drawn}</g></svg>'
    )


def _element(shape: Shape) -> str:
    fill, base, top = COLOURS[shape.colour], HEIGHT - shape.y, HEIGHT - shape.top
    if shape.kind == "box":
        return f'<rect x="{shape.x}" y="{top}" width="{shape.w}" height="{shape.h}" fill="{fill}"/>'
    if shape.kind == "tri":
        path = f"M{shape.x} {base}H{shape.right}L{shape.x + shape.w / 2} {top}Z"
    else:
        r, middle = shape.w / 2, HEIGHT - shape.y - shape.h / 2
        path = f"M{shape.x} {middle}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z"
    return f'<path d="{path}" fill="{fill}"/>'
