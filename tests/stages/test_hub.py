"""Loading a base and preferences by their Hub ids, from a double of the Hub on localhost."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.helpers.hub_double import COMMIT, hub
from tests.helpers.row_files import write_rows
from tests.stages.conftest import Project


def test_a_base_and_preferences_from_the_hub(finished: Project, project: Project):
    data = project.root / "repo"
    data.mkdir()
    rows = [{"prompt": f"question {i}", "chosen": f" good {i}.", "rejected": f" bad {i}."} for i in range(60)]
    write_rows(data / "train.jsonl", rows)
    project.write(
        base_model="org/tiny",
        task="prompts",
        task_args={"dataset": "org/prefs", "completion_tokens": 8, "split": "train"},
        collect={
            "comparisons": None,
            "annotator": "replay",
            "annotator_args": {"dataset": "org/prefs", "split": "train"},
        },
        sft=None,
        reward={"per_device_train_batch_size": 8},
    )
    with hub() as server:
        server.repos = {"models/org/tiny": finished.latest("base").path, "datasets/org/prefs": data}
        env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(project.root / "cache")}
        env |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        # In a process of its own, as the Hub's address is read when its client is imported.
        code = "import sys; from pipeline import collect, reward; sys.exit(collect.main() or reward.main())"
        command = [sys.executable, "-c", code, "--config", str(project.config)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert any("/org/tiny/resolve/" in line for line in server.asked)
        assert any("datasets/org/prefs" in line for line in server.asked)
    reward = project.latest("reward")
    saved = json.loads((reward.path / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "org/tiny"
    assert saved["revision"] == COMMIT
    assert [m["revision"] for m in reward.manifest.models if m["role"] == "base"] == [COMMIT]
    read = {"dataset": "org/prefs", "revision": None, "commit": COMMIT}
    assert project.latest("preferences").manifest.datasets == [read]
    assert reward.manifest.datasets == [read]  # the task's, of which it asks the gold score
    assert [m["commit"] for m in project.latest("scores").manifest.models if m["role"] == "base"] == [COMMIT]
    assert sum(project.latest("preferences").splits[s] for s in ("train", "test")) == 60
