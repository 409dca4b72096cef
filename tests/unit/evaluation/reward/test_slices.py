"""Slices against hand arithmetic and scipy, their means by simulated coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation.reward.slices import (
    MOST_SLICES,
    REWARD_BENCH,
    by_length,
    by_name,
    by_size,
    mass_groups,
    sections,
    weighted_mean,
    whole_items,
)
from pipeline.results.reward import Slice, SliceTable
from pipeline.statistics.bootstrap import Estimate, wilson


def values(table: SliceTable | None) -> dict[str, tuple[float, int]]:
    assert table is not None
    return {row.name: (row.accuracy.value, row.accuracy.n) for row in table.rows}


# Catches: a tie counted as right, None as a name, the mean of slices taken for the mean of pairs.
def test_by_name() -> None:
    table = by_name([1.0, -1.0, 0.0, 2.0, 3.0, 4.0], ["b", "b", "b", "a", None, "a"])
    assert values(table) == {"a": (1.0, 2), "b": (pytest.approx(1 / 3), 3)}
    assert table is not None
    assert [row.ties for row in table.rows] == [0, 1]
    assert (table.unknown, table.micro.value) == (1, pytest.approx(3 / 5))
    assert table.macro.value == pytest.approx((1 + 1 / 3) / 2)
    exact = binomtest(1, 3).proportion_ci(method="wilson")
    assert (table.rows[1].accuracy.low, table.rows[1].accuracy.high) == pytest.approx(exact)
    assert by_name([1.0], [None]) is None
    # Catches: a pair without a value in the slice whose value is an empty text.
    assert values(by_name([1.0, -1.0], ["", None])) == {"": (1.0, 1)}


def test_rare_values_are_put_together() -> None:
    names = [f"v{i:03}" for i in range(MOST_SLICES)] * 2 + ["x", "y"]
    table = by_name([1.0] * 100 + [1.0, -1.0], names)
    assert table is not None
    assert len(table.rows) == MOST_SLICES + 1
    assert values(table)["2 other values"] == (0.5, 2)


# Catches: groups by value instead of by rank, equal values on two sides of an edge, None taken for 0.
def test_by_size() -> None:
    sizes = [9.0, None, 1.0, 2.0, 3.0, 100.0, 4.0, 5.0, 6.0]
    table = by_size([1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0], sizes)
    assert values(table) == {"1 to 2": (0.0, 2), "3 to 4": (0.5, 2), "5 to 6": (1.0, 2), "9 to 100": (1.0, 2)}
    assert table is not None
    assert [(row.low, row.high) for row in table.rows] == [(1, 2), (3, 4), (5, 6), (9, 100)]
    assert table.unknown == 1
    shares = [0.6] * 3 + [0.8] * 2 + [1.0] * 5
    assert values(by_size(np.ones(10), shares)) == {"0.6": (1.0, 3), "0.8": (1.0, 2), "1": (1.0, 5)}
    assert by_size([1.0, -1.0], [3.0, 3.0]) is None
    assert by_size([1.0, -1.0], [None, None]) is None


def test_mass_groups_are_quarters_and_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=1000)
    expected = np.searchsorted(np.quantile(data, [0.25, 0.5, 0.75]), data, side="right")
    assert (mass_groups(data, 4) == expected).all()
    assert set(mass_groups(np.zeros(7), 4)) == {2}
    # Catches: three of a hundred as a group of their own, in between, at the end, at the beginning.
    few = np.repeat([1.0, 2.0, 3.0, 4.0], [37, 3, 34, 26])
    assert np.bincount(mass_groups(few, 4))[[0, 2, 3]].tolist() == [40, 34, 26]
    assert sorted(np.unique(mass_groups(-few, 4), return_counts=True)[1].tolist()) == [26, 37, 37]
    assert np.unique(mass_groups(np.repeat([1.0, 2.0, 3.0], [3, 60, 37]), 4), return_counts=True)[1].tolist() == [
        63,
        37,
    ]
    assert len(mass_groups(np.zeros(0), 4)) == 0


# Catches: the two sides exchanged, tokens or equal lengths counted.
def test_by_length_unmasks_a_rule_of_length() -> None:
    chosen = ["long one", "long one", "long one", "s", "same"]
    rejected = ["s", "s", "s", "long one", "size"]
    rule = [len(c) - len(r) for c, r in zip(chosen, rejected, strict=True)]
    table = by_length(rule, chosen, rejected)
    assert values(table) == {"longer chosen": (1.0, 3), "shorter chosen": (0.0, 1)}
    assert table is not None
    assert (table.macro.value, table.micro.value, table.unknown) == (0.5, 0.75, 1)


# Catches: the mean margin, or any of the pairs, for the smallest one.
def test_whole_items_need_every_pair() -> None:
    found = whole_items([1.0, 2.0, 5.0, -1.0, 0.5, 3.0], ["q1", "q1", "q2", "q2", "q3", "q1"])
    assert found is not None
    least, first = found
    assert least.tolist() == [1.0, -1.0, 0.5]
    assert first == [0, 2, 4]
    assert whole_items([1.0, -1.0], ["q1", "q2"]) is None


def accuracies(**shares: tuple[int, int]) -> list[Slice]:
    return [Slice(k.replace("_", "-"), wilson(*v), 0) for k, v in shares.items()]


# Catches: math-prm weighed by its own pairs, a section's subsets weighed alike, sections weighed by their pairs.
def test_sections_of_reward_bench_by_hand() -> None:
    rows = accuracies(
        alpacaeval_easy=(90, 100),
        mt_bench_easy=(14, 28),
        llmbar_natural=(30, 100),
        donotanswer=(68, 136),
        math_prm=(447, 447),
        hep_go=(82, 164),
        hep_rust=(0, 164),
    )
    found = sections(rows)
    assert found is not None
    scores = {row.name: row.accuracy.value for row in found.rows}
    reasoning = (328 * 1 + 82 + 0) / (328 + 328)
    by_hand = {"Chat": 104 / 128, "Chat Hard": 0.3, "Safety": 0.5, "Reasoning": reasoning}
    assert scores == pytest.approx(by_hand)
    assert found.score.value == pytest.approx(sum(by_hand.values()) / 4)
    missing = sections(rows[:3])
    assert missing is not None
    assert missing.score is None
    assert sections([*rows, *accuracies(other=(1, 2))]) is None
    assert sum(map(len, REWARD_BENCH.values())) == 23


def test_a_mean_of_one_part_is_that_part() -> None:
    part = wilson(7, 9)
    assert weighted_mean([part]) == part
    pair = weighted_mean([wilson(9, 9), wilson(0, 9)])
    # By hand: each limit is 1 - low of 9 in 9 away in one of the two, on one side only, and weighs one half.
    away = (1 - wilson(9, 9).low) / 2
    assert (pair.value, pair.low, pair.high) == pytest.approx((0.5, 0.5 - away, 0.5 + away))
    # Two independent halves: their distances add as squares, not as they are.
    alike, half = weighted_mean([wilson(3, 6), wilson(3, 6)]), 0.5 - wilson(3, 6).low
    assert (alike.low, alike.high) == pytest.approx((0.5 - half / 2**0.5, 0.5 + half / 2**0.5))
    assert weighted_mean([wilson(1, 2), wilson(3, 3)], [1, 3]).value == pytest.approx(0.875)


# Catches: weights left out of the squares (0.90), standard errors at the estimate for Wilson's distances.
@pytest.mark.parametrize(
    ("shares", "sizes", "weights"),
    [((0.9, 0.6, 0.5), (100, 40, 20), (1, 1, 1)), ((0.8, 0.9, 0.7, 0.5), (20, 15, 30, 50), (1, 4, 1, 1))],
)
def test_the_mean_of_slices_covers(shares: Any, sizes: Any, weights: Any) -> None:
    rng = np.random.default_rng(1)
    truth, hits = np.average(shares, weights=weights), 0
    for _ in range(1500):
        parts = [wilson(int(rng.binomial(n, p)), n) for p, n in zip(shares, sizes, strict=True)]
        found: Estimate = weighted_mean(parts, weights)
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 1500 <= 0.985
