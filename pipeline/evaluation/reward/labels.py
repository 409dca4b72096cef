"""Agreement of labels with the gold score, and of the scores that the annotator went by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.base.records import Annotation
from pipeline.results.reward import LabelAgreement
from pipeline.statistics.bootstrap import wilson


def label_agreement(
    answers: Sequence[Annotation], gold_a: Sequence[float], gold_b: Sequence[float], level: float = 0.95
) -> LabelAgreement | None:
    """Agreement with the gold score, on the answers that choose a side of a pair whose gold scores differ.

    Pairs with a gold score that is not finite are left out.

    Args:
        answers: the annotator's, one for each pair.
        gold_a, gold_b: (n,) gold scores of the pairs.
    Returns:
        None where no such pair is there. ``scores`` is the share whose recorded scores order the pair as gold
        does, equal ones counting half. The difference of ``labels`` and ``scores`` is the annotator's noise; what
        ``scores`` lacks to 1 are the errors of its view.
    """
    gold = np.asarray(gold_a, dtype=float) - np.asarray(gold_b, dtype=float)
    differ = np.isfinite(gold) & (gold != 0)
    decided = [i for i, answer in enumerate(answers) if answer.choice in ("a", "b") and differ[i]]
    if not decided:
        return None
    right = sum((answers[i].choice == "a") == bool(gold[i] > 0) for i in decided)
    labels = wilson(right, len(decided), level)
    scores = [(answers[i].score_a, answers[i].score_b, gold[i]) for i in decided]
    if any(a is None or b is None for a, b, _ in scores):
        return LabelAgreement(len(decided), labels)
    agree = sum(0.5 + 0.5 * float(np.sign(a - b) * np.sign(g)) for a, b, g in scores)  # type: ignore[operator]
    return LabelAgreement(len(decided), labels, wilson(agree, len(decided), level))
