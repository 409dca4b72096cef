"""The rule for over-optimisation: the gold score falls while the trained proxy rises.

PPO stops by it (``ppo.fall_patience``), ``evaluate`` finds the turning point by it, and the doctor warns by it
where a run has held-out evaluations; without them the doctor compares windows of updates
(:mod:`pipeline.health.gold_rules`). Gold is the gold score, or a judge, on prompts that are not trained on (Gao
et al. 2023, arXiv:2210.10760).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The best of many evaluations is the best by chance too. Of 400 simulated runs that rise for 5 evaluations of 64
# prompts and then stay where they are, two evaluations in a row were below the best by 1.645 paired standard
# errors in 41 % where there were 20 evaluations, by 2 in 15 %, by 2.5 in 4 %, by 3 in 1 % (of 60 evaluations: 96,
# 81, 36 and 13 %).
SURE = 3.0
# A fall of less than a fifth of the gain is a plateau.
LOST = 0.2
PATIENCE = 2
"""Evaluations in a row that have to be below the best: one alone may be chance."""


@dataclass(frozen=True)
class Evaluated:
    """A policy on the prompts it is checked on.

    Attributes:
        gold: mean of the gold score.
        proxy: mean of the trained score.
        error: standard error of the difference of ``gold`` to the best earlier one, paired by prompt if possible;
            the first one's is not read.
    """

    gold: float
    proxy: float
    error: float = 0.0


def evaluated(
    gold: Sequence[float],
    proxy: Sequence[float],
    errors: Sequence[float],
    paired: Sequence[float | None] | None = None,
) -> list[Evaluated]:
    """The logged evaluations, in order.

    Args:
        errors: standard errors of ``gold``.
        paired: standard errors of the differences to the best earlier one, paired by prompt. For None the error of
            two independent means is used, which is too large.
    """
    rows: list[Evaluated] = []
    best = 0
    for i, mean in enumerate(gold):
        error = paired[i] if paired is not None else None
        rows.append(Evaluated(mean, proxy[i], math.hypot(errors[i], errors[best]) if error is None else error))
        best = i if mean > gold[best] else best
    return rows


def paired_error(now: Sequence[float], before: Sequence[float]) -> float:
    """Standard error of the mean difference of two lists of values of the same prompts; 0 for one prompt."""
    differences = [a - b for a, b in zip(now, before, strict=True)]
    return statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def fell(first: Evaluated, best: Evaluated, now: Evaluated) -> bool:
    """Whether ``now`` is surely below the best, by ``LOST`` of the gain since ``first``, with a higher proxy."""
    fall = best.gold - now.gold
    return now.proxy > best.proxy and fall > SURE * now.error and fall >= LOST * (best.gold - first.gold)


def falls(evaluations: Sequence[Evaluated]) -> tuple[int, int]:
    """The index of the best evaluation, and how many of the last ones in a row have fallen from it."""
    if not evaluations:
        raise ValueError("no evaluation")
    best, in_a_row = 0, 0
    for i, now in enumerate(evaluations[1:], 1):
        in_a_row = in_a_row + 1 if fell(evaluations[0], evaluations[best], now) else 0
        if now.gold > evaluations[best].gold:
            best = i
    return best, in_a_row


def turned_at(evaluations: Sequence[Evaluated], patience: int = PATIENCE) -> int | None:
    """The index of the best evaluation if the last ``patience`` ones have all fallen from it, else None."""
    if not evaluations:
        return None
    best, in_a_row = falls(evaluations)
    return best if in_a_row >= patience else None
