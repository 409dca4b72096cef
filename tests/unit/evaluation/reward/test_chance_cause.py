"""The likeliest cause of a reward model at chance, and the probe that it is concluded from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.reward.chance_cause import at_chance, explain, least_that_shows, probe_labels, probe_pairs
from pipeline.results.reward import Baseline
from pipeline.statistics.bootstrap import wilson
from tests.helpers.histories import measured

TRUTH = np.random.default_rng(5).normal(size=12)
RNG = np.random.default_rng(6)


@pytest.fixture(autouse=True)
def own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test draws the same numbers, whichever ran before it."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(6))


def differences(n: int, noise: float) -> NDArray[np.float64]:
    """State differences of n pairs, chosen less rejected, that a direction orders but for noise."""
    drawn = RNG.normal(size=(n, 12)) * 30
    margins = drawn @ TRUTH / 30 + RNG.normal(0, noise, n)
    return drawn * np.sign(margins)[:, None]


# Catches: pairs one way round only; columns left on their scale, so that the penalty leaves nothing.
def test_the_probe_finds_a_direction_that_is_there() -> None:
    probe = probe_pairs(1e-4 * differences(200, 0.1), 1e-4 * differences(300, 0.1))
    assert probe.value > 0.9
    assert probe.n == 300


def test_it_finds_none_in_noise() -> None:
    probe = probe_pairs(RNG.normal(size=(60, 200)), RNG.normal(size=(300, 200)))
    assert probe.low < 0.5 < probe.high


def test_single_labels_are_probed_too_and_one_class_is_chance() -> None:
    states = RNG.normal(size=(400, 12))
    liked = states @ TRUTH > 1.0
    assert probe_labels(states[:200], liked[:200], states[200:], liked[200:]).value > 0.9
    assert probe_labels(states[:200], [True] * 200, states[200:], liked[200:]).value == 0.5


CHANCE = replace(
    measured(0.51, 0.46, 0.56, n=400, clears=False), baselines=(Baseline("words", wilson(205, 400), None),)
)


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        ({"probe": wilson(260, 400)}, "training", "base's states, learnt from the same pairs, is right on 0.65"),
        ({"baseline": wilson(280, 400)}, "training", '"words", learnt from the same pairs, is right on 0.70'),
        ({"learnt": wilson(195, 200), "probe": wilson(260, 400)}, "training", "by heart"),
        ({"learnt": wilson(103, 200)}, "training", "It has not learnt even its own: raise reward.learning_rate"),
        ({"labels": wilson(240, 400)}, "labels", "agree with the gold score on 0.60 [0.55, 0.65]. On pairs"),
        ({"labels": wilson(360, 400)}, "number of labels", "It learnt from 500 pairs"),
        ({"n": 60}, "number of held-out rows", "Of 60 nothing below 0.63 clears one half"),
        ({"rows": 5000}, "labels", "Decide twenty by hand"),
    ],
)  # fmt: skip
def test_the_likeliest_cause(change: dict[str, Any], cause: str, words: str) -> None:
    metrics = CHANCE
    if "baseline" in change:
        metrics = replace(metrics, baselines=(Baseline("words", change["baseline"], None),))
    if "n" in change:
        metrics = replace(metrics, accuracy=wilson(33, change["n"]))
    learnt, probe = change.get("learnt", wilson(140, 200)), change.get("probe", wilson(210, 400))
    found = explain(metrics, learnt, probe, change.get("rows", 500), change.get("labels"))
    assert found.cause == cause
    assert words in found.sentence
    assert found.sentence.startswith(f"The likeliest cause is the {cause}. ")
    assert (found.learnt, found.probe) == (learnt, probe)


def test_only_a_model_at_chance_is_explained() -> None:
    assert at_chance(CHANCE)
    assert not at_chance(replace(CHANCE, accuracy=wilson(260, 400)))
    assert not at_chance(replace(CHANCE, accuracy=wilson(0, 0)))


def test_the_least_accuracy_that_shows_is_an_intervals() -> None:
    for n in (20, 100, 1000):
        least = round(least_that_shows(n) * n)
        assert wilson(least, n).low > 0.5 >= wilson(least - 1, n).low
    assert least_that_shows(3) == 1.0
