"""Several reward models on the same pairs: is their mean better, and does their disagreement show where it errs?

Leaves out how PPO combines them, which is :class:`pipeline.scoring.build_scorer.Ensemble`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.reward.pairwise_metrics import pair_accuracy
from pipeline.evaluation.reward.pointwise_metrics import auc
from pipeline.statistics.bootstrap import as_finite, paired_difference, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def ensemble_metrics(
    margins: Sequence[ArrayLike], names: Sequence[str], seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """The mean of several models' margins against each of them.

    Args:
        margins: (M, n) chosen score minus rejected score of M >= 2 models, on one scale.
        names: (M,) of the models.
    Returns:
        members (name, accuracy); accuracy of the mean; gain: that less the members' mean accuracy, with its
        bootstrap interval over pairs; unanimous and split: accuracy of the mean where all members favour the same
        completion, and where they do not; disagreement: AUC with which the standard deviation of the members'
        margins tells wrong pairs from right ones (.5: it tells nothing); doubt: the same of a small mean margin,
        which a single model has as well. A disagreement that does no better than doubt is not worth M models.
        Ties are wrong.
    """
    data = np.stack([as_finite(m, f"scores of {name}") for m, name in zip(margins, names, strict=True)])
    mean = data.mean(0)
    right, wins = mean > 0, data > 0
    signs = np.sign(data)
    unanimous = (signs == signs[0]).all(0) & (signs[0] != 0)
    return {
        "members": [
            {"name": name, "accuracy": pair_accuracy(own, level).as_dict()}
            for name, own in zip(names, data, strict=True)
        ],
        "accuracy": pair_accuracy(mean, level).as_dict(),
        "gain": paired_difference(wins.mean(0), right.astype(float), seed, level).as_dict(),
        **{
            key: wilson(int(right[where].sum()), int(where.sum()), level).as_dict()
            for key, where in (("unanimous", unanimous), ("split", ~unanimous))
        },
        # From the first member on, so that members of equal margins differ by nothing at all.
        "disagreement": auc((data - data[0]).std(0), ~right, level).as_dict(),
        "doubt": auc(-np.abs(mean), ~right, level).as_dict(),
    }
