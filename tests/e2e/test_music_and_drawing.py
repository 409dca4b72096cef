"""Tunes and drawings get better by their notation and their parts, on three seeds. Slow: minutes for each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from pipeline.store.store import Store
from pipeline.tasks.music import marks
from pipeline.texts.shape_pictures import parse_picture

pytestmark = pytest.mark.slow

STAGES = ("sft", "collect", "reward", "ppo", "evaluate", "report")


def run(config: str, seed: int, data: Path) -> Store:
    for stage in STAGES:
        command = [sys.executable, "-m", f"pipeline.{stage}", "--config", f"configs/{config}.yaml"]
        subprocess.run([*command, f"seed={seed}", f"data_dir={data}"], check=True)
    return Store(data)


def sides(store: Store, name: str) -> list[tuple[str, str, str]]:
    """(prompt, the base's completion, the policy's completion)"""
    rows = store.resolve(f"{name}-evaluation").rows("test")
    return [(row["prompt"], row["base_completion"], row["policy_completion"]) for row in rows]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
def test_tunes_get_better(seed: int, tmp_path: Path):
    store = run("music", seed, tmp_path)
    stats = store.resolve("music-evaluation").manifest.stats
    print(json.dumps({"seed": seed, "gold": stats["gold_score"], "kl": stats["kl_k1"]}))
    assert stats["gold_score"]["difference"]["low"] > 0.02
    texts = sides(store, "music")
    base, policy = ([marks(row[0], row[side]) for row in texts] for side in (1, 2))
    assert mean(m.fills for m in policy) > mean(m.fills for m in base)
    # Not by one tune, and not by tunes of long notes.
    assert len({row[2] for row in texts}) > 0.9 * len(texts)
    assert mean(m.moves for m in policy) > mean(m.moves for m in base) - 0.05
    page = (store.resolve("music-report").path / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") > 12


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
def test_drawings_get_better(seed: int, tmp_path: Path):
    store = run("drawing", seed, tmp_path)
    stats = store.resolve("drawing-evaluation").manifest.stats
    print(json.dumps({"seed": seed, "gold": stats["gold_score"], "kl": stats["kl_k1"]}))
    assert stats["gold_score"]["difference"]["low"] > 0.02
    lines = [line for row in sides(store, "drawing") for line in row[2].strip().split("\n")]
    assert mean(shape is not None for shape in parse_picture("\n".join(lines))) > 0.9
    assert Counter(lines).most_common(1)[0][1] < 0.1 * len(lines)
