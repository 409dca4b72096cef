"""The catalogue of metrics against runs: all that is logged and measured is in it, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pipeline.health.written_texts import TEXTS, Written
from pipeline.results.metrics import Logged
from pipeline.scoring.scorer import Samples
from tests.stages.conftest import Project
from tests.unit.trainers.ppo.helpers import PROMPTS, trainer


def logged(project: Project, name: str) -> set[str]:
    lines = (project.store.resolve(f"mini-{name}").path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {key for line in lines for key in json.loads(line)}


def held_out(tmp_path: Path) -> set[str]:
    """Names that a run with held-out prompts logs beside the others."""

    def score(samples: Samples) -> torch.Tensor:
        return torch.tensor([float(len(ids)) for ids in samples.completion_ids])

    more: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": PROMPTS[3:], "check": score}
    run = trainer(tmp_path, scorer=score, **more)
    run.train()
    return {key for row in run.state.log_history for key in row}


def test_all_that_is_logged_is_in_the_catalogue(finished: Project, tmp_path: Path) -> None:
    texts = [f"Number {i}. It ends." for i in range(TEXTS)]
    varied = Written().take(1, texts, texts, [True] * TEXTS, [0.0] * TEXTS)
    ppo = logged(finished, "policy") | held_out(tmp_path) | set(varied)
    assert ppo - {"step", "epoch"} == {*Logged.at("ppo"), *Logged.at("held-out")}
    # Logged every logging_steps, which is more steps than these runs have.
    every = {Logged.LOSS, Logged.RATE, Logged.LOSS_GRADIENT}
    assert logged(finished, "base") | logged(finished, "reward") == set(Logged.at("trainer")) - every
