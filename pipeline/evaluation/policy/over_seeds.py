"""Runs that differ in their seed as one figure: a mean over seeds, its interval, and differences seed by seed.

The unit is the seed: each makes its own base, preferences, reward model and policy, so the spread over seeds holds
what the spread over prompts of one run does not. With n - 1 degrees of freedom Student's t is wide for few seeds,
as it has to be: resampling five values cannot tell of a sixth beyond them. How often each method held the mean is
in :mod:`pipeline.statistics.bootstrap`, which resamples from 20 seeds on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.statistics.bootstrap import bootstrap_mean

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)


@dataclass(frozen=True)
class Measured:
    """The figures of one run.

    Attributes:
        group: what the run shares with those that differ in their seed only.
    """

    group: str
    seed: int
    figures: Mapping[str, float | None] = field(default_factory=dict[str, float | None])


def over_seeds(values: Sequence[float], level: float = 0.95, within: Range = ANY) -> dict[str, Any] | None:
    """{value, low, high, n, least, most} of one figure, a value per seed; low and high None for one seed.

    Args:
        within: values that are possible; an interval holds the mean as often without the others.
    """
    if not values:
        return None
    found = bootstrap_mean(values, seed=0, level=level).as_dict()
    low, high = found["low"], found["high"]
    if low is not None and high is not None:
        found |= {"low": max(low, within[0]), "high": min(high, within[1])}
    return found | {"least": min(values), "most": max(values)}


def aggregate(
    runs: Sequence[Measured], level: float = 0.95, ranges: Mapping[str, Range] | None = None
) -> list[dict[str, Any]]:
    """One entry per group, in the order of their first runs.

    Args:
        ranges: the values that a figure can have, where it has bounds.
    Returns:
        group; seeds; figures: :func:`over_seeds` of each; against_first: the same of the differences to the first
        group's run of the same seed, in which cancels what the seed gives to both (base, preferences, prompts);
        None for the first group itself.
    """
    names = list(dict.fromkeys(run.group for run in runs))
    keys = list(dict.fromkeys(key for run in runs for key in run.figures))
    by_seed = {name: {run.seed: run.figures for run in runs if run.group == name} for name in names}
    first = by_seed[names[0]] if names else {}
    found: list[dict[str, Any]] = []
    for name in names:
        own = by_seed[name]
        figures: dict[str, Any] = {}
        for key in keys:
            values = [value for seed in sorted(own) if (value := own[seed].get(key)) is not None]
            figures[key] = over_seeds(values, level, (ranges or {}).get(key, ANY))
        against = None if own is first else {key: _paired(own, first, key, level) for key in keys}
        found.append({"group": name, "seeds": sorted(own), "figures": figures, "against_first": against})
    return found


def _paired(
    own: Mapping[int, Mapping[str, float | None]],
    first: Mapping[int, Mapping[str, float | None]],
    key: str,
    level: float,
) -> dict[str, Any] | None:
    pairs = [(own[seed].get(key), first[seed].get(key)) for seed in sorted(own.keys() & first.keys())]
    return over_seeds([a - b for a, b in pairs if a is not None and b is not None], level)
