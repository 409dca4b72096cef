"""What is told while PPO trains: real runs of a tiny model, ill on purpose, and healthy ones."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PrinterCallback

from pipeline.health import Facts, diagnose
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo.doctor_callback import DoctorCallback
from tests.conftest import tiny_gpt2, with_lora
from tests.unit.trainers.ppo.helpers import PROMPTS, ends_often, gold, likes_seven, proxy, trainer

ROWS = 32


def run(tmp_path: Path, updates: int, model: Any = None, **more: Any) -> Any:
    settings = {
        "per_device_train_batch_size": ROWS,
        "learning_rate": 3e-3,
        "total_episodes": ROWS * updates,
        **more,
    }
    made = trainer(tmp_path, model, prompts=PROMPTS * (ROWS // 8), callbacks=[DoctorCallback()], **settings)
    del made.log  # the real one, which calls back
    made.remove_callback(PrinterCallback)
    made.train()
    return made


def same_for_all(samples: Samples) -> Tensor:
    return torch.ones(len(samples))


def longest(samples: Samples) -> Tensor:
    return torch.tensor([float(len(c)) for c in samples.completion_ids])


def repeats(samples: Samples) -> Tensor:
    """What a reward that adds up over tokens does to a policy."""
    return torch.tensor([float(sum(a == b for a, b in pairwise(c))) for c in samples.completion_ids])


def findings(made: Any) -> set[str]:
    return {f.rule for f in diagnose(made.state.log_history, Facts.of_settings(vars(made.args)))}


def told(captured: pytest.CaptureFixture[str]) -> list[str]:
    """The rules named, in order."""
    lines = [line for line in captured.readouterr().out.splitlines() if line.startswith("[ppo] ")]
    return [line.split(", ")[1].split(":")[0] for line in lines]


@pytest.mark.thorough
def test_a_healthy_run_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = run(tmp_path, 20)
    assert "text/repetition" in made.state.log_history[-2]
    assert told(capsys) == []


@pytest.mark.thorough
def test_told_once_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path, 9, scorer=same_for_all)
    said = capsys.readouterr().out
    # Mutation caught: told after every update.
    assert (
        said.count("[ppo] serious, score-constant: Every completion gets the same score, 1. Since update 1.") == 1
    )
    assert "by hand" in said
    assert "(docs/doctor.md#score-constant)" in said


def test_a_run_that_is_continued_repeats_nothing(capsys: pytest.CaptureFixture[str]):
    rows = [{"update": i, "objective/scores": 1.0, "objective/scores_std": 0.0} for i in range(1, 20)]
    late = {"update": 20, "loss/value_avg": float("nan")}
    for known, expected in ((rows[:3], ["score-constant", "not-finite"]), (rows[:6], ["not-finite"])):
        callback = DoctorCallback()
        state = SimpleNamespace(log_history=known, is_world_process_zero=True)
        callback.on_train_begin(SimpleNamespace(), state, None)
        for row in [*rows[len(known) :], late]:
            callback.on_log(None, state, None, logs=row)
        # Mutation caught: a doctor who begins anew.
        assert told(capsys) == expected


def test_one_rank_tells(capsys: pytest.CaptureFixture[str]):
    callback, state = DoctorCallback(), SimpleNamespace(log_history=[], is_world_process_zero=False)
    callback.on_train_begin(SimpleNamespace(), state, None)
    callback.on_log(None, state, None, logs={"update": 1, "loss/value_avg": float("nan")})
    assert told(capsys) == []


def test_settings_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path, 7, stop_token=None)
    assert told(capsys) == []


ILL: dict[str, tuple[set[str], set[str], dict[str, Any]]] = {
    # What must be found, what may be found with it, and how to fall ill.
    "a rate too high": ({"kl-runs-away"}, {"value-not-learning"}, {"learning_rate": 0.1, "kl_coef": 0.0}),
    "a rate too low": ({"policy-stands-still"}, {"value-not-learning"}, {"learning_rate": 1e-7}),
    "no value model": ({"value-not-learning"}, set(), {"value_learning_rate": 0.0}),
    "length": (
        {"all-cut", "eos-falling", "kl-runs-away"},
        {"score-saturation", "value-not-learning"},
        {"scorer": longest, "kl_coef": 0.0, "response_length": 24, "learning_rate": 1e-2},
    ),
    "brevity": (
        {"length-drift"},
        {"value-not-learning", "score-saturation", "entropy-collapse"},
        {
            "scorer": lambda s: -longest(s),
            "kl_coef": 0.0,
            "response_length": 24,
            "learning_rate": 1e-2,
            "model": "ends",
        },
    ),
    "loops": (
        {"repetition", "kl-runs-away"},
        {"entropy-collapse", "eos-falling", "all-cut", "value-not-learning"},
        {"scorer": repeats, "kl_coef": 0.0, "response_length": 24, "learning_rate": 2e-2},
    ),
    "one score": ({"score-constant"}, {"value-not-learning"}, {"scorer": same_for_all}),
    "one score, no penalty": (
        {"score-constant", "advantages-vanish", "policy-stands-still"},
        set(),
        {"scorer": lambda s: torch.zeros(len(s)), "kl_coef": 0.0},
    ),
    "steps too large": ({"clipped-often"}, {"value-not-learning"}, {"learning_rate": 0.03}),
    "never ends": ({"never-ends"}, {"value-not-learning"}, {"model": "never"}),
}


def base(kind: str | None) -> Any:
    """The tiny model as it is, one that ends half of its completions, or one that cannot."""
    if kind == "ends":
        return ends_often()
    model = tiny_gpt2()
    if kind == "never":
        with torch.no_grad():
            model.transformer.ln_f.bias[0] = 50.0
            model.transformer.wte.weight[:, 0] = 0.0
            model.transformer.wte.weight[51, 0] = -1.0
    return with_lora(model, noise=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("must", "may", "how"), ILL.values(), ids=ILL.keys())
def test_runs_that_are_ill(
    must: set[str], may: set[str], how: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    how = dict(how)
    made = run(tmp_path, 40, base(how.pop("model", None)), **how)
    found = findings(made)
    assert must <= found <= must | may
    assert sorted(told(capsys)) == sorted(found)


@pytest.mark.slow
def test_a_reward_that_is_hacked(tmp_path: Path):
    """Gold rises up to two sevens and falls with every further one; the reward counts them."""

    def judged(update: int, indices: list[int], rollout: Any, score: Tensor) -> dict[str, float]:
        rows = Samples([], rollout.completions(), None)
        return {"objective/gold_scores": float(gold(rows).mean())}

    hacked = {"scorer": proxy, "kl_coef": 0.0, "value_learning_rate": 1e-2, "learning_rate": 1e-2}
    found = findings(run(tmp_path, 40, on_rollout=judged, **hacked))
    assert "over-optimisation" in found
    held_out = {"check": gold, "eval_strategy": "steps", "eval_steps": 2, "eval_dataset": PROMPTS * 8}
    made = run(tmp_path, 40, **hacked, **held_out)
    assert "over-optimisation" in findings(made)
    assert "over-optimisation" not in findings(run(tmp_path, 40, **{**hacked, **held_out, "check": proxy}))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_longer_healthy_runs_are_quiet(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = run(tmp_path, 60, seed=seed)
    assert made.state.log_history[-2]["objective/scores"] > 0.15, "the test needs a run that learns"
    assert told(capsys) == []


def test_the_error_of_the_check(tmp_path: Path):
    seen: list[list[float]] = []

    def check(samples: Samples) -> Tensor:
        seen.append([float(n) for n in range(len(samples))])
        return torch.tensor(seen[-1])

    made = trainer(
        tmp_path, scorer=likes_seven, check=check, eval_strategy="steps", eval_steps=1, eval_dataset=PROMPTS * 2
    )
    made.train()
    assert made.state.log_history[0]["eval/check_error"] == pytest.approx(statistics.stdev(seen[0]) / 4)
