"""The figures of a run so far, as rules read them: first and latest medians, scatter, best window.

They depend on the rows alone, so a continued run takes the rows of the interrupted one first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from pipeline.health.written_texts import Window

# Updates of a median, which two outliers among five do not change.
WINDOW = 5

# Standard errors by which a figure has to move. Rules are applied after every update and to the best window, so
# two would be exceeded by chance in most runs.
SURE = 4.0

# Differences between neighbours that scatter is measured on, for a relative error of a tenth.
_RECENT = 64


@dataclass
class Column:
    """The finite values of one metric by update.

    Attributes:
        peak: the best mean of a window that ended at least a window ago, and the index of its first value.
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
        window: the latest completions up to the last row; None where they are unknown.
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
        """The last ``k`` values; empty where there are fewer."""
        values = self.column(name).values
        return values[-k:] if len(values) >= k else []

    def now(self, name: str, k: int = WINDOW) -> float | None:
        """Median of the last ``k`` values."""
        values = self.last(name, k)
        return median(values) if values else None

    def since(self, name: str, k: int = WINDOW) -> int:
        """The update from which on half of the last ``k`` values are."""
        updates = self.column(name).updates
        return updates[0] if len(updates) == k else updates[-(k // 2 + 1)]

    def first(self, name: str) -> float | None:
        """The first value."""
        values = self.column(name).values
        return values[0] if values else None

    def holding_since(self, name: str, holds: Callable[[float], bool]) -> int | None:
        """The first update since which every value ``holds``; None where the last one does not."""
        column = self.column(name)
        since = None
        for update, value in zip(reversed(column.updates), reversed(column.values), strict=True):
            if not holds(value):
                break
            since = update
        return since

    def start(self, name: str) -> float | None:
        """Median of the first window; None before there are two windows."""
        values = self.column(name).values
        return median(values[:WINDOW]) if len(values) >= 2 * WINDOW else None

    def moved(self, name: str) -> Move | None:
        """The move from the first window to the last; None while they overlap."""
        before, now = self.start(name), self.now(name)
        if before is None or now is None:
            return None
        # The standard error of a median of n normal values is 1.25 times that of their mean.
        return Move(before, now, 1.25 * self.scatter(name) * math.sqrt(2 / WINDOW))

    def scatter(self, name: str) -> float:
        """Robust standard deviation around the figure's course, from its recent steps."""
        values = self.column(name).values[-_RECENT - 1 :]
        steps = [abs(b - a) for a, b in pairwise(values)]
        # 1.4826 turns a median absolute deviation into a standard deviation; a step has the noise of two values.
        return 1.4826 * median(steps) / math.sqrt(2) if steps else 0.0

    @property
    def batch(self) -> float | None:
        """Completions per update; None where unknown."""
        episodes = self.column("episode").values
        return episodes[-1] / self.update if self.update > 0 and episodes and episodes[-1] > 0 else None
