"""The results table and its place in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.base.markdown import replace_between
from pipeline.reporting.results_table import (
    ResultsRow,
    from_json,
    results_table,
    to_json,
)
from pipeline.statistics.spelling import interval, number
from tests.unit.reporting.given import change, entry, estimate, evaluation, stats_json, varied_json, wins

REPOSITORY = Path(__file__).parents[3]

LARGEST = {"n": 32, "kl_bound": 2.5, "difference": entry(-0.08, -0.15, -0.03, 64)}
LINE = {"policy": entry(0.5), "policy_kl_k1": 5.12, "d": 2.3, "n_needed": 582, "within": False, "largest": LARGEST}
STATS = stats_json(
    score=change(0.0, -0.5, -0.7, -0.3),
    win_rate={"gold_score": wins(0.8, 0.74, 0.85)},
    kl_k1={**entry(5.12, 4.9, 5.3), "standard_error": 0.1},
    best_of_n={"reason": None, "yardstick": {"gold_score": LINE}},
    length=change(23.6, 25.1, 1, 3),
    diversity=varied_json(),
)
DEMO = ResultsRow.of("demo", evaluation(STATS), estimate(0.78, 0.72, 0.83, 240), 4.6, {"policy": "demo@v1 id"})


# Catches: base and policy swapped, a lost sign, low and high swapped.
def test_a_row_by_hand() -> None:
    row = results_table([DEMO]).splitlines()[2]
    assert row == (
        "| demo | 0.11 | 0.57 | +0.46 [0.40, 0.52] | −0.50 [−0.70, −0.30] | 0.80 [0.74, 0.85] "
        "| −0.08 [−0.15, −0.03], n = 32 | 83 → 4.5 | 6 % → 52 % | 5.1 | 24 → 25 | 0.78 [0.72, 0.83] | 4.6 |"
    )


def test_every_row_has_the_width_of_the_heading() -> None:
    lines = results_table([ResultsRow("a|b\n<i>"), DEMO]).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "<i>" not in lines[2]
    assert lines[2].count("–") == 12  # nothing known, nothing invented
    assert "No reports yet" in results_table([])


# Catches: the largest n where the policy's own KL is within reach, and n_needed where it is not.
def test_against_best_of_n_at_the_policys_kl_or_at_the_largest_n() -> None:
    reached = {**LINE, "within": True, "n_needed": 19, "best_of_n": entry(0.48), "difference": entry(0.02)}
    for line, best_of, value in ((LINE, 32, -0.08), (reached, 19, 0.02)):
        best = {"reason": None, "yardstick": {"gold_score": line}}
        row = ResultsRow.of("demo", evaluation(STATS | {"best_of_n": best}))
        assert (row.best_of, row.figures["less_best_of_n"].value) == (best_of, value)
    without = ResultsRow.of("demo", evaluation(STATS | {"best_of_n": {"reason": "no gold score"}}))
    assert without.best_of is None
    assert "less_best_of_n" not in without.figures


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (None, False, "–"),
        (float("nan"), False, "–"),
        (-0.001, True, "0.00"),
        (-1.5, False, "−1.50"),
        (2, True, "+2.00"),
    ],
)
def test_number(value: float | None, signed: bool, text: str) -> None:
    assert number(value, signed=signed) == text


def test_an_interval_without_limits_is_its_value() -> None:
    assert interval(estimate(2.0, n=1)) == "2.00"
    assert interval(None) == "–"


# Catches: a figure in the README that was typed, or left behind by a newer run.
def test_the_readme_shows_the_results_that_are_kept_beside_it() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    kept = from_json((REPOSITORY / "docs" / "results.json").read_text(encoding="utf-8"))
    mend = "Run: make table README=README.md (from versions), never edit the table by hand."
    assert replace_between(readme, "results", results_table(kept), "README") == readme, mend
    assert kept
    assert all(run.source for run in kept)


# Catches: a column that is not kept, digits lost before they are rounded for the table.
def test_kept_results_give_the_same_table() -> None:
    text = to_json([DEMO, ResultsRow("bare")])
    again = from_json(text)
    assert results_table(again) == results_table([DEMO, ResultsRow("bare")])
    assert again[0].source == {"policy": "demo@v1 id"}
    assert to_json(again) == text
    figures = json.loads(text)["runs"][0]["figures"]
    assert figures["gold_score.difference"] == {"value": 0.46, "low": 0.4, "high": 0.52, "n": 200}
    assert len(figures) == 14
    assert figures["diversity.closing.policy.share"] == {"value": 0.52, "low": 0.51, "high": 0.53, "n": 200}
