"""The demo as it was: its policy collapses, and all that looks at it says so. Slow: minutes for each seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.evaluation.policy.headline import headline
from pipeline.results.policy import Evaluation
from pipeline.results.stats import from_json
from pipeline.store.store import Store

pytestmark = pytest.mark.slow

CONFIG = "configs/collapsed.yaml"


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", *command], check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def stage(name: str, seed: int, data: Path, *overrides: str) -> str:
    code, said = run(f"pipeline.{name}", "--config", CONFIG, f"seed={seed}", f"data_dir={data}", *overrides)
    assert code == 0, said[-2000:]
    return said


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_the_collapse_is_named(seed: int, tmp_path: Path):
    said = "".join(stage(name, seed, tmp_path) for name in ("sft", "collect", "reward", "ppo", "evaluate"))
    store = Store(tmp_path)
    evaluation = store.resolve("collapsed-evaluation").manifest.stats
    code, told = run("pipeline", "doctor", "collapsed", "--root", str(tmp_path), "--json")
    assert code == 1, "what comes out is not to be believed"
    doctor = json.loads(told)
    found = {f["rule"]: f for f in doctor["findings"]}
    collapse = found["sentences-collapse"]
    print(json.dumps({"seed": seed, "collapse": collapse["what"], "since": collapse["since"], "doctor": doctor}))

    # The collapse, since when (it takes a while, and is not the last thing to happen), and while it trained.
    assert collapse["severity"] == "serious"
    assert 6 <= collapse["since"] <= 28
    assert "serious, sentences-collapse: " in said
    assert "phrase-spreads" in found
    # The sentence is one of the two most common ones of the evaluation's own completions.
    ends = [row["policy_completion"] for row in store.resolve("collapsed-evaluation").rows("test")]
    named = collapse["what"].split(' end in "')[1].split('"')[0]
    assert sum(text.endswith(named) for text in ends) > 0.2 * len(ends)
    assert "entropy-collapse" not in found, "the rule that slept"

    # A judge that shares the annotator's errors calls it a rise; the verdict says first what became of the texts.
    assert evaluation["gold_score"]["difference"]["low"] > 0
    assert evaluation["diversity"]["collapse"] is not None
    _, verdict = headline(from_json(Evaluation, evaluation, "collapsed-evaluation"))
    assert verdict.startswith("Collapsed: ")
    assert "rose" in verdict
    stage("report", seed, tmp_path)


@pytest.mark.timeout(1800)
def test_a_floor_ends_it_in_time(tmp_path: Path):
    for name in ("sft", "collect", "reward"):
        stage(name, 0, tmp_path)
    said = stage("ppo", 0, tmp_path, "ppo.diversity_floor=0.5", "ppo.eval_steps=2")
    stats = Store(tmp_path).resolve("collapsed-policy").manifest.stats
    left = {row["update"]: row["eval/closings_left"] for row in stats["held_out"] if "eval/closings_left" in row}
    assert "diversity_floor 0.5: back to the policy after update" in stats["stopped"]
    assert f"published: the policy after update {stats['kept']} of" in said
    assert left[stats["kept"]] >= 0.5 > left[max(left)]
    assert 4 < stats["kept"] < 28
