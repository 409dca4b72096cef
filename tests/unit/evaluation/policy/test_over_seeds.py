"""Figures over seeds, by hand."""

from __future__ import annotations

import math

import pytest

from pipeline.evaluation.policy.over_seeds import Measured, aggregate, over_seeds

RUNS = [
    Measured("a", 0, {"gold": 1.0, "rate": 0.9}),
    Measured("b", 0, {"gold": 2.0, "rate": None}),
    Measured("a", 1, {"gold": 3.0, "rate": 1.0}),
    Measured("b", 2, {"gold": 9.0, "rate": None}),
    Measured("b", 1, {"gold": 6.0, "rate": None}),
]


# Seen failing with: n degrees of freedom, the deviation over n, a z of 1.96.
def test_a_mean_with_students_t() -> None:
    found = over_seeds([1.0, 2.0, 3.0, 6.0])
    assert found is not None
    # Mean 3; squared deviations 4 + 1 + 0 + 9, over 3: 14/3; t of three degrees of freedom is 3.1824.
    half = 3.1824 * math.sqrt(14 / 3) / 2
    assert (found.value, found.n, found.least, found.most) == (3.0, 4, 1.0, 6.0)
    assert found.low == pytest.approx(3 - half, abs=1e-3)
    assert found.high == pytest.approx(3 + half, abs=1e-3)


def test_one_seed_has_no_interval_and_none_no_value() -> None:
    alone = over_seeds([2.0])
    assert alone is not None
    assert (alone.value, alone.n, alone.least, alone.most) == (2.0, 1, 2.0, 2.0)
    assert not alone.has_limits
    assert over_seeds([]) is None


def test_a_share_stays_within_its_bounds() -> None:
    found = over_seeds([0.9, 1.0], within=(0.0, 1.0))
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.95 - 12.706 * 0.05, abs=1e-3), 1.0)


# Seen failing with: groups paired by position and not by seed; a seed of one side counted; the sign turned.
def test_groups_are_paired_by_seed() -> None:
    a, b = aggregate(RUNS, ranges={"rate": (0.0, 1.0)})
    assert (a.group, a.seeds, a.against_first) == ("a", [0, 1], None)
    assert (b.group, b.seeds) == ("b", [0, 1, 2])
    assert b.figures["gold"].value == pytest.approx(17 / 3)
    against = b.against_first["gold"]
    # Seeds 0 and 1: 2 - 1 and 6 - 3.
    assert (against.value, against.n, against.least, against.most) == (2.0, 2, 1.0, 3.0)
    assert b.figures["rate"] is None
    assert b.against_first["rate"] is None
    assert a.figures["rate"].high == 1.0
