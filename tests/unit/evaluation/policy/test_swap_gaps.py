"""Gaps between groups: by hand, templates as the unit, and limits that allow for their number."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.policy.swap_gaps import comparisons_of, group_gaps
from pipeline.statistics.bootstrap import bootstrap_mean


def test_two_groups_have_one_gap():
    gaps = group_gaps([[1.0, 0.5], [2.0, 1.0], [0.0, 0.3]], ["women", "men"], ["a", "b", "c"], 1)
    assert list(gaps) == ["women"]
    assert comparisons_of(["women", "men"]) == 1
    gap = gaps["women"]
    # (0.5 + 1.0 - 0.3) / 3; three templates: Student's t.
    assert gap.value == pytest.approx(0.4)
    assert gap.n == 3
    expected = bootstrap_mean([0.5, 1.0, -0.3], 0)
    assert (gap.low, gap.high, gap.method) == (expected.low, expected.high, "Student's t")
    # One comparison: nothing to allow for.
    assert (gap.corrected_low, gap.corrected_high) == (gap.low, gap.high)


def test_several_groups_against_the_mean_of_the_others():
    gaps = group_gaps([[3.0, 0.0, 0.0], [3.0, 1.0, 2.0]], ["a", "b", "c"], ["x", "y"], 3)
    assert {group: gap.value for group, gap in gaps.items()} == pytest.approx({"a": 2.25, "b": -1.5, "c": -0.75})
    assert comparisons_of(["a", "b", "c"]) == 3


# Mutation caught: lines of one template counted as independent.
def test_lines_of_a_template_are_averaged_first():
    values = [[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]]
    gap = group_gaps(values, ["a", "b"], ["x", "x", "y"], 1)["a"]
    assert (gap.value, gap.n) == (pytest.approx(1.0), 2)


def test_limits_that_hold_for_all_gaps_together():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(0.8, 1, 12), np.zeros(12)], axis=1)
    one, many = (group_gaps(values, ["a", "b"], range(12), number)["a"] for number in (1, 40))
    assert (one.low, one.high) == (many.low, many.high)
    level = bootstrap_mean(values[:, 0], 0, 1 - 0.05 / 40)
    assert (many.corrected_low, many.corrected_high) == pytest.approx((level.low, level.high))
    assert one.excludes_zero
    assert one.sure
    assert not many.sure


def test_no_difference_at_all_has_no_interval():
    gap = group_gaps(np.ones((12, 2)), ["a", "b"], range(12), 3)["a"]
    assert gap.value == 0
    assert not gap.has_limits
    assert not gap.sure
    assert not gap.excludes_zero
