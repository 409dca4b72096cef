"""Loading a base and preferences by their Hub ids, from a double of the Hub on localhost."""

from __future__ import annotations

import json

import pytest
from huggingface_hub.utils import close_session

from pipeline.sources import hub as source
from tests.helpers.hub_double import COMMIT, ask_the_double, hub
from tests.helpers.row_files import write_rows
from tests.stages.conftest import Project


def test_a_base_and_preferences_from_the_hub(finished: Project, project: Project, monkeypatch: pytest.MonkeyPatch):
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
    moved: list[str] = []

    def move_the_branch(request: str) -> None:
        if "/org/tiny/resolve/" in request and not moved:
            server.revisions["models/org/tiny"]["main"] = ("9" * 40, finished.latest("base").path)
            moved.append(request)

    with hub() as server:
        server.repos = {"models/org/tiny": finished.latest("base").path, "datasets/org/prefs": data}
        server.revisions["models/org/tiny"] = {"old": (COMMIT, finished.latest("base").path)}
        server.before = move_the_branch
        ask_the_double(monkeypatch, server, project.root)
        try:
            assert project.run("collect") == 0
            assert project.run("reward") == 0
        finally:
            close_session()
            source._ask.cache_clear()
        loads = [line for line in server.asked if "/org/tiny/resolve/" in line]
        assert moved
        # at_commit and Run.base returning the revision: what is loaded later is of the commit that came meanwhile.
        assert all(f"/resolve/{COMMIT}/" in line for line in loads)
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
