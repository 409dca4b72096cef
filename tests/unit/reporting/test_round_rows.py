"""The rounds of a loop as a table and as a picture."""

from __future__ import annotations

from dataclasses import replace

from pipeline.reporting.figures.rounds import draw_rounds
from pipeline.reporting.round_rows import HEAD, round_table
from pipeline.results.rounds import LoopFigures, RoundFigures
from pipeline.results.stats import from_json, to_json
from pipeline.statistics.intervals import Estimate

FIRST = RoundFigures(
    number=1,
    policy="demo-policy@v000001",
    labels=2000,
    gold=Estimate(0.5, 0.44, 0.56, 400),
    gold_over_base=Estimate(0.6, 0.54, 0.66, 400),
    gold_over_last=Estimate(0.6, 0.54, 0.66, 400),
    proxy_over_base=Estimate(1.0, 0.9, 1.1, 400),
    best_of=32,
    best_of_over_base=Estimate(0.7, 0.6, 0.8, 64),
    over_best_of=Estimate(-0.1, -0.2, 0.0, 64),
    labels_gold=Estimate(0.79, 0.77, 0.81, 1800),
    kl=Estimate(1.1, 1.0, 1.2, 400),
    closings=Estimate(42.0, 38.0, 46.0, 400),
    patterns=Estimate(37.0, 34.0, 40.0, 400),
    reward_new=Estimate(0.8, 0.74, 0.85, 200),
    selection_gold=Estimate(0.45, 0.3, 0.6, 64),
)
SECOND = replace(
    FIRST,
    number=2,
    policy="demo-policy@v000002",
    gold_over_last=Estimate(0.12, 0.06, 0.18, 400),
    reward_last=Estimate(0.66, 0.64, 0.68, 2000),
    selection_gold=Estimate(0.55, 0.4, 0.7, 64),
)
LOOP = LoopFigures(rounds=(FIRST, SECOND), start="last", reference="base", data="all")


def test_every_figure_has_its_column() -> None:
    table = round_table(replace(LOOP, stopped="Ann said no", best=2))
    assert len(HEAD) == len(table.rows[0])
    cells = dict(zip(HEAD, table.rows[1], strict=True))
    assert cells["gold, over best-of-n of the base"] == "−0.10 [−0.20, 0.00], n = 32"
    assert cells["round"] == "2 (demo-policy@v000002)"
    assert cells["gold, over the last round"] == "+0.12 [0.06, 0.18]"
    assert cells["labels, as gold has them"] == "0.79 [0.77, 0.81]"
    assert cells["reward model on the policy's samples: last"] == "0.66 [0.64, 0.68]"
    assert cells["KL to the base (nats)"] == "1.1 [1.0, 1.2]"
    assert cells["labels"] == "2,000"
    assert (cells["closing sentences"], cells["patterns"]) == ("42.0 [38.0, 46.0]", "37.0 [34.0, 40.0]")
    assert table.rows[0][HEAD.index("reward model on the policy's samples: last")] == "–"
    assert "PPO starts from the last policy, its KL is measured to the base" in table.note
    assert "learns from the pairs of all rounds" in table.note
    assert "Ended: Ann said no." in table.note
    assert "Best on the split select: round 2, demo-policy@v000002 (gold 0.55)." in table.note


def test_figures_are_read_back() -> None:
    assert from_json(LoopFigures, to_json(LOOP), "x") == LOOP


def test_the_picture_has_a_point_for_each_figure() -> None:
    figure = draw_rounds(LOOP)
    assert figure is not None
    upper, lower = figure.axes
    points = {c.get_label(): len(c[0].get_xdata()) for ax in (upper, lower) for c in ax.containers}
    assert points == {
        "gold, policy less base": 2,
        "proxy, policy less base": 2,
        "gold, best of 32 less base": 2,
        "last reward model": 1,
        "this reward model": 2,
        "labels, as gold has them": 2,
    }
    assert [tick.get_text() for tick in lower.get_xticklabels()] == ["1\nKL 1.1", "2\nKL 1.1"]
    bare = RoundFigures(number=1, policy="x@v1", labels=4)
    assert draw_rounds(replace(LOOP, rounds=(bare,))) is None
