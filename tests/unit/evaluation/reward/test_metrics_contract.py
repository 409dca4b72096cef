"""What holds of the metrics of pairs and of single completions alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.evaluation.reward import pairwise_metrics as pairwise
from pipeline.evaluation.reward import pointwise_metrics as pointwise
from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs
from pipeline.evaluation.reward.pointwise_metrics import Completions
from pipeline.results.reward import AucBaseline, Baseline, RewardMetrics, reward_metrics
from pipeline.results.stats import to_json
from pipeline.statistics.intervals import Estimate

TEXTS = [f"word{i} " * (i % 5) for i in range(40)]
Measure = Callable[[int, Sequence[float]], RewardMetrics]
Verdict = Callable[[Estimate, dict[str, Estimate | None]], tuple[bool, str]]


def of_pairs(n: int, scores: Sequence[float]) -> RewardMetrics:
    gold = ([1.0] * n, [0.5] * n) if n == len(TEXTS) else ()
    test = ScoredPairs(scores, [0.0] * n, TEXTS[:n], TEXTS[::-1][:n], *gold)
    return pairwise.reward_metrics(test, train=list(zip(TEXTS, TEXTS[::-1], strict=True)))


def of_completions(n: int, scores: Sequence[float]) -> RewardMetrics:
    gold = [float(i) for i in range(n)] if n == len(TEXTS) else None
    labels = [i % 3 > 0 for i in range(len(TEXTS))]
    test = Completions(labels[:n], ["p"] * n, TEXTS[:n], gold)
    return pointwise.pointwise_metrics(scores, 0.3, test, Completions(labels, ["p"] * len(TEXTS), TEXTS))


def on_pairs(accuracy: Estimate, baselines: dict[str, Estimate | None]) -> tuple[bool, str]:
    return pairwise.verdict(accuracy, [Baseline(name, e, None) for name, e in baselines.items()])


def on_completions(area: Estimate, baselines: dict[str, Estimate | None]) -> tuple[bool, str]:
    return pointwise.verdict(area, [AucBaseline(name, e, None) for name, e in baselines.items()], 25)


BOTH = pytest.mark.parametrize("measure", [of_pairs, of_completions])


@BOTH
@pytest.mark.parametrize("n", [len(TEXTS), 1, 0])
def test_everything_is_strict_json_and_read_back_even_when_tiny(measure: Measure, n: int) -> None:
    metrics = measure(n, np.random.default_rng(0).normal(1, 1, n).tolist())
    stats = json.loads(json.dumps({"evaluation": to_json(metrics)}, allow_nan=False))
    back = reward_metrics(stats, "stats")
    assert type(back) is type(metrics)
    assert to_json(back) == stats["evaluation"]
    # Catches: keys of a report that a version without them lacks.
    assert reward_metrics({}, "stats") is None


@BOTH
def test_broken_input_is_refused(measure: Measure) -> None:
    with pytest.raises(DataError, match="NaN"):
        measure(1, [float("nan")])
    with pytest.raises(ValueError, match=r"different lengths|2 scores for 1"):
        measure(1, [1.0, 0.0])


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one side"):
        ScoredPairs([1.0], [0.0], ["a"], ["b"], [1.0])
    with pytest.raises(ValueError, match="different lengths"):
        Completions([True], ["p"], ["a", "b"])


# Catches: comparing values instead of the lower limit, max() over baselines turned into min().
@pytest.mark.parametrize("verdict", [on_pairs, on_completions])
@pytest.mark.parametrize(
    ("low", "clears", "words"),
    [
        (0.5, False, "does not clear one half"),
        (0.65, False, "does not clear the best baseline (bag of words, 0.65)"),
        (0.66, True, "lies above the best baseline (bag of words, 0.65)"),
    ],
)
def test_verdict(verdict: Verdict, low: float, clears: bool, words: str) -> None:
    baselines = {"length": Estimate(0.5, 0.4, 0.6, 50), "bag of words": Estimate(0.65, 0.6, 0.7, 50), "none": None}
    reached, sentence = verdict(Estimate(0.8, low, 0.9, 50), baselines)
    assert reached is clears
    assert words in sentence


@pytest.mark.parametrize("verdict", [on_pairs, on_completions])
def test_verdict_without_baselines_or_rows(verdict: Verdict) -> None:
    assert "no baseline" in verdict(Estimate(0.9, 0.8, 0.95, 50), {"bag of words": None})[1]
    assert verdict(Estimate(float("nan"), 0.0, 1.0, 0), {})[0] is False
