"""Agreement of votes on the same items: the raw share and Krippendorff's alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.statistics.intervals import SMALLEST_BOOTSTRAP, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray


RESAMPLES = 200
SEED = 0

# More items than this are grouped at random, and the groups are resampled: the estimates are ratios of sums over
# items, so their spread is the same, and the work stays bounded.
MOST_UNITS = 2000


@dataclass(frozen=True, kw_only=True)
class RawAgreement(Estimate):
    """Share of pairs of votes on the same item that agree; ``n`` pairs on ``items`` items with such a pair."""

    items: int


@dataclass(frozen=True, kw_only=True)
class Alpha(Estimate):
    """Krippendorff's alpha of ``n`` votes on ``items`` items; the ``reason`` where it is undefined."""

    items: int
    reason: str | None


def krippendorff_alpha(coincidences: NDArray, *, ordinal: bool = False) -> NDArray:
    """Krippendorff's alpha from matrices of coincidences (Computing Krippendorff's Alpha-Reliability, 2011).

    Args:
        coincidences: (..., K, K); entry (c, k) is the sum, over units of m > 1 values, of their ordered pairs
            (c, k) divided by m - 1.
    Returns:
        (...) alpha; NaN where all values are the same, which leaves chance agreement undefined.
    """
    import numpy as np

    totals = coincidences.sum(-1)
    n = totals.sum(-1)
    if ordinal:
        ranks = totals.cumsum(-1) - totals / 2
        distance = (ranks[..., :, None] - ranks[..., None, :]) ** 2
    else:
        distance = 1.0 - np.eye(coincidences.shape[-1])
    observed = (coincidences * distance).sum((-1, -2))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (n - 1) * observed / expected


def agreement(counts: NDArray, item: NDArray, *, ordinal: bool = False) -> tuple[RawAgreement, Alpha]:
    """Raw agreement and alpha (ordinal for ratings, else nominal), both from sums over items.

    Args:
        counts: (Q, K) votes of each choice on each question.
        item: (Q,) index of each question's item.
    """
    import numpy as np

    k, several = counts.shape[1], counts.sum(1) > 1
    counts, m = counts[several].astype(float), counts[several].sum(1)
    with_several, unit = np.unique(item[several], return_inverse=True)
    n_items, n_units = len(with_several), min(len(with_several), MOST_UNITS)
    agreeing, pairs = (counts * (counts - 1)).sum(1) / 2, m * (m - 1) / 2
    both = counts[:, :, None] * (counts[:, None, :] - np.eye(k)) / (m - 1)[:, None, None]
    rng = np.random.default_rng(SEED)
    if n_items > n_units:
        unit = (rng.permutation(n_items) % n_units)[unit]
    columns = [agreeing, pairs, *both.reshape(-1, k * k).T]
    sums = np.stack([np.bincount(unit, weights=c, minlength=n_units) for c in columns], axis=1)

    def estimates(totals: NDArray) -> tuple[NDArray, NDArray]:
        coincidences = totals[..., 2:].reshape(*totals.shape[:-1], k, k)
        with np.errstate(invalid="ignore"):
            return totals[..., 0] / totals[..., 1], krippendorff_alpha(coincidences, ordinal=ordinal)

    raw, alpha = estimates(sums.sum(0))
    spread: tuple[NDArray | None, NDArray | None] = (None, None)
    if n_items >= SMALLEST_BOOTSTRAP:
        draws = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=RESAMPLES)
        spread = estimates(draws @ sums)
    reason = None if np.isfinite(alpha) else "all votes are the same" if n_items else "no item has two votes"
    return (
        RawAgreement(*_limits(raw, spread[0]), n=int(pairs.sum()), items=n_items),
        Alpha(*_limits(alpha, spread[1]), n=int(m.sum()), items=n_items, reason=reason),
    )


def _limits(value: NDArray, resampled: NDArray | None) -> tuple[float, float, float]:
    """The value and its percentile interval; resamples where it is undefined are dropped."""
    import numpy as np

    defined = resampled[np.isfinite(resampled)] if resampled is not None else np.empty(0)
    if not np.isfinite(value) or not len(defined):
        return float(value), math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(value), float(low), float(high)
