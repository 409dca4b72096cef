"""A run's figures so far, as rules read them: where each started, where it is, how much it scatters.

Everything is a function of the rows taken, so a run that is continued has the figures of the run before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from pipeline.health.written_texts import Window

# Medians over five updates: two wild ones among them change nothing.
WINDOW = 5

# Standard errors by which a figure has to move. A rule looks after every update, and at the best window so far, so
# the usual two would be exceeded by chance in most runs.
SURE = 4.0

# Differences between neighbours that scatter is measured on: enough for a tenth of relative error.
_RECENT = 64


@dataclass
class Column:
    """One metric by update, of the rows where it is a finite number.

    Attributes:
        peak: the best mean of a window that ended a window ago, and the place where that window begins.
    """

    updates: list[int] = field(default_factory=list[int])
    values: list[float] = field(default_factory=list[float])
    peak: tuple[float, int] | None = None

    def add(self, update: int, value: float) -> None:
        self.updates.append(update)
        self.values.append(value)
        begin = len(self.values) - 2 * WINDOW
        if begin >= 0:
            mean = sum(self.values[begin : begin + WINDOW]) / WINDOW
            if self.peak is None or mean > self.peak[0]:
                self.peak = (mean, begin)


@dataclass(frozen=True)
class Move:
    """A figure's first and last window.

    Attributes:
        before, now: medians.
        error: standard error of their difference, from the scatter between neighbouring updates.
    """

    before: float
    now: float
    error: float

    @property
    def rose(self) -> bool:
        return self.now - self.before > SURE * self.error

    @property
    def fell(self) -> bool:
        return self.before - self.now > SURE * self.error


class Figures:
    """Takes a run's rows in order, one per update.

    Attributes:
        window: the latest completions up to the last row, where they are known.
    """

    def __init__(self) -> None:
        self.update = 0
        self.row: Mapping[str, object] = {}
        self.window: Window | None = None
        self._columns: dict[str, Column] = {}

    def take(self, row: Mapping[str, object], window: Window | None = None) -> None:
        """Take one logged row, and the completions up to it.

        An evaluation before the first update has no ``update`` and counts as 0.
        """
        update = row.get("update")
        if isinstance(update, int | float) and math.isfinite(update):
            self.update = int(update)
        self.row, self.window = row, window
        for name, value in row.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._columns.setdefault(name, Column()).add(self.update, float(value))

    def has(self, name: str) -> bool:
        return name in self._columns

    def column(self, name: str) -> Column:
        """Empty where the figure was never logged."""
        return self._columns.get(name, Column())

    def count(self, name: str) -> int:
        return len(self.column(name).values)

    def last(self, name: str, k: int = WINDOW) -> list[float]:
        """The last ``k`` values; none as long as there are fewer."""
        values = self.column(name).values
        return values[-k:] if len(values) >= k else []

    def now(self, name: str, k: int = WINDOW) -> float | None:
        """Median of the last ``k`` values."""
        values = self.last(name, k)
        return median(values) if values else None

    def since(self, name: str, k: int = WINDOW) -> int:
        """The update at which a median of the last ``k`` values can have become what it is."""
        updates = self.column(name).updates
        return updates[0] if len(updates) == k else updates[-(k // 2 + 1)]

    def first(self, name: str) -> float | None:
        """The first value."""
        values = self.column(name).values
        return values[0] if values else None

    def holding_since(self, name: str, holds: Callable[[float], bool]) -> int | None:
        """The first update of the unbroken stretch up to now in which it ``holds``; None where it does not now."""
        column = self.column(name)
        since = None
        for update, value in zip(reversed(column.updates), reversed(column.values), strict=True):
            if not holds(value):
                break
            since = update
        return since

    def start(self, name: str) -> float | None:
        """Median of the first window, once a second one has begun after it."""
        values = self.column(name).values
        return median(values[:WINDOW]) if len(values) >= 2 * WINDOW else None

    def moved(self, name: str) -> Move | None:
        """From the first window to the last one; None as long as they overlap."""
        before, now = self.start(name), self.now(name)
        if before is None or now is None:
            return None
        # The standard error of a median of n normal values is 1.25 times that of their mean.
        return Move(before, now, 1.25 * self.scatter(name) * math.sqrt(2 / WINDOW))

    def scatter(self, name: str) -> float:
        """Standard deviation around the figure's course, from its recent steps; a few wild ones count little."""
        values = self.column(name).values[-_RECENT - 1 :]
        steps = [abs(b - a) for a, b in pairwise(values)]
        # 1.4826 makes a median absolute deviation a normal standard deviation; a step holds two values' noise.
        return 1.4826 * median(steps) / math.sqrt(2) if steps else 0.0

    @property
    def batch(self) -> float | None:
        """Completions of an update."""
        episodes = self.column("episode").values
        return episodes[-1] / self.update if self.update > 0 and episodes and episodes[-1] > 0 else None
