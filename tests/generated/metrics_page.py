"""Write the tables of docs/metrics.md from the catalogue of metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pipeline.base.markdown import replace_between
from pipeline.health import RULES
from pipeline.results.measured import Measured
from pipeline.results.metrics import Logged, Metric, Place

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def page(text: str) -> str:
    """docs/metrics.md with its tables as the catalogue has them.

    Raises:
        DataError: a table's markers are missing or doubled.
    """
    for place in get_args(Place):
        text = replace_between(text, place, table([*Logged.at(place), *Measured.at(place)]), "docs/metrics.md")
    return text


def table(metrics: Sequence[Metric]) -> str:
    """A row for each; columns that none of them has are left out."""
    rows = [
        (
            f'<a id="{metric.anchor}"></a>`{metric}`',
            metric.about.meaning,
            metric.about.unit,
            healthy(metric),
            metric.about.trl,
        )
        for metric in metrics
    ]
    head = ("metric", "meaning", "unit", "healthy", "TRL 1.12")
    shown = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[row[i] for i in shown] for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def healthy(metric: Metric) -> str:
    """In words, and which of the doctor's rules look at it, past which limit."""
    limits = [f"{limit:g}" for limit in (metric.about.low, metric.about.high) if math.isfinite(limit)]
    rules = [rule.name for rule in RULES if any(metric in need.split("|") for need in rule.needs)]
    if metric in (Logged.UPDATE, Logged.EPISODE):  # rules need them to count by
        rules = []
    links = ", ".join(f"[{name}](doctor.md#{name})" for name in rules)
    limit = f"limit {' and '.join(limits)}" if limits else ""
    return "; ".join(part for part in (metric.about.healthy, limit, links) if part)


def write() -> None:
    """Write the tables into docs/metrics.md."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
