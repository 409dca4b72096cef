"""Check that an SVG only draws, before it goes into a page as markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from markupsafe import Markup

ELEMENTS = frozenset(
    ("svg", "g", "path", "defs", "clipPath", "pattern", "rect", "use", "style", "text", "tspan", "title", "line")
)
SVG = "{http://www.w3.org/2000/svg}"
HREFS = ("href", "{http://www.w3.org/1999/xlink}href")
ELSEWHERE = re.compile(r"@import|url\(\s*['\"]?(?!#)", re.IGNORECASE)


def safe_svg(svg: str) -> Markup:
    """Return ``svg`` as markup if it has only shapes, text and links into itself.

    Raises:
        ValueError: it has anything else, such as handlers or external files.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as err:
        raise ValueError(f"not an SVG: {err}") from err
    for node in root.iter():
        name = str(node.tag).removeprefix(SVG)
        if name not in ELEMENTS or ELSEWHERE.search(node.text or ""):
            raise ValueError(f"an SVG with <{name}> is not a plain picture")
        for key, value in node.attrib.items():
            leaves = (key in HREFS and not value.startswith("#")) or ELSEWHERE.search(value)
            if key.startswith("on") or leaves:
                raise ValueError(f"an SVG with {key}={value[:40]!r} is not a plain picture")
    if root.tag != f"{SVG}svg" or "<!" in svg.replace("<!--", ""):
        raise ValueError("an SVG must be one <svg> element without a document type")
    return Markup(svg)
