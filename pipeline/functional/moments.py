"""Running mean and standard deviation of scores, by which they are scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass
class RunningMoments:
    """Count, mean and sum of squared deviations of all that was seen (Chan et al. 1979, the parallel update)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def update(self, scores: Tensor) -> None:
        """Take a batch of scores (B,) into account."""
        batch = scores.double()
        count, mean = len(batch), batch.mean().item()
        total = self.count + count
        shift = mean - self.mean
        self.squares += ((batch - mean) ** 2).sum().item() + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total

    @property
    def std(self) -> float:
        """Unbiased standard deviation, 1 as long as it is unknown or 0."""
        if self.count < 2 or self.squares <= 0:
            return 1.0
        return math.sqrt(self.squares / (self.count - 1))

    def scale(self, scores: Tensor) -> Tensor:
        """Scores (B,) with mean 0 and standard deviation 1 under these moments."""
        return (scores - self.mean) / self.std
