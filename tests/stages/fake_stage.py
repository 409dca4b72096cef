"""Stands for ``python -m pipeline.STAGE`` in a sweep: all of a stage but the training.

``script.json`` beside the data says what happens: ``{"ppo 0.1 1": "fail"}`` is PPO at kl_coef 0.1 and seed 1. Each
start is a line in ``calls``.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.base.cli import run_cli
from pipeline.workflow.graph import graph
from pipeline.workflow.stage import Run
from pipeline.workflow.stage_command import stage_main

GOLD = {(0.02, 0): 0.1, (0.02, 1): 0.3, (0.1, 0): 0.4, (0.1, 1): 0.8}


def work(run: Run, device: str | None, words: Sequence[str]) -> None:
    root = run.store.root.parent
    coef, seed = run.config.ppo.kl_coef, run.config.seed
    place = f"{run.stage} {coef} {seed}"
    with (root / "calls").open("a") as calls:
        calls.write(json.dumps([place, device, words]) + "\n")
    act = json.loads((root / "script.json").read_text()).get(place)
    if act == "fail":
        print("a bar at 10 %\ra bar at 20 %\n\x1b[31mred\x07\nthe loss is not finite", flush=True)
        sys.exit(1)
    if act in ("die", "wait"):
        with run.checkpoints.writing(3) as path:
            (path / "state").write_text("half")
        if act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        (root / "door").read_text()  # a FIFO: opens when somebody writes
    resumed = run.checkpoints.latest() is not None
    for role in graph(run.config)[run.stage].outputs:
        with run.draft(role) as draft:
            (draft.path / "what").write_text(f"{place} {role}")
            draft.stats.update(figures(coef, seed) if run.stage == "evaluate" else {}, resumed=resumed)


def entry(value: float) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "n": 4}


def change(policy: float, difference: float) -> dict[str, Any]:
    return {"base": entry(policy - difference), "policy": entry(policy), "difference": entry(difference)}


def figures(coef: float, seed: int) -> dict[str, Any]:
    closing = {"text": "Fine.", "count": 1, "share": entry(0.05), "share_of_other": entry(0.05)}
    closings = {"base": entry(4.0), "policy": entry(3.6), "ratio": entry(0.9), "at": 4}
    left = {"closings": entry(3.6), "ratio": entry(0.9), "closing": {"text": "Fine.", "share": 0.05}}
    return {
        "n": 4,
        "level": 0.95,
        "gold_score": change(1.0, GOLD[coef, seed]),
        "score": change(1.0, 1.0),
        "win_rate": {"gold_score": {**entry(0.9 + 0.05 * seed), "wins": 4, "ties": 0, "losses": 0}},
        "kl_k1": {**entry(2.0 + seed), "standard_error": None},
        "length": change(10.0, 1.0),
        "diversity": {
            "completions": 4,
            "prompts": 4,
            "level": 0.95,
            "closings": closings,
            "openings": closings,
            "closing": {"base": closing, "policy": closing},
            "collapse": None,
            "best_of_n": {
                "prompts": 4,
                "rows": [{"n": 1, "kl_bound": 0.0, **left, "closings": entry(4.0)}],
                "policy": left,
            },
        },
    }


def main(words: Sequence[str], device: str | None) -> int:
    """Run ``-m pipeline.STAGE --config ...``."""
    stage = words[1].removeprefix("pipeline.")
    return stage_main(stage, functools.partial(work, device=device, words=words), list(words[2:]))


if __name__ == "__main__":
    run_cli(lambda _: main(sys.argv[1:], os.environ.get("CUDA_VISIBLE_DEVICES")), [])
