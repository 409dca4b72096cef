"""The figures hold the numbers they were given, and equal data give equal files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from pipeline.reporting import figures


def entry(value: float, low: float, high: float, n: int = 50) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


STATS = {
    "gold_score": {"base": entry(0.1, 0, 0.2), "policy": entry(0.5, 0.4, 0.7), "difference": entry(0.4, 0.3, 0.5)},
    "score": {"base": entry(-1, -2, 0), "policy": entry(1, 0, 2), "difference": entry(2, 1, 3)},
}
REWARD = {
    "n": 50,
    "accuracy": entry(0.8, 0.7, 0.9),
    "baselines": [
        {"name": "bag of words", "accuracy": None, "reason": "few"},
        {"name": "longer wins", "accuracy": entry(0.6, 0.5, 0.7), "reason": None},
    ],
    "gold": None,
}
CALIBRATION = {
    "rows": [{"low": 0.5, "high": 0.6, "confidence": 0.55, "accuracy": entry(0.5, 0.3, 0.7), "count": 12}],
    "ece": 0.05,
    "brier": 0.2,
    "temperature": None,
}
ROWS = [
    {"update": u, "objective/scores": u / 10, "objective/kl": u / 5, "objective/kl_k3": u / 4} for u in range(1, 9)
]
SIDE = {"gold_score": [0.1, 0.2, 0.3], "score": [1.0, 2.0, 3.0], "length": [4, 5, 6]}


def all_figures() -> dict[str, Figure]:
    return {
        "training": figures.training_curves(ROWS, kl_target=1.0, kl_budget=1.5),
        "reliability": figures.reliability(CALIBRATION),
        "distributions": figures.score_distributions(SIDE, SIDE),
        "length": figures.length_against_score(SIDE, SIDE),
        "accuracy": figures.reward_accuracy(REWARD),
        "before_after": figures.before_after(STATS),
    }


def labels(fig: Figure) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


# Catches: k1 and k3 swapped, budget and target swapped.
def test_training_curves_hold_their_rows() -> None:
    fig = figures.training_curves(ROWS, kl_target=1.0, kl_budget=1.5)
    lines = {str(line.get_label()): line.get_ydata() for ax in fig.axes for line in ax.get_lines()}
    assert list(lines["KL k1"]) == [row["objective/kl"] for row in ROWS]
    assert list(lines["KL k3"]) == [row["objective/kl_k3"] for row in ROWS]
    assert list(lines["proxy score"]) == [row["objective/scores"] for row in ROWS]
    assert lines["KL target"][0] == 1.0
    assert lines["KL budget"][0] == 1.5
    assert "gold score" not in labels(fig)


def test_gold_gets_its_own_axis_when_present() -> None:
    rows = [{**row, "objective/gold_scores": 0.1 if i else None} for i, row in enumerate(ROWS)]
    fig = figures.training_curves(rows)
    assert len(fig.axes) == 3
    assert "gold score" in labels(fig)


# Catches: error bars from low to high instead of from the value, arms of the wrong sign.
def test_intervals_reach_from_low_to_high() -> None:
    fig = figures.before_after(STATS)
    for ax, name in zip(fig.axes, ("gold_score", "score"), strict=True):
        arms = [segment for lines in ax.collections for segment in lines.get_segments()]  # type: ignore[attr-defined]
        expected = [(STATS[name][side]["low"], STATS[name][side]["high"]) for side in ("base", "policy")]
        assert [tuple(float(y) for y in arm[:, 1]) for arm in arms] == [pytest.approx(pair) for pair in expected]


def test_a_baseline_without_a_number_is_left_out() -> None:
    ticks = [tick.get_text() for tick in figures.reward_accuracy(REWARD).axes[0].get_yticklabels()]
    assert ticks == ["reward model", "longer wins"]


def test_every_axis_is_labelled() -> None:
    for name, fig in all_figures().items():
        for ax in fig.axes:
            assert ax.get_ylabel() or name in ("accuracy",), name
        assert any(ax.get_xlabel() for ax in fig.axes) or name == "before_after", name


# Catches: a date, a random salt, settings that leak from or into the caller's matplotlib.
def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    for run in ("a", "b"):
        for name, fig in all_figures().items():
            figures.save(fig, tmp_path / run, name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 12
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert mpl.rcParams["svg.hashsalt"] is None
    assert mpl.rcParams["axes.titlelocation"] == mpl.rcParamsDefault["axes.titlelocation"]


# Catches: ids shared by two figures of one page, where the second would draw the first one's clip paths.
def test_inline_svgs_share_no_id_and_refer_to_their_own() -> None:
    fig = all_figures()["before_after"]
    first, second = (figures.inline_svg(fig, name) for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)) <= {(i, "") for i in own} | {
            ("", i) for i in own
        }
        ElementTree.fromstring(svg)
        assert svg.startswith("<svg")


def test_empty_and_constant_data_still_draw(tmp_path: Path) -> None:
    constant, nothing = {"gold_score": [1.0] * 3, "score": None}, {"gold_score": [], "score": []}
    empty = {"rows": [], "ece": None, "brier": None, "temperature": None}
    unknown = {"value": None, "low": None, "high": None, "n": 0}
    fallen = {"gold_score": None, "score": dict.fromkeys(("base", "policy", "difference"), unknown)}
    for i, fig in enumerate(
        [
            figures.training_curves([]),
            figures.training_curves(ROWS[:1]),
            figures.score_distributions(constant, constant),
            figures.score_distributions(nothing, nothing),
            figures.reliability(empty),
            figures.before_after(fallen),
            figures.reward_accuracy({**REWARD, "accuracy": {**unknown, "low": 0.0, "high": 1.0}, "baselines": []}),
        ]
    ):
        figures.inline_svg(fig, f"figure {i}")
