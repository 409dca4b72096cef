"""How many labels active selection saves on the demo: ``python -m tests.bench.active [SEEDS [ARMS]]``.

The oracle stands in for people. A reward model is trained from scratch on the labels so far, then asks for as many
again: at random, by its own uncertainty, or by that of an ensemble of three. All arms of a seed share their first
labels and are measured on the same held-out pairs, against the gold score. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("RLHF_REPORT_TO", "none")
LABELS = (200, 400, 800, 1600)
ARMS = ("random", "active", "ensemble")
HELD_OUT = 2000
DEMO = "configs/demo.yaml"


def main() -> int:
    from pipeline import collect, sft
    from pipeline.store.store import Store
    from pipeline.workflow.config import load_config
    from pipeline.workflow.stage import Planner, Run

    seeds = [int(s) for s in sys.argv[1].split(",")] if len(sys.argv) > 1 else [0, 1, 2]
    arms = sys.argv[2].split(",") if len(sys.argv) > 2 else list(ARMS)
    curves: dict[str, list[list[float]]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as text:
        for seed in seeds:
            given = [f"data_dir={text}", f"seed={seed}", "collect.comparisons=8000", "collect.test_share=0.25"]
            for stage in (sft, collect):
                stage.main(["--config", DEMO, *given])
            config = load_config(DEMO, given)
            run = Planner(config, Store(text)).run_of("reward")
            assert isinstance(run, Run)
            for arm in arms:
                curves[arm].append(curve(run, arm, Path(text), seed))
                print(f"seed {seed}, {arm}: {[round(a, 3) for a in curves[arm][-1]]}", flush=True)
    result: dict[str, Any] = {"labels": LABELS, "held_out": HELD_OUT, "seeds": seeds, "accuracy": curves}
    result["saved"] = {arm: saved(curves["random"], curves[arm]) for arm in arms if arm != "random"}
    print(json.dumps(result))
    return 0


def curve(run: Any, arm: str, out: Path, seed: int) -> list[float]:
    """Held-out agreement with gold after each number of labels."""
    from pipeline.modeling.loading import load_tokenizer
    from pipeline.tasks import load_task

    task = load_task(run.config.task, run.config.task_args, DEMO)
    rows = {split: run.version("preferences").rows(split) for split in ("train", "test")}
    held_out = rows["test"][:HELD_OUT]
    gold = [
        task.gold_scores([r["prompt"] for r in held_out], [r[s] for r in held_out]) for s in ("chosen", "rejected")
    ]
    truth = np.array(gold[0]) - np.array(gold[1])
    tokenizer = load_tokenizer(*run.base)
    pool = rows["train"][:]
    random.Random(seed).shuffle(pool)
    labelled, pool = pool[: LABELS[0]], pool[LABELS[0] :]
    found: list[float] = []
    for i, _ in enumerate(LABELS):
        models = [
            train(run, tokenizer, labelled, seed * 10 + k, out) for k in range(3 if arm == "ensemble" else 1)
        ]
        # The measured model is one model in every arm: an ensemble would win by averaging.
        margins = differences(models[0], tokenizer, held_out)
        found.append(float(np.mean((margins * truth > 0)[truth != 0])))
        if i + 1 == len(LABELS):
            break
        if arm != "random":
            p = np.mean([1 / (1 + np.exp(-differences(m, tokenizer, pool))) for m in models], axis=0)
            order = np.argsort(np.abs(p - 0.5), kind="stable")  # the order of least_sure: entropy falls with it
            pool = [pool[j] for j in order]
        more = LABELS[i + 1] - LABELS[i]
        labelled, pool = labelled + pool[:more], pool[more:]
    return found


def train(run: Any, tokenizer: Any, rows: list[dict[str, Any]], seed: int, out: Path) -> Any:
    from pipeline.scoring.reward_adapter import score_position
    from pipeline.trainers import reward
    from pipeline.trainers.arguments import training_arguments

    scratch = Path(tempfile.mkdtemp(dir=out))  # its own: a trainer goes on from checkpoints that it finds
    args = training_arguments(run.config, "reward", reward.RewardSection, scratch)
    args.seed, args.num_train_epochs, args.disable_tqdm = seed, 3, True
    pairs = reward.tokenize_pairs(tokenizer, rows, 10**9, score_position(tokenizer))
    return reward.train(args, *run.base, tokenizer, pairs, scratch / "metrics.jsonl")[0]


def differences(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> Any:
    """(n,) score of chosen less that of rejected."""
    from pipeline.scoring.reward_adapter import score_position, score_rows
    from pipeline.trainers import reward

    pairs = reward.tokenize_pairs(tokenizer, rows, 10**9, score_position(tokenizer))
    sides = [score_rows(model, reward.score_head(model), ids) for ids in (pairs.chosen_ids, pairs.rejected_ids)]
    return (sides[0] - sides[1]).double().numpy()


def saved(random_curves: list[list[float]], curves: list[list[float]]) -> dict[str, Any]:
    """Labels that the arm needs for what random order reaches with half of the most, as a share of those."""
    half = len(LABELS) - 2
    shares = []
    for ours, theirs in zip(curves, random_curves, strict=True):
        reached = np.interp(theirs[half], np.maximum.accumulate(ours), np.log(LABELS))
        shares.append(float(np.exp(reached)) / LABELS[half])
    return {"shares": [round(s, 3) for s in shares], "median": round(statistics.median(shares), 3)}


if __name__ == "__main__":
    sys.exit(main())
