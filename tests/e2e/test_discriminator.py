"""Generator against discriminator: more of the policy's tales fit in each round, and are harder to tell. Slow."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.store import Store
from pipeline.tasks.tales import continuation
from tests.helpers.likeness import ngram_distance

pytestmark = pytest.mark.slow

CONFIG = "configs/discriminator.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory: what tests share, such as seed 0's base and first discriminator, is made once."""
    return tmp_path_factory.mktemp("data")


def run_rounds(data: Path, *overrides: str) -> list[dict[str, Any]]:
    """The figures of each round, with the distances of its policy's texts and of other people's from people's."""
    command = [sys.executable, "-m", "pipeline.loop", "--config", CONFIG, f"data_dir={data}", *overrides]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    store, rng = Store(data), random.Random(0)
    evaluations = {
        parent.ref: version
        for version in store.versions("discriminator-evaluation")
        for parent in version.manifest.parents
        if parent.role == "policy"
    }
    rounds = store.resolve("discriminator-loop").manifest.stats["rounds"]
    for figures in rounds:
        rows = evaluations[figures["policy"]].rows("test")
        people, others = ([continuation(rng, row["prompt"]) for row in rows] for _ in "ab")
        figures["distance"] = ngram_distance([row["policy_completion"] for row in rows], people)
        figures["base_distance"] = ngram_distance([row["base_completion"] for row in rows], people)
        figures["floor"] = ngram_distance(others, people)
        print(json.dumps(figures))
    return rounds


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_tales_fit_and_fresh_discriminators_come_nearer_to_one_half(seed: int, data: Path):
    first, _, third = run_rounds(data, f"seed={seed}")
    assert first["reward_new"]["low"] > 0.5, "people's tales are told from the base's"
    assert first["gold_over_base"]["low"] > 0
    assert third["gold_over_base"]["low"] > 0
    assert third["gold"]["value"] > first["gold"]["value"] - 0.02
    # The policy of round 2, told from people by a discriminator that was trained on it.
    assert third["reward_new"]["value"] < first["reward_new"]["value"]
    assert third["kl"]["value"] < 1.5
    assert third["distance"] < third["base_distance"]


# What goes wrong: the policy goes where the discriminator knows nothing.
@pytest.mark.timeout(1800)
def test_without_a_penalty_for_leaving_the_base_fewer_fit(data: Path):
    (first,) = run_rounds(data, "loop.rounds=1", "ppo.kl_coef=0", "ppo.scale_score=ref")
    assert first["gold_over_base"]["high"] < 0
    assert first["proxy_over_base"]["low"] > 0


# What goes wrong with a fifth of the penalty: what tells the last policy from people is done always, or never.
@pytest.mark.timeout(1800)
def test_with_too_weak_a_penalty_the_policy_swings_from_one_habit_to_another(data: Path):
    weak = ["ppo.kl_coef=0.2", "ppo.scale_score=ref", "loop.reference=base", "loop.data=all"]
    _, second = run_rounds(data, "loop.rounds=2", *weak)
    assert second["reward_last"]["high"] < 0.5, "the last discriminator is fooled"
    assert second["reward_new"]["low"] > 0.5, "and a fresh one is not"
    assert second["distance"] > second["base_distance"] + 0.03
