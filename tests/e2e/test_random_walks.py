"""PPO against a known optimum: walks become as short as they can be, on three seeds. Slow: a minute each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.store import Store

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_comes_within_five_percent_of_the_optimum(seed: int, tmp_path: Path):
    for stage in ("sft", "collect", "ppo", "evaluate"):
        command = [sys.executable, "-m", f"pipeline.{stage}", "--config", "configs/random_walks.yaml"]
        subprocess.run([*command, f"seed={seed}", f"data_dir={tmp_path}"], check=True)
    evaluation = Store(tmp_path).resolve("random-walks-evaluation")
    stats = evaluation.manifest.stats
    print(json.dumps({"seed": seed, "gold": stats["gold_score"], "kl": stats["kl_k1"], "ended": stats["ended"]}))
    assert stats["n"] >= 100
    assert stats["gold_score"]["base"]["value"] < 0.5
    assert stats["gold_score"]["policy"]["value"] >= 0.95
    assert stats["ended"]["policy"]["value"] >= 0.99
    assert stats["kl_k1"]["value"] < 4
    rows = evaluation.rows("test")
    assert [r["policy_score"] for r in rows] == pytest.approx([r["policy_gold_score"] for r in rows])
