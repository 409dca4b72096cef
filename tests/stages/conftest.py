"""One small run of the whole pipeline, made once and looked at by many tests."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.files import hold
from pipeline.store.store import Store, Version
from pipeline.workflow.experiment import STAGES
from tests.helpers.pictures import arrange_no_axes, draw_nothing

MINI: dict[str, Any] = {
    "name": "mini",
    "task": "reviews",
    "task_args": {"corpus_size": 400, "completion_tokens": 12, "parts_again": True},
    "seed": 0,
    "sft": {
        "n_layer": 2,
        "n_embd": 32,
        "n_head": 2,
        "vocab_size": 400,
        "max_steps": 8,
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-3,
    },
    "collect": {"comparisons": 80, "annotator_args": {"view": "vader"}},  # the truth of a base so small is -1
    "reward": {"per_device_train_batch_size": 16, "max_steps": 4, "learning_rate": 1e-3},
    "ppo": {
        "total_episodes": 32,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_ppo_epochs": 2,
        "logging_steps": 1,
        "learning_rate": 1e-2,
    },
    "evaluate": {"prompts": 20},
    "governance": {"consent": True},
}

NO_SHAPE = dict.fromkeys(("n_layer", "n_embd", "n_head", "vocab_size"))
"""For ``sft`` beside a base_model, which has its own."""


@dataclass
class Project:
    """A config and a data directory of their own."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "mini.yaml"

    @property
    def store(self) -> Store:
        return Store(self.root / "data")

    def write(self, **changes: Any) -> None:
        content = {**MINI, "data_dir": str(self.root / "data")}
        for key, value in changes.items():
            merge = key in STAGES and isinstance(value, dict)
            content[key] = {**(content.get(key) or {}), **value} if merge else value
            if merge:
                content[key] = {k: v for k, v in content[key].items() if v is not None}
        self.config.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))

    def run(self, stage: str, *overrides: str) -> int:
        return importlib.import_module(f"pipeline.{stage}").main(["--config", str(self.config), *overrides])

    def run_all(self, *overrides: str) -> None:
        for stage in STAGES:
            assert self.run(stage, *overrides) == 0

    def latest(self, role: str) -> Version:
        return self.store.resolve(f"mini-{role}")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write()
    return made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run; tests read it and leave it as it is. xdist's workers share it: the first one makes it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    made = Project(root / "finished")
    made.root.mkdir(exist_ok=True)
    held = hold(made.root)
    try:
        if not (made.root / "done").exists():
            made.write()
            with pytest.MonkeyPatch.context() as patched:
                arrange_no_axes(patched)
                made.run_all()
            (made.root / "done").touch()
    finally:
        os.close(held)
    return made


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have empty pictures. ``finished`` has real ones, and tests/unit/reporting/figures draws all."""
    draw_nothing(monkeypatch)
