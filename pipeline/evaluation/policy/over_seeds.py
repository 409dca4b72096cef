"""Aggregate runs that differ in their seed: means with intervals, and differences paired by seed.

The unit is the seed: each makes its own base, preferences, reward model and policy, so the spread over seeds holds
what the spread over prompts of one run does not. With n - 1 degrees of freedom Student's t is wide for few seeds,
as it has to be: resampling five values cannot tell of a sixth beyond them. How often each method held the mean is
in :mod:`pipeline.statistics.bootstrap`, which resamples from 20 seeds on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.results.sweep import OverSeeds, SettingOverSeeds
from pipeline.statistics.bootstrap import bootstrap_mean

Figures = Mapping[str, float | None]
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
    figures: Figures = field(default_factory=dict[str, float | None])


def over_seeds(values: Sequence[float], level: float = 0.95, within: Range = ANY) -> OverSeeds | None:
    """A figure with a value per seed; without limits for one seed.

    Args:
        within: values that are possible; an interval holds the mean as often without the others.
    """
    if not values:
        return None
    mean = bootstrap_mean(values, seed=0, level=level)
    if mean.has_limits:
        mean = replace(mean, low=max(mean.low, within[0]), high=min(mean.high, within[1]))
    return OverSeeds(**vars(mean), least=min(values), most=max(values))


def aggregate(
    runs: Sequence[Measured], level: float = 0.95, ranges: Mapping[str, Range] | None = None
) -> list[SettingOverSeeds]:
    """One entry per group, in the order of their first runs.

    Args:
        ranges: the values that a figure can have, where it has bounds.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.figures))
    by_group: dict[str, dict[int, Figures]] = {}
    for run in runs:
        by_group.setdefault(run.group, {})[run.seed] = run.figures
    first = next(iter(by_group.values()), {})
    settings: list[SettingOverSeeds] = []
    for group, own in by_group.items():
        seeds = sorted(own)
        figures: dict[str, OverSeeds | None] = {}
        for key in keys:
            values = [value for seed in seeds if (value := own[seed].get(key)) is not None]
            figures[key] = over_seeds(values, level, (ranges or {}).get(key, ANY))
        against = None if own is first else {key: _paired(own, first, key, level) for key in keys}
        settings.append(SettingOverSeeds(group, seeds, figures, against))
    return settings


def _paired(own: Mapping[int, Figures], first: Mapping[int, Figures], key: str, level: float) -> OverSeeds | None:
    pairs = [(own[seed].get(key), first[seed].get(key)) for seed in sorted(own.keys() & first.keys())]
    return over_seeds([a - b for a, b in pairs if a is not None and b is not None], level)
