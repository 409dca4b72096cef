"""The look of all figures, and how they are saved. Each figure has a file of its own beside this one.

Matplotlib's Figure objects without pyplot, whose global state keeps figures alive.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pipeline.results.sides import Measure
from pipeline.statistics.intervals import Estimate

# Okabe and Ito 2008, "Color universal design": told apart with every common colour blindness. Line styles, markers
# and hatches say the same once more, for grey.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
GREY, INK, EDGE, GRID = "#8a8a8a", "#222222", "#666666", "#e4e4e4"
RUNS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
SETTINGS = (BLUE, RED, GREEN, PURPLE, SKY, INK)
"""Colours of a sweep's settings. Orange is for best-of-n."""

# On a page these are its own colours, which are others where it is dark; the files are for white paper.
VARIABLES = {
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    RED: "--red",
    PURPLE: "--purple",
    SKY: "--sky",
    GREY: "--grey",
    INK: "--ink",
    EDGE: "--edge",
    GRID: "--grid",
    "#ffffff": "--card",
}

# Names of judges and runs are anybody's words, and no formulas. Text as outlines, so that it looks the same where
# a font is missing; a fixed salt and no date, so that equal data give equal bytes.
STYLE: Any = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": EDGE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "rlhf-pipeline",
}
SVG_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
WIDTH = 4.8
"""Inches: half a page, and readable where a phone makes it three quarters of that."""

LABELS: Mapping[Measure, str] = {"gold_score": "gold score", "score": "proxy score"}
P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Matplotlib reads its settings while it draws, so the style covers the whole function and nothing beyond."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def as_svg(fig: Figure) -> str:
    """The figure as an SVG document. Its axes are arranged the first time, and stay where they are."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        fig.savefig(buffer, format="svg", metadata=SVG_METADATA)
        fig.set_layout_engine(None)  # arranging takes longer than drawing, and each file would begin with it
    return buffer.getvalue()


def save(fig: Figure, directory: str | Path, name: str) -> tuple[Path, Path]:
    """Write ``name``.svg and ``name``.png; equal figures give equal bytes.

    Returns:
        (path of the svg, path of the png).
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    svg, png = directory / f"{name}.svg", directory / f"{name}.png"
    svg.write_text(as_svg(fig), encoding="utf-8", newline="")
    with mpl.rc_context(STYLE):
        fig.savefig(png, dpi=200, metadata={"Software": None})
    return svg, png


def for_page(text: str, name: str) -> str:
    """An SVG document of ours as an element for a page, in the page's colours.

    No XML prolog, and ids that no other figure on the page has. Each colour of :data:`VARIABLES` becomes the
    page's variable, with itself where there is none.
    """
    text = text[text.index("<svg") :]
    prefix = re.sub(r"\W", "-", name)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)

    def themed(match: re.Match[str]) -> str:
        paint, colour = match.groups()
        variable = VARIABLES.get(colour)
        return f"{paint}: var({variable}, {colour})" if variable else match[0]

    # The ground of a hatch has an attribute, where all else has a style.
    text = re.sub(r'\bfill="(#[0-9a-f]{6})"', r'style="fill: \1"', text)
    return re.sub(r"\b(fill|stroke): (#[0-9a-f]{6})\b", themed, text).strip()


def axes(rows: int, height: float, width: float = WIDTH, **more: Any) -> tuple[Figure, list[Axes]]:
    """A figure with ``rows`` panels, one below the other; sizes in inches."""
    fig = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, hspace=0.04))
    return fig, np.atleast_1d(fig.subplots(rows, 1, **more)).ravel().tolist()


def line(ax: Axes, rows: Sequence[Mapping[str, Any]], key: str, label: str, **look: Any) -> list[Any]:
    """``key`` against update, from the rows that have it."""
    points = [(row["update"], row[key]) for row in rows if row.get(key) is not None and "update" in row]
    if not points:
        return []
    x, y = zip(*points, strict=True)
    # Of one or two points a line shows nothing.
    return ax.plot(x, y, label=label, **{"linewidth": 1.7, "marker": "o" if len(points) < 3 else None} | look)


def legend_below(fig: Figure, handles: Sequence[Any], columns: int = 2) -> None:
    """One legend for all panels; of several entries with one label, the first."""
    unique: dict[str, Any] = {}
    for handle in handles:
        unique.setdefault(handle.get_label(), handle)
    if unique:
        shown = list(unique.values())
        fig.legend(handles=shown, loc="outside lower center", ncols=min(columns, len(shown)))


def arms(estimates: Sequence[Estimate]) -> Any:
    """(2, n) lengths of the error bars' arms; 0 where an estimate has no limits."""
    return np.nan_to_num(np.abs([[e.low - e.value for e in estimates], [e.high - e.value for e in estimates]]))
