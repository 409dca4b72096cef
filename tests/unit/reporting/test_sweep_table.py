"""A sweep as text: every claim with its seeds, and what is missing said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.reporting.sweep_table import aligned, card, figures, main_figure, render, result
from pipeline.results.sweep import OverSeeds, SettingOverSeeds
from tests.unit.reporting.given import REWARD, estimate, of_completions, stats, varied_json, wins


def entry(value: float, low: float | None, high: float | None, n: int) -> OverSeeds:
    return OverSeeds(**vars(estimate(value, low, high, n)), least=value - 0.1, most=value + 0.1)


GROUPS = [
    SettingOverSeeds(
        "ppo.kl_coef=0.02",
        [0, 1, 2],
        {"gold_difference": entry(0.5, 0.4, 0.6, 3), "kl_k1": entry(4.0, 3.0, 5.0, 3), "minutes": None},
        None,
    ),
    SettingOverSeeds(
        "ppo.kl_coef=0.1",
        [0, 1],
        {"gold_difference": entry(-0.25, -0.5, 0.0, 2), "kl_k1": entry(1.0, None, None, 2)},
        {"gold_difference": entry(-0.7, -0.9, -0.5, 2)},
    ),
]
RUNS: list[dict[str, Any]] = [
    {"run": "ppo.kl_coef=0.02 seed=0", "state": "done", "gold_difference": 0.5, "kl_k1": 4.0, "minutes": 12.34,
     "evaluation": "demo-evaluation@v000001"},
    {"run": "ppo.kl_coef=0.1 seed=0", "state": "missing", "gold_difference": None, "evaluation": None},
]  # fmt: skip


# Catches: least and most swapped, the paired column in the first row, a lost sign.
def test_the_table_by_hand() -> None:
    text = render("demo, sweep", GROUPS, RUNS)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row[:1] == "|"]
    assert text.splitlines()[0] == "demo, sweep: 1 run of 2."
    assert "policy less base; mean over 2 to 3 seeds [95 % interval over seeds]" in text
    assert cells[2] == ["ppo.kl_coef=0.02", "3", "+0.50 [0.40, 0.60]", "+0.40", "+0.60", "–", "–"]
    assert cells[3][:5] == ["ppo.kl_coef=0.1", "2", "−0.25 [−0.50, 0.00]", "−0.35", "−0.15"]
    assert cells[3][5:] == ["−0.70 [−0.90, −0.50]", "2"]
    assert cells[4] == ["setting", "seeds", "KL k1 (nats)"]
    assert cells[6:8] == [["ppo.kl_coef=0.02", "3", "4.00 [3.00, 5.00]"], ["ppo.kl_coef=0.1", "2", "1.00"]]
    assert "the best of 2 settings looks better than it is" in text
    assert cells[10] == ["ppo.kl_coef=0.02 seed=0", "+0.50", "4.0", "–", "12.3", "demo-evaluation@v000001"]
    assert text.endswith("Not in the means: ppo.kl_coef=0.1 seed=0.")


# Catches: a gain that is told before the collapse that it came with.
def test_runs_that_collapsed_are_named_first() -> None:
    text = render("demo, sweep", GROUPS, [RUNS[0] | {"collapsed": 1.0}, RUNS[1]])
    assert text.split("\n\n")[1].endswith("one text again and again: ppo.kl_coef=0.02 seed=0.")
    assert "Collapsed" not in render("demo, sweep", GROUPS, [RUNS[0] | {"collapsed": 0.0}, RUNS[1]])


def test_one_seed_claims_no_interval() -> None:
    alone = SettingOverSeeds("as configured", [0], {"gold_difference": entry(0.5, None, None, 1)}, None)
    text = render("demo, sweep", [alone], RUNS[:1])
    assert "mean over 1 seed, which gives no interval." in text
    assert "against the first" not in text
    assert "best of" not in text
    two = render("demo, sweep", [alone, replace(alone, group="ppo.lam=1")], RUNS[:1])
    assert "may be a luckier draw" in two
    assert "best of" not in two


def test_nothing_done_is_said() -> None:
    assert render("demo, sweep", [], RUNS[1:]) == "demo, sweep: 0 runs of 1; nothing to compare yet."


def test_without_gold_the_proxy_is_compared() -> None:
    figures_of_one = {"gold_difference": None, "score_difference": entry(1.0, None, None, 1)}
    groups = [SettingOverSeeds("a", [0], figures_of_one, None)]
    assert main_figure(groups).key == "score_difference"
    assert main_figure(GROUPS).key == "gold_difference"
    assert result({"gold_difference": None, "score_difference": 1.5, "kl_k1": 2.04}) == "proxy +1.50, KL 2.0 nats"
    assert result({"gold_difference": -0.5, "score_difference": 1.5, "kl_k1": 2.04}) == "gold −0.50, KL 2.0 nats"


def test_a_table_lines_up_and_no_cell_breaks_it() -> None:
    lines = aligned([["a", "n"], ["x|y", "1"], ["中文", "10"]]).splitlines()
    assert lines == ["| a    |  n |", "| ---- | -: |", "| x\\|y |  1 |", "| 中文 | 10 |"]


# Catches: the base's length, the proxy's win rate where gold is known, accuracy of single completions.
def test_figures_of_a_run() -> None:
    pairs = replace(REWARD, accuracy=estimate(0.75))
    single = of_completions(estimate(0.6), replace(REWARD, accuracy=estimate(0.7)))
    both = {"gold_score": wins(0.8, 0.7, 0.9), "score": wins(0.9, 0.8, 1.0)}
    assert figures(stats(win_rate=both), pairs, 4.5) == {
        "gold_difference": 0.46, "score_difference": 2.0, "win_rate": 0.8, "kl_k1": 4.0, "length": 22.0,
        "reward_accuracy": 0.75, "minutes": 4.5, "closings_ratio": None, "closing_share": None, "collapsed": None,
    }  # fmt: skip
    varied = figures(stats(diversity=varied_json()), pairs, 4.5)
    assert (varied["closings_ratio"], varied["closing_share"], varied["collapsed"]) == (4.5 / 83, 0.52, 1.0)
    assert result(varied) == "collapsed: gold +0.46, KL 4.0 nats, 0.05 of the base's closing sentences"
    assert figures(stats(diversity=varied_json(collapsed=False)), pairs, 4.5)["collapsed"] == 0
    assert figures(stats(), single, None)["reward_accuracy"] == 0.7
    blind = stats(gold_score=None, win_rate={"gold_score": None, "score": wins(0.9, 0.8, 1.0)})
    without = figures(blind, None, None)
    assert (without["gold_difference"], without["win_rate"], without["reward_accuracy"]) == (None, 0.9, None)


@pytest.mark.parametrize("name", ["demo-sweep"])
def test_the_card_opens_as_a_dataset(name: str) -> None:
    import yaml

    front = yaml.safe_load(card(name, "text", "runs").split("---")[1])
    assert front["configs"][0]["data_files"] == [{"split": "runs", "path": "data/runs-*.parquet"}]
