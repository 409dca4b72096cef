"""Small trainers, models and rewards that the tests of PPO share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification, TrainerCallback

from pipeline.modeling.decoding.drawing import uniforms
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo.rollout import Rollout, collect_rollout
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.ppo.trainer import PPOTrainer
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora

PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9], [11, 12], [13, 14, 15], [16, 17], [18], [19, 20, 21, 22]]


SMALL: dict[str, Any] = {
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "disable_tqdm": True,
    "per_device_train_batch_size": 8,
    "total_episodes": 8,
    "response_length": 6,
    "learning_rate": 1e-2,
}


def likes_seven(samples: Samples) -> torch.Tensor:
    """A reward with a known optimum: the share of token 7."""
    return torch.tensor([sum(t == 7 for t in c) / max(len(c), 1) for c in samples.completion_ids])


def section(tmp_path: Path, **more: Any) -> PPOSection:
    return PPOSection(**{"output_dir": str(tmp_path), **SMALL, **more})


def trainer(
    tmp_path: Path,
    model: Any = None,
    *,
    scorer: Any = likes_seven,
    prompts: Any = None,
    tokenizer: Any = None,
    callbacks: Any = None,
    **more: Any,
) -> Any:
    own = {k: more.pop(k) for k in ("on_rollout", "check", "eval_dataset", "checkpoints") if k in more}
    made: Any = PPOTrainer(
        section(tmp_path, **more),
        tokenizer or tiny_tokenizer(),
        with_lora(tiny_gpt2(), noise=0.0) if model is None else model,
        None,
        scorer,
        PROMPTS if prompts is None else prompts,
        callbacks=callbacks,
        **own,
    )
    made.log = lambda logs, *_: made.state.log_history.append(logs)
    return made


def trained(made: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in made.model.named_parameters() if p.requires_grad}


KINDS = pytest.mark.parametrize("kind", ["head", "adapter", "model"])


MODELS = pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])


def ends_often(token: int = 51) -> Any:
    """A policy that samples ``token`` in about half of its completions, so that some end early."""
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.wte.weight[token] = 1.5 * model.transformer.wte.weight[48]
    return with_lora(model)


def classifier(policy: Any, seed: int = 4) -> Any:
    """A sequence classifier of the policy's shape."""
    torch.manual_seed(seed)
    return GPT2ForSequenceClassification(
        GPT2Config(
            **{**policy.config.to_dict(), "num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}}
        )
    )


def optimiser(made: Any) -> torch.optim.Optimizer:
    return getattr(made.optimizer, "optimizer", made.optimizer)


def spy(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[tuple[tuple[Any, ...], Any]]:
    """Arguments and result of every call of ``module.name``."""
    calls: list[tuple[tuple[Any, ...], Any]] = []
    original = getattr(module, name)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        copied = tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in (*args, *kwargs.values()))
        calls.append((copied, original(*args, **kwargs)))
        return calls[-1][1]

    monkeypatch.setattr(module, name, recorded)
    return calls


def with_values(made: Any) -> Any:
    """Values that are not 0, and a value adapter that is not the base."""
    torch.manual_seed(7)
    wrapper: Any = made.model
    torch.nn.init.normal_(wrapper.value_model.linear.weight, std=0.3)
    for name, parameter in wrapper.named_parameters():
        if "lora_B.value" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def collect(made: Any, rows: list[int], noise: Tensor) -> Rollout:
    prompts = [made.prompts.ids[i] for i in rows]
    wrapper: Any = made.model
    return collect_rollout(
        wrapper, made.reference, made.scorer, prompts, made.sampling, noise[rows], made.processing_class
    )


def noise(rows: int = 8, tokens: int = 6) -> Tensor:
    return uniforms(rows, tokens, torch.Generator().manual_seed(0))


class Remember(TrainerCallback):
    """The trained weights after every update, 0 being the start."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.states.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})

    on_step_end = on_train_begin


def are(made: Any, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(p, state[n]) for n, p in trained(made).items())


HELD_OUT = PROMPTS * 4


LEARNS: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "eval_dataset": HELD_OUT,
    "per_device_train_batch_size": 32,
    "total_episodes": 32 * 16,
    "kl_coef": 0.0,
    "value_learning_rate": 1e-2,
}


def sevens(samples: Samples) -> list[int]:
    return [sum(t == 7 for t in c) for c in samples.completion_ids]


def proxy(samples: Samples) -> Tensor:
    return torch.tensor([float(n) for n in sevens(samples)])


def gold(samples: Samples) -> Tensor:
    """Rises with the proxy up to two, then falls."""
    return torch.tensor([float(n if n <= 2 else 4 - n) for n in sevens(samples)])


def assert_finite(made: Any) -> None:
    assert all(np.isfinite(v) for row in made.state.log_history for v in row.values())
    assert all(p.isfinite().all() for p in trained(made).values())
