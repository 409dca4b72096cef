"""Rates of flagged completions on both sides, with an interval also where nothing was flagged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.policy.policy_metrics import by_prompt
from pipeline.results.sides import Change
from pipeline.statistics.bootstrap import RESAMPLING, Estimate, Resampling, wilson


def flag_rates(
    base: Sequence[bool], policy: Sequence[bool], per_prompt: int = 1, resampling: Resampling = RESAMPLING
) -> Change:
    """The share of flagged completions of each side, and policy - base, paired by prompt.

    Wilson's interval over prompts, a little too wide where several completions are averaged. The difference has
    that of :func:`pipeline.statistics.bootstrap.paired_difference`; where it is the same on every prompt, as where
    nothing was flagged, Newcombe's for two independent rates (1998, method 10 without correlation), which is too
    wide rather than too narrow: none of 400 may be up to 1 %.
    """
    before, after = by_prompt(base, per_prompt), by_prompt(policy, per_prompt)
    n = len(before)
    first, second = (wilson(float(values.sum()), n, resampling.level) for values in (before, after))
    difference = resampling.difference(before, after)
    if n and np.ptp(after - before) == 0:
        down = math.hypot(second.value - second.low, first.high - first.value)
        up = math.hypot(second.high - second.value, first.value - first.low)
        value = difference.value
        difference = Estimate(value, max(value - down, -1.0), min(value + up, 1.0), n, "Newcombe")
    return Change(first, second, difference)
