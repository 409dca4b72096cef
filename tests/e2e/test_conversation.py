"""Conversations on a base from scratch: replies get more helpful, by the history. Slow: minutes a seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.store import Store
from pipeline.tasks.truths.helpful_reply import helpful_replies

pytestmark = pytest.mark.slow

STAGES = ("sft", "collect", "reward", "ppo", "evaluate")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_replies_get_more_helpful(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.run", *STAGES, "--config", "configs/chat.yaml"]
    subprocess.run([*command, f"seed={seed}", f"data_dir={tmp_path}"], check=True)
    evaluation = Store(tmp_path).resolve("chat-evaluation")
    stats = evaluation.manifest.stats
    print(
        json.dumps(
            {"seed": seed, **{key: stats[key] for key in ("gold_score", "other_history", "kl_k1", "ended")}}
        )
    )
    assert stats["gold_score"]["difference"]["low"] > 0
    # What was gained goes by the history: after another one, little is left.
    history = stats["other_history"]
    assert history["gain"]["policy"]["low"] > 0
    assert history["gain"]["difference"]["low"] > 0
    assert history["gold_score"]["policy"]["value"] < stats["gold_score"]["policy"]["value"] / 2
    # The replies that are given most often would be worth little to everybody.
    rows = evaluation.rows("test")
    replies = [row["policy_completion"] for row in rows]
    commonest = max(set(replies), key=replies.count)
    everywhere = helpful_replies([row["prompt"] for row in rows], [commonest] * len(rows))
    assert sum(everywhere) / len(rows) < 0.3
