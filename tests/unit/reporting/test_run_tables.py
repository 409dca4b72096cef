"""Tables of a page: every number with its interval, how many it is of, and how the interval was made."""

from __future__ import annotations

import pytest

from pipeline.reporting import run_tables
from pipeline.reporting.reward_rows import reward_rows, set_table, slice_tables
from pipeline.statistics import bootstrap
from tests.unit.reporting.given import (
    REWARD,
    change,
    entry,
    estimate,
    evaluation,
    newer,
    newer_json,
    reward,
    sliced,
    stats,
)


def test_kinds_of_interval_change_where_the_intervals_do() -> None:
    assert run_tables.SMALLEST_BOOTSTRAP == bootstrap.SMALLEST_BOOTSTRAP
    assert run_tables.LARGEST_BCA == bootstrap.LARGEST_BCA
    said = [run_tables.mean_interval(n) for n in (None, 1, 2, 19, 20, 5000, 5001)]
    assert said == ["no interval"] * 2 + ["Student's t"] * 2 + ["bootstrap (BCa)"] * 2 + ["bootstrap (percentile)"]
    assert run_tables.basis(estimate(0.5, 0.4, 0.6, 12)) == "n = 12, Student's t"
    assert run_tables.basis(estimate(0.5, None, None, 12)) == "n = 12, no interval"
    assert run_tables.basis(None) == "–"


# Catches: base and policy swapped, a win rate in the base's column, Wilson said of a bootstrap.
def test_metric_rows_by_hand() -> None:
    found = {row[0]: row[1:] for row in run_tables.metric_rows(newer())}
    gold = ("0.11 [0.01, 0.21]", "0.57 [0.47, 0.67]", "+0.46 [0.40, 0.52]", "n = 200, bootstrap (BCa)")
    assert found["Gold score"] == gold
    won = "150 won, 20 tied (half), 30 lost"
    assert found["Win rate by gold score"] == ("–", "0.80 [0.70, 0.90]", won, "n = 200, Wilson")
    equal = found["Win rate by gold score, at equal length"]
    assert (equal[1], equal[3]) == ("0.60 [0.50, 0.70]", "n = 200, bootstrap (percentile)")
    none = found["Win rate by proxy score, at equal length"]
    assert none[1:3] == ("–", "the policy's completions are longer almost everywhere")
    assert found["Degenerate (share)"][2] == "+0.25"
    assert found["KL k1 (nats per completion)"][2] == "standard error 0.10"
    more = {row[0]: row[1:] for row in run_tables.more_rows(newer())}
    assert more["Unique completions (share)"] == ("1.00", "0.50", "−0.50", "400 completions, no interval")
    assert more["KL k1 (nats per token)"][1] == "0.200 [0.100, 0.300]"
    assert run_tables.by_seed(newer()).endswith("gold score's difference: +0.40 (seed 0), +0.50 (seed 1).")


def test_what_an_older_evaluation_lacks_is_left_out() -> None:
    assert [row[0] for row in run_tables.metric_rows(stats())] == [
        "Gold score", "Proxy score (the reward)", "Win rate by gold score", "KL k1 (nats per completion)",
        "Length (tokens)", "Ended by itself (share)",
    ]  # fmt: skip
    for given in (stats(), None, stats(best_of_n={"reason": "off"}, overoptimisation={}, judges={})):
        assert run_tables.best_of_n_table(given) is None
        assert run_tables.law_table(given) is None
        assert run_tables.judge_table(given) is None
        assert run_tables.by_seed(given) == ""


def test_best_of_n_stands_beside_ppo_on_the_same_prompts() -> None:
    table = run_tables.best_of_n_table(newer())
    assert table is not None
    assert table.head == ("who", "KL (nats)", "gold", "proxy")
    assert [row[0] for row in table.rows] == [
        "base", "best of 4", "best of 16", "PPO", "PPO − best of 16, at less KL"
    ]  # fmt: skip
    assert table.rows[1][1:3] == ("0.64", "0.30 [0.20, 0.40]")
    assert table.rows[3][1:3] == ("4.00", "0.50 [0.40, 0.60]")
    assert table.rows[4][2] == "+0.10 [−0.05, 0.25]"
    assert "64 prompts, 16 completions" in table.note
    given = newer_json()
    line = given["best_of_n"]["yardstick"]["gold_score"]
    line.update(within=True, difference=entry(-0.2, -0.3, -0.1), n_needed=9)
    table = run_tables.best_of_n_table(evaluation(given))
    assert table is not None
    assert table.rows[4][0] == "PPO − best of 9, at equal KL"
    assert table.rows[4][2] == "−0.20 [−0.30, −0.10]"


# Catches: base and reference swapped, the difference of another row, an event's share in another's column.
def test_references_stand_beside_base_and_policy() -> None:
    crash = {"base": entry(0.4, 0.3, 0.5), "policy": entry(0.02, 0.01, 0.06)}
    slow = {"gold_score": change(0.0, 0.57, 0.5, 0.6), "events": {"crash": entry(0.0, 0.0, 0.02)}}
    table = run_tables.reference_table(stats(events={"crash": crash}, references={"always slower": slow}))
    assert table is not None
    assert table.head == ("who", "gold score", "the policy's less that", "crash")
    assert table.rows == [
        ("policy", "0.57 [0.47, 0.67]", "–", "0.02 [0.01, 0.06]"),
        ("base", "0.11 [0.01, 0.21]", "+0.46 [0.40, 0.52]", "0.40 [0.30, 0.50]"),
        ("always slower", "0.00 [−0.10, 0.10]", "+0.57 [0.50, 0.60]", "0.00 [0.00, 0.02]"),
    ]
    assert run_tables.reference_table(stats()) is None


def test_laws_say_where_they_are_best_and_what_is_extrapolated() -> None:
    given = newer_json()
    given["best_of_n"]["laws"]["gold_score"]["peak"] = {"d": 3.0, "kl": 9.0, "gain": 0.5, "within": False}
    table = run_tables.law_table(evaluation(given))
    assert table is not None
    best = {row[0]: row[4] for row in table.rows}
    assert best == {"best-of-n, gold": "9.0 *", "best-of-n, proxy": "–", "PPO, over the run, gold": "7.4"}
    assert table.rows[0][1:4] == ("0.30 [0.20, 0.40]", "0.05 [−0.05, 0.15]", "0.90, 5")


def test_a_language_model_is_shown_with_its_bias() -> None:
    table = run_tables.judge_table(newer())
    assert table is not None
    scorer, asked = table.rows
    assert scorer[-1] == "a scorer, mean +1.00 [0.50, 1.50] higher for PPO"
    assert "0.60 [0.50, 0.70] of the time" in asked[-1]
    assert asked[-1].endswith("no answer: 3 (3 timed out)")
    assert asked[2] == "the policy's completions are longer almost everywhere"


def test_reward_rows_by_hand() -> None:
    found = {row[0]: row[1:] for row in reward_rows(REWARD)}
    assert found["Accuracy"] == ("0.60 [0.53, 0.66]", "n = 240, Wilson", "1 tied (not correct)")
    assert found["Baseline: bag of words"] == ("–", "–", "3 training pairs, fewer than 20")
    assert found["Agreement with gold"][1] == "n = 200, Wilson"
    assert found["Correlation of score with length"][:2] == ("−0.20", "n = 480, no interval")
    assert reward_rows(None) == []


def test_slices_and_sets_are_small_tables() -> None:
    (length,) = slice_tables(reward(sliced()))
    assert length.compact
    assert length.rows[1] == ("shorter chosen", "0.40 [0.30, 0.50]", "108")
    assert length.rows[2][0] == "mean of these"
    assert length.note.endswith("In none of them: 2.")
    assert slice_tables(REWARD) == []
    assert set_table(REWARD) is None
    table = set_table(reward(sliced()))
    assert table is not None
    row = ("hard", "0.60 [0.53, 0.66]", "n = 240, Wilson", "0.55 longer wins", "–", "hard.jsonl")
    assert table.rows == [row]


@pytest.mark.parametrize("key", ["slices", "items", "sets", "notes", "dependent"])
def test_any_newer_part_of_a_reward_model_may_be_missing(key: str) -> None:
    older = reward({k: v for k, v in sliced().items() if k != key})
    assert reward_rows(older) == reward_rows(REWARD)
    slice_tables(older)
    set_table(older)
