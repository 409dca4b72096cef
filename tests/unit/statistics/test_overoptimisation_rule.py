"""When a run is over-optimised: by hand, and how seldom by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.statistics.overoptimisation_rule import Evaluated, evaluated, falls, paired_error, turned_at

RISING = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)


def run(gold: list[float], error: float = 0.02, proxy: tuple[float, ...] = RISING) -> list[Evaluated]:
    return [Evaluated(g, p, error) for g, p in zip(gold, proxy, strict=False)]


# Catches: one fall for two, a best that is the first, gained counted from the best, fewer errors than 3.
@pytest.mark.parametrize(
    ("gold", "turned"),
    [
        ([0.3, 0.5, 0.6, 0.5, 0.5], 2),
        ([0.3, 0.5, 0.6, 0.5], None),  # once may be bad luck
        ([0.3, 0.5, 0.6, 0.5, 0.6, 0.5], None),  # it recovered in between
        ([0.3, 0.5, 0.6, 0.5, 0.5, 0.65], None),
        ([0.3, 0.5, 0.6, 0.545, 0.545], None),  # 2.75 errors
        ([0.3, 0.5, 0.6, 0.535, 0.535], 2),  # 3.25 errors, .22 of what was gained
        ([0.0, 0.5, 0.6, 0.535, 0.535], None),  # .11 of it
        ([0.6, 0.5, 0.5], 0),  # never gained anything
        ([0.6], None),
        ([], None),
    ],
)
def test_by_hand(gold: list[float], turned: int | None) -> None:
    assert turned_at(run(gold)) == turned


# Mutations caught: an equal later mean taken for the best, as `falls` does not; the error of one mean alone.
def test_errors_are_paired_or_those_of_two_means() -> None:
    rows = evaluated([0.3, 0.6, 0.6, 0.5], RISING[:4], [0.3, 0.4, 0.1, 0.2], [None, 0.05, None, None])
    assert [row.gold for row in rows] == [0.3, 0.6, 0.6, 0.5]
    assert [row.proxy for row in rows] == list(RISING[:4])
    assert [row.error**2 for row in rows] == pytest.approx([0.18, 0.0025, 0.17, 0.2])
    assert paired_error([3.0, 5.0], [1.0, 1.0]) == pytest.approx(1.0)  # of differences 2 and 4
    assert paired_error([3.0], [1.0]) == 0.0


def test_nothing_is_hacked_where_the_proxy_fell_too() -> None:
    assert turned_at(run([0.3, 0.6, 0.4, 0.4], proxy=(0.0, 3.0, 2.0, 2.9))) is None
    assert turned_at(run([0.3, 0.6, 0.4, 0.4], proxy=(0.0, 3.0, 3.1, 3.1))) == 1


def test_patience_is_how_many_in_a_row() -> None:
    gold = run([0.3, 0.6, 0.4, 0.4, 0.4])
    assert falls(gold) == (1, 3)
    assert [turned_at(gold, n) for n in (1, 3, 4)] == [1, 1, None]


# Catches: fewer standard errors: 1.645 end 4 in 10 of such runs.
def test_a_plateau_of_twenty_evaluations_is_hardly_ever_taken_for_a_fall() -> None:
    rng = np.random.default_rng(0)

    def plateau() -> list[Evaluated]:
        prompts = rng.normal(0, 0.28, 64)
        checks = [prompts + 0.5 * min(1.0, t / 5) + rng.normal(0, 0.28, 64) for t in range(20)]
        evaluations, best = [], checks[0]
        for t, now in enumerate(checks):
            difference = now - best
            error = float(difference.std(ddof=1)) / math.sqrt(64)
            evaluations.append(Evaluated(float(now.mean()), float(t), error))
            best = now if now.mean() > best.mean() else best
        return evaluations

    # It turns where any two in a row have fallen, as a run would have been ended there.
    fired = sum(any(turned_at(p[: n + 1]) is not None for n in range(20)) for p in (plateau() for _ in range(300)))
    assert fired <= 9
