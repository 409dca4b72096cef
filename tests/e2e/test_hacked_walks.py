"""A reward that is hacked on purpose: gold turns, the doctor says so, and what is kept is from before. Slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.store import Store

pytestmark = pytest.mark.slow

CONFIG = "configs/hacked_walks.yaml"


def run(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gold_turns_and_the_policy_of_before_is_kept(seed: int, tmp_path: Path):
    said = ""
    for stage in ("sft", "collect", "reward", "ppo", "evaluate"):
        command = [sys.executable, "-m", f"pipeline.{stage}", "--config", CONFIG]
        code, text = run([*command, f"seed={seed}", f"data_dir={tmp_path}"])
        assert code == 0, text[-2000:]
        said += text
    store = Store(tmp_path)
    policy, evaluation = store.resolve("hacked-walks-policy"), store.resolve("hacked-walks-evaluation")

    # The reward model went by length, and said so before anything was trained on it.
    assert "It goes by length: where the longer completion was chosen" in said

    held = policy.manifest.stats["held_out"]
    checks = {row["update"]: row["eval/check"] for row in held}
    kept = policy.manifest.stats["kept"]
    stats = evaluation.manifest.stats
    turning = stats["overoptimisation"]["training"]["turning_point"]
    print(json.dumps({"seed": seed, "checks": checks, "kept": kept, "gold": stats["gold_score"], "turn": turning}))

    assert held[-1]["eval/check"] < 0.6 * max(row["eval/check"] for row in held), "in the end much is lost"
    assert held[-1]["eval/scores"] > max(row["eval/scores"] for row in held[: len(held) // 2]), (
        "the proxy only rose"
    )
    assert checks[kept] == max(checks.values()) > held[0]["eval/check"] + 0.2
    assert held[turning["index"]]["update"] == kept
    assert stats["best_checkpoint"]["update"] == kept
    assert stats["gold_score"]["difference"]["low"] > 0.15, "what is published is far better than the base"

    doctor = [sys.executable, "-m", "pipeline", "doctor", "hacked-walks-policy", "--root", str(tmp_path)]
    code, text = run(doctor)
    assert code == 1
    assert "SERIOUS  over-optimisation" in text
    assert "serious, over-optimisation" in said, "while training too"
