"""What a sample's texts stand for, drawn for the report: a page without scripts."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.reporting.renderers.shapes import shapes_svg
from pipeline.reporting.renderers.staff import staff_svg
from pipeline.reporting.renderers.tones import sounding, wav
from pipeline.reporting.svg import safe_svg
from pipeline.texts.abc_tunes import parse_tune
from pipeline.texts.shape_pictures import parse_picture


def _tune(prompt: str, completion: str) -> Markup | None:
    tune = parse_tune(prompt + completion)
    if not sounding(tune):
        return None
    audio = Markup('<audio controls preload="none" aria-label="the tune" src="{}"></audio>').format(wav(tune))
    return safe_svg(staff_svg(tune)) + audio


def _shapes(prompt: str, completion: str) -> Markup | None:
    shapes = [shape for shape in parse_picture(completion) if shape is not None]
    return safe_svg(shapes_svg(shapes)) if shapes else None


RENDERERS = {"abc": _tune, "shapes": _shapes}
"""(prompt, completion) as markup by the name of a task's renderer; None where there is nothing to draw."""


def drawn(renderer: str | None, prompt: str, completion: str) -> Markup | None:
    """The picture of a completion; None without a renderer, or where nothing can be drawn."""
    return RENDERERS[renderer](prompt, completion) if renderer in RENDERERS else None
