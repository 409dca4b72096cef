"""How far labels follow the gold score, and how far the scores that the annotator went by do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.base.records import Annotation
from pipeline.statistics.bootstrap import wilson


def label_agreement(
    answers: Sequence[Annotation], gold_a: Sequence[float], gold_b: Sequence[float], level: float = 0.95
) -> dict[str, Any] | None:
    """Agreement with the gold score, on the answers that choose a side of a pair whose gold scores differ.

    Pairs with a gold score that is no number are left out.

    Args:
        answers: what an annotator said of each pair.
        gold_a, gold_b: (n,) gold scores of the pairs.
    Returns:
        None where no such pair is there, else ``n``, ``labels``, and where the annotator recorded scores
        ``scores``: the share whose scores order the pair as gold does, equal ones counting half. The difference
        of the two is the annotator's noise; what ``scores`` lacks to 1 are the errors of its view.
    """
    gold = np.asarray(gold_a, dtype=float) - np.asarray(gold_b, dtype=float)
    differ = np.isfinite(gold) & (gold != 0)
    some = [i for i, answer in enumerate(answers) if answer.choice in ("a", "b") and differ[i]]
    if not some:
        return None
    right = sum((answers[i].choice == "a") == (gold[i] > 0) for i in some)
    found: dict[str, Any] = {"n": len(some), "labels": wilson(right, len(some), level).as_dict()}
    scores = [(answers[i].score_a, answers[i].score_b, gold[i]) for i in some]
    if all(a is not None and b is not None for a, b, _ in scores):
        agree = sum(0.5 + 0.5 * float(np.sign(a - b) * np.sign(g)) for a, b, g in scores)  # type: ignore[operator]
        found["scores"] = wilson(agree, len(some), level).as_dict()
    return found
