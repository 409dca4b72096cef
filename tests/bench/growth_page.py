"""Draw docs/growth.png, and write the table of growth into docs/speed.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting.figures.common import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, styled
from tests.bench.growth import AXES, Point, curves, table

PICTURE, PAGE = Path("docs/growth.png"), Path("docs/speed.md")
LOOKS = {
    "sft": (GREEN, "s"), "collect": (ORANGE, "^"), "reward": (BLUE, "o"), "ppo": (RED, "D"),
    "evaluate": (PURPLE, "v"), "store": (GREY, "x"),
}  # fmt: skip
SHOWN = ("prompt", "completion", "batch", "model")


def draw(points: Sequence[Point], machine: dict[str, Any]) -> None:
    """Write both, from all points."""
    figure(points).savefig(PICTURE, dpi=150, metadata={"Software": None})
    names = " ".join(machine["instructions"])
    caption = f"{machine['name']} ({names}), {machine['cores']} core{'s' if machine['cores'] > 1 else ''}, fp32."
    made = f"<!-- growth:begin -->\n{caption}\n\n{table(points)}\n<!-- growth:end -->"
    text = PAGE.read_text()
    PAGE.write_text(re.sub(r"<!-- growth:begin -->.*<!-- growth:end -->", lambda _: made, text, flags=re.DOTALL))


@styled
def figure(points: Sequence[Point]) -> Figure:
    """Seconds above and megabytes below, against each quantity, all on logarithmic scales."""
    fig = Figure(figsize=(11, 5.2), layout="constrained")
    panels: Any = fig.subplots(2, len(SHOWN), sharex="col", sharey="row")
    for (stage, axis), curve in curves(points).items():
        if axis not in SHOWN:
            continue
        colour, marker = LOOKS[stage]
        for row, values in enumerate(([p.seconds for p in curve], [p.mb for p in curve])):
            ax = panels[row][SHOWN.index(axis)]
            ax.plot([p.x for p in curve], values, color=colour, marker=marker, markersize=4, label=stage)
    for row, name in enumerate(("seconds", "megabytes added")):
        panels[row][0].set_ylabel(name)
        for column, axis in enumerate(SHOWN):
            ax = panels[row][column]
            ax.set_xscale("log", base=10 if axis == "model" else 2)
            ax.set_yscale("log")
            ax.tick_params(colors=INK)
            if row:
                ax.set_xlabel(AXES[axis])
                if axis != "model":
                    ticks = sorted({p.x for p in points if p.axis == axis})
                    ax.set_xticks(ticks, [f"{t:.0f}" for t in ticks])
    handles, labels = panels[0][0].get_legend_handles_labels()
    more = [h for h in zip(*panels[0][1].get_legend_handles_labels(), strict=True) if h[1] not in labels]
    fig.legend(
        [*handles, *(h for h, _ in more)], [*labels, *(n for _, n in more)], loc="outside lower center", ncols=6
    )
    return fig
