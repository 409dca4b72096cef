"""Labels against the gold score, by hand."""

from __future__ import annotations

import math

from pipeline.base.records import Annotation
from pipeline.evaluation.reward.labels import label_agreement
from pipeline.results.reward import LabelAgreement
from pipeline.statistics.bootstrap import wilson


def answer(choice: str, a: float | None = None, b: float | None = None) -> Annotation:
    return Annotation("id", "someone", choice, a, b)  # type: ignore[arg-type]


def test_labels_and_scores_are_counted_apart() -> None:
    # Gold says a, a, b, b, nothing, a. Catches: the tie or the equal gold counted, a label's side swapped.
    gold_a, gold_b = [1.0, 1.0, -1.0, 0.0, 0.5, 1.0], [0.0, -1.0, 1.0, 0.5, 0.5, 0.0]
    answers = [
        answer("a", 2, 1),  # both right
        answer("b", 2, 1),  # a slip: the scores are right
        answer("a", 2, 1),  # both wrong
        answer("b", 1, 1),  # equal scores: half
        answer("a", 2, 1),
        answer("tie", 1, 1),
    ]
    found = label_agreement(answers, gold_a, gold_b)
    assert found == LabelAgreement(4, wilson(2, 4), wilson(2.5, 4))


def test_an_annotator_without_scores() -> None:
    found = label_agreement([answer("a"), answer("b", 1, 2)], [1, 1], [0, 0])
    assert found == LabelAgreement(2, wilson(1, 2))


def test_nothing_to_agree_on() -> None:
    assert label_agreement([], [], []) is None
    assert label_agreement([answer("a"), answer("both_bad")], [1, 1], [1, 0]) is None
    assert label_agreement([answer("a")], [math.nan], [0]) is None
