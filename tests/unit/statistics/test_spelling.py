"""Numbers and intervals as text."""

from __future__ import annotations

import pytest

from pipeline.statistics.intervals import Estimate
from pipeline.statistics.spelling import interval


# Catches: a limit just below 0 that reads "0.00", as if the interval excluded 0.
@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.068, -0.004, 0.138, "+0.07 [−0.004, 0.14]"),
        (0.068, 0.0004, 0.138, "+0.07 [0.0004, 0.14]"),
        (-0.07, -0.14, 0.0049, "−0.07 [−0.14, 0.005]"),
        (0.068, 0.01, 0.138, "+0.07 [0.01, 0.14]"),
        (0.0, 0.0, 0.0, "0.00 [0.00, 0.00]"),
        (0.5, 1e-9, 1.0, "+0.50 [0.00, 1.00]"),
    ],
)
def test_a_change_shows_on_which_side_of_0_its_limits_are(
    value: float, low: float, high: float, text: str
) -> None:
    assert interval(Estimate(value, low, high, 60), signed=True) == text


def test_a_value_keeps_its_digits() -> None:
    assert interval(Estimate(0.013, 0.002, 0.067, 80)) == "0.01 [0.00, 0.07]"
