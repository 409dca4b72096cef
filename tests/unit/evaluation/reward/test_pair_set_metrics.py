"""What is said of a reward model on one set of pairs, and that it does not flatter one that goes by length."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.reward.pair_set_metrics import PairContext, metrics_of_set, pair_metrics
from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs, reward_metrics, verdict
from pipeline.results.reward import Baseline, PairwiseMetrics
from pipeline.results.stats import from_json, to_json
from pipeline.statistics.bootstrap import wilson

RNG = np.random.default_rng(2)


def by_length(n: int, share_longer: float) -> ScoredPairs:
    """Pairs whose chosen completion is longer with this share, scored by length."""
    sizes = [(30, 10) if RNG.random() < share_longer else (10, 30) for _ in range(n)]
    texts = [("x" * a, "y" * b) for a, b in sizes]
    chosen, rejected = [a for a, _ in texts], [b for _, b in texts]
    scores = [[len(t) / 10 + RNG.normal(0, 0.01) for t in side] for side in (chosen, rejected)]
    return ScoredPairs(scores[0], scores[1], chosen, rejected, prompts=[f"q{i}" for i in range(n)])


# Catches: the slices of another set of pairs, the sentence for any difference between the slices.
def test_a_model_that_goes_by_length_is_told_apart() -> None:
    found = pair_metrics(by_length(200, 0.8), PairContext())
    longer, shorter = found.slices["length"].rows
    assert (longer.accuracy.value, shorter.accuracy.value) == (1.0, 0.0)
    assert found.slices["length"].macro.value == 0.5
    assert not found.clears_baselines
    assert "longer wins" in found.verdict
    assert found.notes[0].startswith(
        "It goes by length: where the shorter completion was chosen it is right on 0.00"
    )
    assert set(found.slices) == {"length"}


def test_one_that_does_not_is_left_in_peace() -> None:
    test = by_length(200, 0.8)
    scores = [2.0 if RNG.random() < 0.85 else 0.0 for _ in range(200)]
    honest = ScoredPairs(scores, [1.0] * 200, test.chosen, test.rejected, prompts=test.prompts)
    assert pair_metrics(honest, PairContext()).notes == ()


# Catches: everything that existed gone or changed for pairs of different prompts.
def test_what_was_there_is_there_unchanged() -> None:
    test = by_length(60, 0.5)
    alone = ScoredPairs(*(getattr(test, k) for k in ("chosen_scores", "rejected_scores", "chosen", "rejected")))
    train = [("a b", "c d")] * 30
    before, after = reward_metrics(alone, train), pair_metrics(test, PairContext(), train)
    assert replace(after.calibration, equal_mass=None, cross_fitted=None) == before.calibration
    plain = {"calibration": before.calibration, "slices": {}, "items": None, "notes": ()}
    assert replace(after, **plain) == before
    assert before.dependent is None


# Catches: gold margins with their sign, a confidence put under the wrong name, a column over a table of ours.
def test_slices_of_what_is_known() -> None:
    n = 40
    right = np.arange(n) >= 10
    test = ScoredPairs(
        np.where(right, 1.0, -1.0).tolist(),
        [0.0] * n,
        ["a"] * n,
        ["b"] * n,
        [float(i) for i in range(n)],
        [2.0 * i for i in range(n)],
    )
    columns = {"subset": ["x", "y"] * 20, "margin": ["z"] * n}
    context = PairContext([float(i) for i in range(n)], [None] * 20 + [0.6, 0.9] * 10, columns)
    found = pair_metrics(test, context).slices
    assert set(found) == {"gold margin", "margin", "confidence", "subset", "column margin"}
    assert [row.accuracy.value for row in found["gold margin"].rows] == [0, 1, 1, 1]
    assert [row.name for row in found["gold margin"].rows][-1] == "30 to 39"
    assert [row.name for row in found["confidence"].rows] == ["0.6", "0.9"]
    assert found["confidence"].unknown == 20


def row(item: int, slice: str | None, prompt: str = "p", **other: Any) -> dict[str, Any]:
    texts = {"prompt": prompt, "chosen": "good", "rejected": "bad"}
    return {**texts, "margin": None, "share": None, "item": str(item), "slice": slice, **other}


# Catches: pairs counted where whole rows are asked for, the slice of another row.
def test_rows_of_several_pairs_count_as_whole_ones() -> None:
    rows = [row(1, "math")] * 3 + [row(2, "focus")] * 3 + [row(3, "focus")]
    found = metrics_of_set([1, 1, 1, 1, 1, -1, 1], [0.0] * 7, rows, "subset")
    assert found.accuracy.value == pytest.approx(6 / 7)
    assert found.items.accuracy == wilson(2, 3)
    shares = {r.name: r.accuracy.value for r in found.items.slices["subset"].rows}
    assert shares == {"focus": 0.5, "math": 1.0}
    assert metrics_of_set([1, 1], [0, 0], [row(1, None), row(2, None)], None).items is None


def test_few_prompts_and_ties_are_said() -> None:
    rows = [row(i, None, f"p{i % 3}", chosen=f"good{i}") for i in range(30)]
    found = metrics_of_set([1.0] * 28 + [0.0] * 2, [0.0] * 30, rows, None)
    assert found.notes == (
        "Of the 30 pairs, 2 have equal scores, which counts as wrong.",
        "The pairs are of 3 prompts: its accuracy on other prompts is not known.",
    )
    assert found.accuracy.value == pytest.approx(28 / 30)


# Catches: the interval of independent pairs where they are not, which would clear one half here.
def test_pairs_that_go_together_do_not_clear_one_half_by_their_number() -> None:
    # Twelve prompts, each all right or all wrong: 8 of 12 clear nothing, though 160 of 240 would.
    prompts = [f"p{i % 12}" for i in range(240)]
    scores = [1.0 if i % 12 < 8 else -1.0 for i in range(240)]
    texts = [str(i) for i in range(240)]
    plain = ScoredPairs(scores, [0.0] * 240, texts, texts)
    assert reward_metrics(plain).accuracy.low > 0.5
    found = reward_metrics(ScoredPairs(scores, [0.0] * 240, texts, texts, prompts=prompts))
    assert found.accuracy == reward_metrics(plain).accuracy
    assert found.dependent.worth == pytest.approx(11)
    assert "no better than chance" in found.verdict
    assert "as pairs with a prompt in common go together" in found.verdict


def test_verdict_of_one_that_is_worse_than_a_coin() -> None:
    assert "worse than a coin" in verdict(wilson(20, 100), [])[1]
    assert "no better than chance" in verdict(wilson(55, 100), [Baseline("longer wins", wilson(60, 100), None)])[1]


def test_everything_is_strict_json() -> None:
    rows = [row(i // 2, "s", f"p{i % 4}", chosen="g" * i, margin=float(i), share=0.5 + i / 100) for i in range(24)]
    for n in (24, 1, 0):
        found = metrics_of_set(RNG.normal(1, 1, n).tolist(), [0.0] * n, rows[:n], "subset", [("a", "b")] * 30)
        text = json.dumps(to_json(found), allow_nan=False)
        assert to_json(from_json(PairwiseMetrics, json.loads(text), "stats")) == to_json(found)
