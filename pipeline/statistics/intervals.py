"""An estimate with its confidence limits, and Wilson's interval of a share. Needs the standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TypeGuard

WILSON = "Wilson"

# On few values the bootstrap is too narrow: on normal data its 95 % (BCa) held the mean in 82 % of draws at
# n = 5, 89 % at 10, 93 % at 20, so Student's t is used. On many values BCa's jackknife costs n^2 for a
# correction of order 1/sqrt(n), so percentiles are used.
SMALLEST_BOOTSTRAP, LARGEST_BCA = 20, 5000


@dataclass(frozen=True)
class Estimate:
    """An estimate and its confidence limits.

    Attributes:
        value: the estimate; NaN when ``n`` is 0.
        low, high: the limits; NaN when the data allow none (a mean of one value).
        n: the number of observations.
        method: of the limits, for a reader; empty without limits.
    """

    value: float
    low: float
    high: float
    n: int
    method: str = field(default="", compare=False)

    @property
    def has_limits(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"no value (n = {self.n})"
        if not self.has_limits:
            return f"{self.value:.2f} (no interval, n = {self.n})"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def has_value(estimate: Estimate | None) -> TypeGuard[Estimate]:
    """Whether there is an estimate and it is finite."""
    return estimate is not None and math.isfinite(estimate.value)


def finite(value: float) -> float | None:
    """``value`` if it is finite, else None, which JSON can hold."""
    return float(value) if math.isfinite(value) else None


def wilson(successes: float, n: int, level: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval (1927), which keeps its coverage near 0 and 1 and for small n.

    Args:
        successes: may end in .5, for half a win; the interval is then a little too wide.
        n: trials; 0 gives a NaN with limits 0 and 1.
    Raises:
        ValueError: ``successes`` outside 0 .. n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, WILSON)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    shrink = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives 0 or 1; rounding would put the limit past the estimate.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Estimate(share, low, high, n, WILSON)
