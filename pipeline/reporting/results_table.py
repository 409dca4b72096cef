"""Write the results table of the README and its figures in docs/results.json, which a test compares."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.results.measured import Measured
from pipeline.results.policy import Evaluation
from pipeline.results.sides import SIDES
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import UNKNOWN, escape_cell, interval, number
from pipeline.texts.collapse import number as effective
from pipeline.texts.collapse import percent

HEADINGS = (
    "run",
    "gold, base",
    "gold, policy",
    "gold, difference",
    "proxy score, difference",
    "win rate (gold)",
    "gold, less best-of-n's",
    "closing sentences (effective)",
    "most common closing",
    Measured.KL_K1.column,
    Measured.LENGTH.column,
    Measured.PAIR_ACCURACY.about.heading,
    "minutes",
)


FIGURES = (
    *("gold_score.base", "gold_score.policy", "gold_score.difference", "score.difference", "win_rate.gold_score"),
    *("kl_k1", "length.base", "length.policy", "diversity.closings.base", "diversity.closings.policy"),
    *("diversity.closing.base.share", "diversity.closing.policy.share"),
)
"""The figures in the table, by their keys in ``Evaluation.figures``."""


@dataclass(frozen=True)
class ResultsRow:
    """One run of the results table.

    Attributes:
        figures: :data:`FIGURES`, ``reward_accuracy`` on held-out pairs, and ``less_best_of_n``: the policy's gold
            score less that of best-of-n from the base; unknown ones are missing.
        best_of: the n of best-of-n.
        minutes: wall time of the whole run.
        source: reference and content id of each version, by role.
    """

    name: str
    figures: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    best_of: int | None = None
    minutes: float | None = None
    source: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(
        cls,
        name: str,
        evaluation: Evaluation,
        reward_accuracy: Estimate | None = None,
        minutes: float | None = None,
        source: Mapping[str, str] | None = None,
    ) -> ResultsRow:
        """The row of one evaluation."""
        measured = evaluation.figures
        figures = {path: measured[path] for path in FIGURES if path in measured}
        line, best_of = evaluation.best_of_n.yardstick.get("gold_score"), None
        if reward_accuracy is not None:
            figures["reward_accuracy"] = reward_accuracy
        if line is not None:
            best_of, figures["less_best_of_n"] = line.compared
        return cls(name, figures, best_of, minutes, source or {})


def results_table(rows: Sequence[ResultsRow]) -> str:
    """A Markdown table with a row per run; a sentence where there are none."""
    if not rows:
        return "No reports yet, and the table is made of them. Run: make"
    lines = [HEADINGS, ("---",) + ("---:",) * (len(HEADINGS) - 1), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def to_json(rows: Sequence[ResultsRow]) -> str:
    """The text of docs/results.json: the table's figures and their sources."""
    runs: list[dict[str, Any]] = []
    for row in rows:
        figures = {name: _rounded(estimate) for name, estimate in row.figures.items()}
        about = {"best_of": row.best_of, "minutes": row.minutes, "source": dict(row.source)}
        runs.append({"name": row.name, "figures": figures, **{k: v for k, v in about.items() if v}})
    return json.dumps({"runs": runs}, ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> list[ResultsRow]:
    """The rows that :func:`to_json` wrote."""
    rows: list[ResultsRow] = []
    for run in json.loads(text)["runs"]:
        empty = {"value": math.nan, "low": math.nan, "high": math.nan}
        figures = {name: Estimate(**empty | entry) for name, entry in run["figures"].items()}
        rows.append(
            ResultsRow(run["name"], figures, run.get("best_of"), run.get("minutes"), run.get("source", {}))
        )
    return rows


def _rounded(estimate: Estimate) -> dict[str, float]:
    """The finite ones of {value, low, high}, to six digits, and n."""
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {k: round(v, 6) for k, v in numbers.items() if math.isfinite(v)} | {"n": estimate.n}


def _cells(row: ResultsRow) -> tuple[str, ...]:
    figures = row.figures
    best_of = f", n = {row.best_of}" if row.best_of else ""
    return (
        escape_cell(row.name),
        number(_value(row, "gold_score.base")),
        number(_value(row, "gold_score.policy")),
        interval(figures.get("gold_score.difference"), signed=True),
        interval(figures.get("score.difference"), signed=True),
        interval(figures.get("win_rate.gold_score")),
        interval(figures.get("less_best_of_n"), signed=True) + best_of,
        _before_and_after(row, "diversity.closings.{}", effective),
        _before_and_after(row, "diversity.closing.{}.share", percent),
        number(_value(row, "kl_k1"), 1),
        _before_and_after(row, "length.{}", lambda value: number(value, 0)),
        interval(figures.get("reward_accuracy")),
        number(row.minutes, 0 if (row.minutes or 0) >= 10 else 1),
    )


def _value(row: ResultsRow, name: str) -> float | None:
    estimate = row.figures.get(name)
    return estimate.value if has_value(estimate) else None


def _before_and_after(row: ResultsRow, name: str, spelt: Callable[[float], str]) -> str:
    """``83 → 4.5``; one dash where neither is known."""
    values = [_value(row, name.format(side)) for side in SIDES]
    if all(value is None for value in values):
        return UNKNOWN
    return " → ".join(UNKNOWN if value is None else spelt(value) for value in values)
