"""Several reward models on the same pairs: is their mean better, and does their disagreement show its errors?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.evaluation.reward.pairwise_metrics import pair_accuracy
from pipeline.evaluation.reward.pointwise_metrics import auc
from pipeline.results.reward import EnsembleMetrics, NamedAccuracy
from pipeline.statistics.bootstrap import as_finite, paired_difference, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def ensemble_metrics(
    margins: Sequence[ArrayLike], names: Sequence[str], seed: int = 0, level: float = 0.95
) -> EnsembleMetrics:
    """The mean of several models' margins against each of them. Ties are wrong.

    A disagreement that tells wrong pairs from right ones no better than a small mean margin (``doubt``), which a
    single model has as well, is not worth several models.

    Args:
        margins: (M, n) chosen score minus rejected score of M >= 2 models, on one scale.
        names: (M,) of the models.
    """
    data = np.stack([as_finite(m, f"scores of {name}") for m, name in zip(margins, names, strict=True)])
    mean = data.mean(0)
    right, wins = mean > 0, data > 0
    signs = np.sign(data)
    unanimous = (signs == signs[0]).all(0) & (signs[0] != 0)
    return EnsembleMetrics(
        members=tuple(
            NamedAccuracy(name, pair_accuracy(own, level)) for name, own in zip(names, data, strict=True)
        ),
        accuracy=pair_accuracy(mean, level),
        gain=paired_difference(wins.mean(0), right.astype(float), seed, level),
        unanimous=wilson(int(right[unanimous].sum()), int(unanimous.sum()), level),
        split=wilson(int(right[~unanimous].sum()), int((~unanimous).sum()), level),
        # From the first member on, so that members of equal margins differ by nothing at all.
        disagreement=auc((data - data[0]).std(0), ~right, level),
        doubt=auc(-np.abs(mean), ~right, level),
    )
