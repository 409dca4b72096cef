"""What the runs of a sweep come to over their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.statistics.intervals import Estimate


@dataclass(frozen=True, kw_only=True)
class OverSeeds(Estimate):
    """A figure's mean over seeds, with the values that are the least and the most."""

    least: float
    most: float


@dataclass(frozen=True)
class SettingOverSeeds:
    """Runs that differ in their seed only.

    Attributes:
        figures: None where no run has it.
        against_first: the differences to the first setting's run of the same seed, in which cancels what the seed
            gives to both (base, preferences, prompts); None for the first itself.
    """

    group: str
    seeds: Sequence[int]
    figures: Mapping[str, OverSeeds | None]
    against_first: Mapping[str, OverSeeds | None] | None
