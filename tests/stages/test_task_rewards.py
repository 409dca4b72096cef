"""A task that carries its completions out: PPO learns from its own rewards, an evaluation has its references."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.conftest import Project

CORRIDOR = {
    "env": "tests.helpers.corridor:Corridor",
    "actions": ["left", "right"],
    "horizon": 3,
    "train_seeds": 20,
    "test_seeds": 8,
    "corpus_size": 200,
    "completion_tokens": 6,
}


@pytest.mark.thorough
def test_a_whole_run_without_a_reward_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Project(tmp_path)
    made.write(
        task="environment",
        task_args=CORRIDOR,
        collect=None,
        reward=None,
        governance=None,
        ppo={"reward": "task"},
        evaluate={"prompts": 8, "best_of": [2], "best_of_prompts": 4},
    )
    for stage in ("sft", "collect", "reward", "ppo", "evaluate", "report"):
        assert made.run(stage) == 0
    assert "[reward] nothing to do: ppo.reward is task" in capsys.readouterr().out
    evaluation = made.latest("evaluation")
    stats = evaluation.manifest.stats
    assert set(stats["references"]) == {
        "always left",
        "always right",
        "random",
        "best constant action of each prompt",
    }
    assert set(stats["events"]) == {"ended early", "no plan"}
    assert all(stats["events"]["no plan"][side]["n"] == 8 for side in ("base", "policy"))
    right = stats["references"]["always right"]["gold_score"]
    assert right["base"]["value"] == 0.0, "the best constant action, which gold is measured from"
    assert right["policy"] == stats["gold_score"]["policy"]
    row = evaluation.rows("test")[0]
    assert row["policy_score"] is not None
    html = (made.latest("report").path / "report.html").read_text()
    assert "Beside what learns nothing" in html
    assert "always left" in html
