"""Results as Markdown and numbers as text. Leaves out HTML, which is the page's, and every calculation.

The table in the README and the figures in docs/results.json are written together, and a test holds them together.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import DataError
from pipeline.statistics.spelling import UNKNOWN, dig, escape_cell, interval, number
from pipeline.texts.collapse import number as effective
from pipeline.texts.collapse import percent

SIDES = ("base", "policy")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

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
    "KL k1 (nats)",
    "length (tokens)",
    "reward-model accuracy",
    "minutes",
)


@dataclass(frozen=True)
class Run:
    """One row of the results table.

    Attributes:
        stats: what ``evaluation.policy_metrics.compare`` returned.
        best_of_n: {value, low, high, n} of :func:`less_best_of_n`, and ``best_of``: its n.
        reward_accuracy: {value, low, high, n} of the reward model on held-out pairs.
        minutes: wall time of the whole run.
        source: references and content ids of the versions that the figures are from, by role.
    """

    name: str
    stats: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reward_accuracy: Mapping[str, Any] | None = None
    best_of_n: Mapping[str, Any] | None = None
    best_of: int | None = None
    minutes: float | None = None
    source: Mapping[str, str] = field(default_factory=dict[str, str])


def less_best_of_n(stats: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, int | None]:
    """(the policy's gold score less that of best-of-n from the base, n): at the policy's KL, or at the largest n
    there is where that lies beyond it.
    """
    line = dig(stats, "best_of_n", "yardstick", "gold_score")
    if dig(line, "within"):
        return line["difference"], line["n_needed"]
    return dig(line, "largest", "difference"), dig(line, "largest", "n")


def results_table(rows: Sequence[Run]) -> str:
    """A Markdown table, one row per run. Missing numbers are dashes; an empty table says so in a sentence."""
    if not rows:
        return "No reports yet, and the table is made of them. Run: make"
    lines = [HEADINGS, ("---",) + ("---:",) * (len(HEADINGS) - 1), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


FIGURES = (
    ("gold_score", "base"),
    ("gold_score", "policy"),
    ("gold_score", "difference"),
    ("score", "difference"),
    ("win_rate", "gold_score"),
    ("kl_k1",),
    ("length", "base"),
    ("length", "policy"),
    ("diversity", "closings", "base"),
    ("diversity", "closings", "policy"),
    ("diversity", "closing", "base", "share"),
    ("diversity", "closing", "policy", "share"),
)
"""What of an evaluation's stats is in the table."""


def to_json(rows: Sequence[Run]) -> str:
    """The table's figures, and where they are from, as the text of docs/results.json."""
    runs: list[dict[str, Any]] = []
    for row in rows:
        figures = {".".join(path): _rounded(found) for path in FIGURES if (found := dig(row.stats, *path))}
        if row.reward_accuracy:
            figures["reward_accuracy"] = _rounded(row.reward_accuracy)
        if row.best_of_n:
            figures["less_best_of_n"] = _rounded(row.best_of_n)
        about = {"best_of": row.best_of, "minutes": row.minutes, "source": dict(row.source)}
        runs.append({"name": row.name, "figures": figures, **{k: v for k, v in about.items() if v}})
    return json.dumps({"runs": runs}, ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> list[Run]:
    """The rows that :func:`to_json` wrote."""
    rows: list[Run] = []
    for run in json.loads(text)["runs"]:
        stats: dict[str, Any] = {}
        figures = dict(run["figures"])
        accuracy, best_of_n = (figures.pop(k, None) for k in ("reward_accuracy", "less_best_of_n"))
        for path, entry in figures.items():
            *parents, last = path.split(".")
            functools.reduce(lambda inner, name: inner.setdefault(name, {}), parents, stats)[last] = entry
        source = run.get("source", {})
        known = (accuracy, best_of_n, run.get("best_of"), run.get("minutes"))
        rows.append(Run(run["name"], stats, *known, source))
    return rows


def _rounded(entry: Mapping[str, Any]) -> dict[str, Any]:
    """{value, low, high, n} to six digits, and nothing else."""
    known = {k: entry[k] for k in ("value", "low", "high", "n") if entry.get(k) is not None}
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in known.items()}


def update_readme(text: str, table: str) -> str:
    """``text`` with ``table`` between the two markers, whatever stood there before. Idempotent.

    Raises:
        DataError: a marker is missing, doubled, or they stand in the wrong order.
    """
    for marker in (BEGIN, END):
        if text.count(marker) != 1:
            raise DataError("README", f"holds {marker} {text.count(marker)} times.", "It belongs there once.")
    head, rest = text.split(BEGIN)
    if END not in rest:
        raise DataError("README", f"{END} stands before {BEGIN}.", "Swap the two lines.")
    return f"{head}{BEGIN}\n{table.strip()}\n{END}{rest.split(END)[1]}"


def _cells(run: Run) -> tuple[str, ...]:
    stats = run.stats
    return (
        escape_cell(run.name),
        number(dig(stats, "gold_score", "base", "value")),
        number(dig(stats, "gold_score", "policy", "value")),
        interval(dig(stats, "gold_score", "difference"), signed=True),
        interval(dig(stats, "score", "difference"), signed=True),
        interval(dig(stats, "win_rate", "gold_score")),
        interval(run.best_of_n, signed=True) + (f", n = {run.best_of}" if run.best_of_n else ""),
        _before_and_after([dig(stats, "diversity", "closings", side, "value") for side in SIDES], effective),
        _before_and_after([dig(stats, "diversity", "closing", side, "share", "value") for side in SIDES], percent),
        number(dig(stats, "kl_k1", "value"), 1),
        _before_and_after([dig(stats, "length", side, "value") for side in SIDES], lambda v: number(v, 0)),
        interval(run.reward_accuracy),
        number(run.minutes, 0 if (run.minutes or 0) >= 10 else 1),
    )


def _before_and_after(values: Sequence[Any], spelt: Callable[[float], str]) -> str:
    """``83 → 4.5``; one dash where neither is known."""
    if all(value is None for value in values):
        return UNKNOWN
    return " → ".join(UNKNOWN if value is None else spelt(value) for value in values)
