"""The figures hold the numbers they were given, and equal data give equal files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.base.errors import DataError
from pipeline.reporting.figures import common, compare, frontier, reward, scores, sweep, training
from pipeline.reporting.figures.scores import Group, Judgement
from pipeline.reporting.figures.sweep import Evaluated
from pipeline.results.policy import Evaluation
from pipeline.results.sides import MEASURES
from tests.helpers.pictures import arrange_no_axes
from tests.unit.reporting.given import CALIBRATION, REWARD, entry, estimate, evaluation, newer, newer_json, stats

MEANS = [
    ("base", estimate(0.1, 0.0, 0.2)),
    ("best of 16", estimate(0.3, 0.2, 0.5, 64)),
    ("PPO", estimate(0.5, 0.4, 0.7)),
]
ROWS: list[dict[str, Any]] = [
    {"eval/scores": 0.1, "eval/check": 0.3, "eval/check_error": 0.1, "eval/kl": 0.0},
    *(
        {
            "update": u,
            "objective/scores": u / 10,
            "objective/kl": u / 5,
            "objective/kl_k3": u / 4,
            "length/mean": 20 + u,
            "policy/entropy_avg": 2 - u / 10,
        }
        for u in range(1, 9)
    ),
]
BASE = Group("base", {"gold_score": [0.1, 0.2, 0.4, 0.4], "score": [1.0, 2.0, 3.0, 0.0], "length": [6, 4, 5, 8]})
BEST = Group("best of 16", {"gold_score": [0.6, 0.7], "score": [2.5, 3.5], "length": None})
PPO = Group("PPO", {"gold_score": [0.5, 0.9, 0.9, 0.9], "score": [3.0, 4.0, 2.0, 4.0], "length": [9, 8, 9, 9]})
JUDGED = [
    Judgement("gold score", estimate(0.8, 0.7, 0.9), estimate(0.6, 0.5, 0.7)),
    Judgement("a judge with a long name", estimate(0.4, 0.3, 0.5), estimate(None)),
]
PANELS = {measure: frontier.curves(newer(), measure) for measure in MEASURES}


def a_sweep() -> Figure:
    """Two settings of one seed, and one of them on a second seed, with a base of its own."""
    found = sweep.sweep_frontier(
        [
            Evaluated("a=1", newer()),
            Evaluated("a=2", newer(kl_k1=entry(9.0) | {"standard_error": None})),
            Evaluated("a=1", another_seed()),
        ]
    )
    assert found is not None
    return found


def kl(value: float) -> dict[str, Any]:
    return entry(value) | {"standard_error": None}


def another_seed() -> Evaluation:
    made = newer_json(kl_k1=kl(1.0))
    made["best_of_n"]["rows"][1]["gold_score"] = entry(0.6)
    return evaluation(made)


def all_figures() -> dict[str, Figure]:
    results = [compare.Result(name, {"gold_score": estimate(0.2, 0.1, 0.3)}) for name in "ab"]
    return {
        "training": training.training_curves(ROWS, kl_target=1.0, kl_budget=1.5, published=4),
        "health": training.training_health(ROWS),
        "frontier": frontier.frontier(PANELS, frontier.turn(newer())),
        "reliability": reward.reliability(CALIBRATION),
        "accuracy": reward.reward_accuracy(REWARD),
        "distributions": scores.score_distributions([BASE, BEST, PPO], "gold_score"),
        "length": scores.length_against_score([BASE, PPO]),
        "means": scores.before_after(MEANS, "gold_score", estimate(0.4, 0.3, 0.5)),
        "wins": scores.win_rates(JUDGED),
        "overlay": compare.training_overlay([("a", ROWS), ("b", ROWS[:4])]),
        "overlaid": compare.frontier_overlay([("a", PANELS["score"]), ("b", PANELS["score"])], "score", "a"),
        "sweep": a_sweep(),
        "results": compare.results(results, [("gold_score", "gold score, policy − base", 0.0)]),
    }


@pytest.fixture(scope="module")
def inlined() -> dict[str, str]:
    """Every figure as a page holds it, drawn once; no test of them looks at where the axes stand."""
    with pytest.MonkeyPatch.context() as patch:
        arrange_no_axes(patch)
        return {name: common.for_page(common.as_svg(fig), name) for name, fig in all_figures().items()}


def flat(points: list[tuple[float, float]]) -> list[float]:
    return [value for point in points for value in point]


def labels(fig: Figure) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def drawn(ax: Axes, label: str) -> list[tuple[float, float]]:
    """The points of the lines and of the error bars' marks with this label."""
    lines = [line for line in ax.get_lines() if line.get_label() == label]
    lines += [c.lines[0] for c in ax.containers if c.get_label() == label]  # type: ignore[attr-defined]
    return [
        (float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def arms(ax: Axes) -> list[list[tuple[float, float]]]:
    """Both ends of every error bar."""
    found = [s for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]  # type: ignore
    return [[(float(x), float(y)) for x, y in segment] for segment in found]


# Catches: k1 and k3 swapped, budget and target swapped, the evaluation before the first update left out.
def test_training_curves_hold_their_rows() -> None:
    fig = training.training_curves(ROWS, kl_target=1.0, kl_budget=1.5, published=4)
    proxy, gold, kl = fig.axes
    assert drawn(proxy, "PPO's own completions") == [(u, u / 10) for u in range(1, 9)]
    assert drawn(proxy, "held-out prompts") == [(0, 0.1)]
    assert drawn(gold, "held-out prompts") == [(0, 0.3)]
    assert [[y for _, y in arm] for arm in arms(gold)] == [pytest.approx([0.3 - 0.196, 0.3 + 0.196])]
    assert drawn(kl, "PPO's own completions") == [(u, u / 5) for u in range(1, 9)]
    assert drawn(kl, "KL by k3") == [(u, u / 4) for u in range(1, 9)]
    assert {y for _, y in drawn(kl, "KL target")} == {1.0}
    assert {y for _, y in drawn(kl, "KL budget")} == {1.5}
    assert {x for x, _ in drawn(proxy, "published policy")} == {4}


def test_a_run_without_gold_has_no_panel_for_it_and_a_check_has_its_own() -> None:
    titles = [ax.get_title(loc="left") for ax in training.training_curves(ROWS[1:]).axes]
    assert len(titles) == 2
    checked = [ax.get_title(loc="left") for ax in training.training_curves(ROWS, check_is_gold=False).axes]
    assert len(checked) == 3
    assert checked[1].startswith("Check")


# k3 has no bound; seen with the axis left to matplotlib, where k1 became a flat line.
def test_a_runaway_k3_does_not_flatten_the_kl() -> None:
    rows = [{**row, "objective/kl_k3": 1e6} if "update" in row else row for row in ROWS]
    assert training.training_curves(rows).axes[-1].get_ylim()[1] < 3


# Catches: gains over 0 instead of the base, this very policy among the others, the law over the wrong d.
def test_the_frontier_is_gains_over_the_base_at_their_distance() -> None:
    fig = frontier.frontier(PANELS, frontier.turn(newer()))
    gold, proxy = fig.axes[:2]
    assert flat(drawn(gold, "best-of-n from the base")) == pytest.approx([0.8, 0.2, 1.4, 0.3])
    assert flat(drawn(proxy, "best-of-n from the base")) == pytest.approx([0.8, 1.0, 1.4, 2.0])
    assert flat(drawn(gold, "PPO, over the run")) == pytest.approx([0, 0, 1, 0.3, 2, 0.5, 3, 0.3, 4, 0.1])
    assert flat(drawn(gold, "other PPO runs, by kl_coef")) == pytest.approx([1.0, 0.3])
    assert flat(drawn(gold, "PPO, evaluated (95 %)")) == pytest.approx([2.0, 0.46])
    assert [[y for _, y in arm] for arm in arms(gold)] == [pytest.approx([0.4, 0.52])]
    assert {x for ax in (gold, proxy) for x, _ in drawn(ax, "turning point: past it gold fell")} == {2.0}
    fitted = drawn(gold, "law fitted to PPO")
    assert (fitted[0][0], fitted[-1][0]) == (1.0, 4.0)
    assert fitted[-1][1] == pytest.approx(4 * (0.4 - 0.2 * np.log(4)))
    fitted = drawn(gold, "law fitted to best-of-n")
    assert fitted[0] == pytest.approx((0.8, 0.8 * (0.3 - 0.05 * 0.8)))


# Catches: sqrt forgotten, a setting's runs under another's name, the curve of a shared base drawn once per run.
def test_a_sweeps_runs_stand_beside_best_of_n_of_their_bases() -> None:
    gold, proxy = a_sweep().axes[:2]
    assert flat(drawn(gold, "PPO, a=1")) == pytest.approx([2.0, 0.46, 1.0, 0.46])
    assert flat(drawn(gold, "PPO, a=2")) == pytest.approx([3.0, 0.46])
    assert [[y for _, y in arm] for arm in arms(gold)] == [pytest.approx([0.4, 0.52])] * 3
    shared, own = [0, 0, 0.8, 0.2, 1.4, 0.3], [0, 0, 0.8, 0.5, 1.4, 0.3]
    assert flat(drawn(gold, "best-of-n from the base")) == pytest.approx(shared + own)
    assert flat(drawn(proxy, "best-of-n from the base")) == pytest.approx([0, 0, 0.8, 1.0, 1.4, 2.0])
    assert gold.get_xlim()[1] > 3


def test_a_sweep_without_figures_has_no_picture() -> None:
    assert sweep.sweep_frontier([Evaluated("a=1", stats(kl_k1=None))]) is None


# Catches: another judge's check drawn as if it were the gold score.
def test_a_check_is_not_gold() -> None:
    found = frontier.curves(newer(), "gold_score", check_is_gold=False)
    assert not found.training
    assert found.training_law is None
    assert frontier.curves(newer(), "score", check_is_gold=False).training
    turned = frontier.turn(newer(), check_is_gold=False)
    assert turned is not None
    assert turned.of == "the check"


# Catches: the mean's interval drawn around the gain; an evaluation of before refused for want of gains.
def test_best_of_n_has_the_intervals_of_its_gains() -> None:
    json = newer_json()
    json["best_of_n"]["rows"][2]["gain"] = {"gold_score": entry(0.25, 0.2, 0.35)}
    made = evaluation(json)
    first, second = frontier.curves(made, "gold_score").best_of_n
    assert first.gain.value == pytest.approx(0.2)
    assert not first.gain.has_limits
    assert second.gain == estimate(0.25, 0.2, 0.35)
    ax = frontier.frontier({"gold_score": frontier.curves(made, "gold_score")}).axes[0]
    assert [pytest.approx(0.2), pytest.approx(0.35)] in [[y for _, y in arm] for arm in arms(ax)]


# Seen failing: a number that YAML reads as text (5e-2) ended the report, as no format of text is "g".
def test_another_policys_coefficient_may_be_kept_as_text() -> None:
    json = newer_json()
    json["overoptimisation"]["sweep"]["points"][0]["kl_coef"] = "5e-2"
    (point,) = frontier.curves(evaluation(json), "gold_score").others
    assert point.label == "0.05"
    json["overoptimisation"]["sweep"]["points"][0]["kl_coef"] = "much"
    with pytest.raises(DataError, match=r"points\[0\].kl_coef is 'much', not a number"):
        evaluation(json)


def test_an_older_evaluation_has_one_point() -> None:
    found = frontier.curves(stats(), "gold_score")
    assert found.points == [found.policy]
    assert frontier.turn(stats()) is None


# Catches: error bars from low to high instead of from the value, arms of the wrong sign.
def test_intervals_reach_from_low_to_high() -> None:
    (ax,) = scores.before_after(MEANS, "gold_score").axes
    assert [tuple(y for _, y in arm) for arm in arms(ax)] == [
        pytest.approx((mean.low, mean.high)) for _, mean in MEANS
    ]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "base\nn = 200", "best of 16\nn = 64", "PPO\nn = 200"
    ]  # fmt: skip


# Catches: the two rates swapped, a bar for a rate that has no value.
def test_win_rates_stand_in_pairs() -> None:
    (ax,) = scores.win_rates(JUDGED).axes
    assert [p.get_width() for p in ax.patches] == [0.8, 0.6, 0.4]
    assert [bool(p.get_hatch()) for p in ax.patches] == [False, True, False]
    assert {line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"} == {0.5}  # type: ignore
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["gold score\nn = 200", "a judge with a\nlong name\nn = 200"]


# Catches: counts instead of shares, bins of each group's own.
def test_distributions_are_shares_on_common_bins() -> None:
    axes = scores.score_distributions([BASE, BEST, PPO], "gold_score").axes
    heights = [[p.get_height() for p in ax.patches if hasattr(p, "get_height")] for ax in axes]
    assert [sum(h) for h in heights] == pytest.approx([100, 100, 100])
    assert len({len(h) for h in heights}) == 1
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == ["base: mean 0.28, n = 4", "best of 16: mean 0.65, n = 2", "PPO: mean 0.80, n = 4"]


def test_length_has_every_completion_and_means_by_length() -> None:
    (ax,) = scores.length_against_score([BASE, PPO]).axes
    assert [len(c.get_offsets()) for c in ax.collections] == [4, 4]
    assert drawn(ax, "base, mean by length") == [(4.0, 2.0), (5.0, 3.0), (6.0, 1.0), (8.0, 0.0)]


def test_a_baseline_without_a_number_is_left_out() -> None:
    ticks = [tick.get_text() for tick in reward.reward_accuracy(REWARD).axes[0].get_yticklabels()]
    assert [tick.rpartition("\n")[0] for tick in ticks] == [
        "reward model", "longer wins", "reward model\nagainst gold", "labels\nagainst gold"
    ]  # fmt: skip
    assert ticks[0].endswith("n = 240")


def test_reliability_shows_each_bin_and_its_count() -> None:
    top, bottom = reward.reliability(CALIBRATION).axes
    assert drawn(top, "observed (95 %, Wilson)") == [(0.53, 0.5), (0.72, 0.8)]
    assert [text.get_text() for text in bottom.texts] == ["12", "34"]


# Catches: two runs that look alike, in colour or in grey.
def test_no_two_runs_look_alike() -> None:
    looks = [compare.Look.of(i) for i in range(60)]
    assert len({(look.colour, look.style, look.marker) for look in looks}) == 60
    assert len({(look.style, look.marker) for look in looks[:20]}) == 20
    assert labels(compare.training_overlay([("a", ROWS), ("b", ROWS)])) == ["a", "b"]


def test_every_axis_is_labelled() -> None:
    for name, fig in all_figures().items():
        for ax in fig.axes:
            assert ax.get_ylabel() or name in ("accuracy", "wins", "results", "distributions"), name
        assert any(ax.get_xlabel() for ax in fig.axes) or name == "means", name


# Catches: a date, a random salt, the order of a set, settings that leak from or into the caller's matplotlib.
@pytest.mark.thorough
def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    # Between them they have hatches, legends, notes and several panels.
    for run in ("a", "b"):
        common.save(frontier.frontier(PANELS, frontier.turn(newer())), tmp_path / run, "frontier")
        common.save(scores.win_rates(JUDGED), tmp_path / run, "wins")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["frontier.png", "frontier.svg", "wins.png", "wins.svg"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert mpl.rcParams["svg.hashsalt"] is None
    assert mpl.rcParams["axes.titlelocation"] == mpl.rcParamsDefault["axes.titlelocation"]


# Catches: ids shared by two figures of one page, where the second would draw the first one's clip paths.
def test_inline_svgs_share_no_id_and_refer_to_their_own(inlined: dict[str, str]) -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in inlined.values()]
    assert len(set().union(*ids)) == sum(map(len, ids))
    for svg, own in zip(inlined.values(), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)) <= {(i, "") for i in own} | {
            ("", i) for i in own
        }
        ElementTree.fromstring(svg)
        assert svg.startswith("<svg")


# Catches: black text on a dark page. Files keep plain colours: a viewer knows no variables.
def test_inline_colours_are_the_pages_and_a_files_are_not(inlined: dict[str, str], tmp_path: Path) -> None:
    for name, svg in inlined.items():
        plain = re.findall(r"(?:fill|stroke)[:=] ?\"?(#[0-9a-f]{6})", svg)
        assert plain == [], (name, set(plain))
        variables = set(re.findall(r"var\((--\w+), #", svg))
        assert {"--ink", "--card"} <= variables <= set(common.VARIABLES.values())
    path, _ = common.save(scores.win_rates(JUDGED), tmp_path, "wins")
    assert "var(" not in path.read_text(encoding="utf-8")


# Seen failing with matplotlib's own setting: a ValueError from its formula parser, and no report.
def test_a_name_is_no_formula() -> None:
    name = "$\\frac{$"
    figure = scores.win_rates([Judgement(name, estimate(0.5, 0.4, 0.6))])
    svg = common.for_page(common.as_svg(figure), "wins")
    assert name in svg


@pytest.mark.thorough
def test_empty_and_constant_data_still_draw() -> None:
    constant, nothing = Group("base", {"score": [1.0] * 3, "length": [2] * 3}), Group("PPO", {"score": []})
    empty = replace(CALIBRATION, rows=(), ece=None, brier=None)
    unknown = estimate(None)
    for i, fig in enumerate(
        [
            training.training_curves([]),
            training.training_curves(ROWS[1:2]),
            training.training_health([]),
            scores.score_distributions([constant], "score"),
            scores.score_distributions([nothing], "score"),
            scores.length_against_score([constant]),
            scores.before_after([("base", unknown)], "score", unknown),
            scores.win_rates([Judgement("one", estimate(1.0))]),
            reward.reliability(empty),
            reward.reward_accuracy(replace(REWARD, accuracy=estimate(None, 0, 1), baselines=())),
            frontier.frontier({"score": frontier.curves(stats(kl_k1=kl(-0.1)), "score")}),
        ]
    ):
        common.for_page(common.as_svg(fig), f"figure {i}")
