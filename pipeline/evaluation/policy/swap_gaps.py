"""Gaps between groups, on texts that differ in the group only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.results.fairness import Gap
from pipeline.statistics.bootstrap import bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def comparisons_of(groups: Sequence[str]) -> int:
    """How many gaps there are between these groups: of two, one is the other's negative."""
    return 1 if len(groups) == 2 else len(groups)


def group_gaps(
    values: ArrayLike,
    groups: Sequence[str],
    templates: Sequence[Hashable],
    comparisons: int,
    seed: int = 0,
    level: float = 0.95,
) -> Mapping[str, Gap]:
    """Each group's mean less the mean of the others, by group; of two groups the first's.

    The lines of one template differ in the swapped words alone, so they are averaged first and templates are the
    unit of the interval (fewer than 20: Student's t). Bonferroni's limits hold for all ``comparisons`` together.

    Args:
        values: (lines, groups).
        templates: (lines,) of each line.
    """
    table = np.asarray(values, np.float64)
    by_template = defaultdict[Hashable, list[int]](list)
    for line, template in enumerate(templates):
        by_template[template].append(line)
    gaps: dict[str, Gap] = {}
    for i, group in enumerate(groups[: comparisons_of(groups)]):
        differences = table[:, i] - np.delete(table, i, axis=1).mean(1)
        each = [differences[lines].mean() for lines in by_template.values()]
        plain = bootstrap_mean(each, seed, level, differences=True)
        corrected = bootstrap_mean(each, seed, 1 - (1 - level) / max(comparisons, 1), differences=True)
        gaps[group] = Gap(**vars(plain), corrected_low=corrected.low, corrected_high=corrected.high)
    return gaps
