"""The interval of an accuracy whose pairs are not independent: of one prompt, or with a completion in common."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.results.reward import DependentAccuracy
from pipeline.statistics.bootstrap import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# With fewer, the spread between prompts cannot be estimated.
FEWEST_PROMPTS = 10


def dependent_accuracy(
    margins: ArrayLike, prompts: Sequence[str], chosen: Sequence[str], rejected: Sequence[str], level: float = 0.95
) -> DependentAccuracy | None:
    """The accuracy with an interval that allows for dependent pairs.

    Pairs of one prompt go together where there are 10 prompts or more, so that the interval is about prompts like
    these. With fewer it is about these prompts only: pairs that share a completion go together (as dyads, Aronow,
    Samii and Assenova 2015). Wilson's interval for as many independent pairs as tell as much, with Student's t.

    Args:
        margins: (n,) chosen score minus rejected score; 0 is a tie, which is wrong.
    Returns:
        None where every prompt has one pair.
    """
    n, different = len(prompts), len(set(prompts))
    if different == n:
        return None
    right = np.asarray(margins, np.float64) > 0
    by_prompt = different >= FEWEST_PROMPTS
    if by_prompt:
        variance, units = grouped_variance(right, prompts), different
    else:
        first, second = list(zip(prompts, chosen, strict=True)), list(zip(prompts, rejected, strict=True))
        variance, units = dyadic_variance(right, first, second), len({*first, *second})
    estimate, worth = effective_wilson(right, variance, units, level)
    by = "prompt" if by_prompt else "completion"
    return DependentAccuracy(**vars(estimate), prompts=different, by=by, worth=worth)


def grouped_variance(right: NDArray[np.bool_], groups: Sequence[Hashable]) -> float:
    """Variance of the share that is right, groups being independent and of any inner dependence."""
    errors = right - right.mean()
    sums = _sums(errors, groups)
    return len(sums) / max(len(sums) - 1, 1) * _squares(sums) / len(right) ** 2


def dyadic_variance(right: NDArray[np.bool_], first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Variance of the share that is right, pairs being independent where they share no member.

    Every product of the errors of two pairs that share a member, once: the sums over members count those that
    share both twice.
    """
    errors = right - right.mean()
    twice = np.concatenate([errors, errors])
    pairs = [frozenset(pair) for pair in zip(first, second, strict=True)]
    members = _sums(twice, [*first, *second])
    return max(_squares(members) - _squares(_sums(errors, pairs)), 0.0) / len(right) ** 2


def effective_wilson(
    right: NDArray[np.bool_], variance: float, units: int, level: float = 0.95
) -> tuple[Estimate, float]:
    """Wilson's interval for n independent pairs whose share had this variance, n being at most those there are.

    All right or all wrong, nothing shows how they go together: then a unit counts as one pair.

    Args:
        units: how many independent things were drawn; Student's t has one degree of freedom less.
    Returns:
        The interval (its ``n`` is that of the pairs) and the n it was computed for.
    """
    from scipy.stats import t

    n, share = len(right), float(right.mean())
    if units < 2:
        return Estimate(share, 0.0, 1.0, n), 1.0
    spread = share * (1 - share)
    worth = min(spread / variance, float(n)) if spread > 0 and variance > 0 else float(min(units, n))
    z = float(t.ppf((1 + level) / 2, units - 1))
    shrink = 1 + z * z / worth
    middle = (share + z * z / (2 * worth)) / shrink
    half = z / shrink * math.sqrt(spread / worth + z * z / (4 * worth * worth))
    return Estimate(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share), n), worth


def _sums(values: NDArray[np.float64], keys: Iterable[Hashable]) -> list[float]:
    sums = defaultdict[Hashable, float](float)
    for key, value in zip(keys, values.tolist(), strict=True):
        sums[key] += value
    return list(sums.values())


def _squares(values: Iterable[float]) -> float:
    return float(sum(v * v for v in values))
