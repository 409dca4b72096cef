"""PPO: parity with TRL's own trainer where the two agree, and the invariants that hold by construction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.modeling.drawing import Completions
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo import rollout as rollout_module
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


def test_parity_with_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Same rollout, same starting weights: the same LoRA and value weights after three AdamW steps.

    TRL's wrapper computes a value head on the policy's own states once its value model's backbone is the policy's.
    No stop token, one minibatch: here every deviation of ours from TRL vanishes (where the score lands, what the
    masks count, how micro-batches are averaged), so whatever is left must agree.
    """
    import trl.experimental.ppo.ppo_trainer as trl_ppo
    from datasets import Dataset
    from transformers import GPT2Config, GPT2ForSequenceClassification
    from trl.experimental.ppo import PPOConfig

    shared: dict[str, Any] = {
        "output_dir": str(tmp_path),
        **SMALL,
        "num_sample_generations": 0,
        "num_ppo_epochs": 3,
        "lr_scheduler_type": "constant",
        "adam_epsilon": 1e-8,
        "temperature": 0.7,
        "kl_coef": 0.2,
        "gamma": 0.98,
        "lam": 0.9,
        "vf_coef": 0.3,
        "stop_token": None,
    }
    policy = with_lora(tiny_gpt2())
    config = GPT2Config(**{**policy.config.to_dict(), "num_labels": 1})
    torch.manual_seed(4)
    value, reward = GPT2ForSequenceClassification(config), GPT2ForSequenceClassification(config).eval()
    value.transformer = policy.get_base_model().transformer
    torch.nn.init.normal_(value.score.weight, std=0.1)
    first_head = value.score.weight.detach().clone()
    seen: dict[str, torch.Tensor] = {}
    generation = trl_ppo.batch_generation

    def recorded(model: Any, queries: torch.Tensor, *args: Any) -> Any:
        found = generation(model, queries, *args)
        seen["queries"], seen["responses"] = queries, found[0][:, queries.shape[1] :]
        return found

    monkeypatch.setattr(trl_ppo, "batch_generation", recorded)
    data = Dataset.from_dict({"input_ids": PROMPTS})
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    theirs = trl_ppo.PPOTrainer(
        PPOConfig(**shared), tokenizer, policy, None, reward, data, value, eval_dataset=data
    )
    start = trained(theirs)
    np.random.seed(0)
    theirs.train()
    assert not (seen["responses"] == 52).any(), "a sampled pad token would cut TRL's masks"

    def score(samples: Samples) -> torch.Tensor:
        pairs = zip(samples.prompt_ids, samples.completion_ids, strict=True)
        rows = [torch.tensor([[*p, *c]]) for p, c in pairs]
        with torch.no_grad():
            return torch.stack([reward.score(reward.transformer(r).last_hidden_state[0, -1])[0] for r in rows])

    queries = [[t for t in row if t != 52] for row in seen["queries"].tolist()]
    replay = Completions(
        seen["responses"],
        torch.full((8,), 6),
        torch.zeros(8, dtype=torch.bool),
        torch.zeros(8, 6),
        torch.zeros(8, 6),
    )
    monkeypatch.setattr(rollout_module, "generate", lambda *_, **__: replay)
    extra = {"max_grad_norm": 0.0, "value_learning_rate": 1e-2, "rescore": True}
    ours = PPOTrainer(
        PPOSection(**shared, **extra), tiny_tokenizer(), with_lora(tiny_gpt2()), None, score, queries
    )
    monkeypatch.setattr(ours, "prompt_indices", lambda update: list(range(8)))
    wrapper: Any = ours.model
    with torch.no_grad():
        wrapper.value_model.linear.weight.copy_(first_head)
    wrapper.value_model.linear.bias.requires_grad_(False)
    ours.train()

    after_theirs, after_ours = trained(theirs), trained(ours)
    lora = [n for n in after_theirs if "lora_" in n and n.startswith("policy.")]
    assert lora
    moved = max((after_theirs[n] - start[n]).abs().max().item() for n in lora)
    apart = max((after_theirs[n] - after_ours[n]).abs().max().item() for n in lora)
    # Mutations caught: the sign of the KL, gamma and lam swapped, whitening left out, vf_coef, temperature,
    # an off-by-one in any position, a mean over rows instead of tokens.
    assert moved > 1e-2
    assert apart < 1e-4 * moved + 2e-5
    head = (after_ours["value_model.linear.weight"] - value.score.weight.detach()).abs().max().item()
    assert head < 2e-5


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_ratio_is_one_and_nothing_moves_at_learning_rate_zero(make: Any, tmp_path: Path):
    made = trainer(tmp_path, with_lora(make()), learning_rate=0.0, num_ppo_epochs=2)
    before = trained(made)
    made.train()
    logged = made.state.log_history[-1]
    assert logged["val/ratio_first"] == pytest.approx(1.0, abs=1e-6)
    assert logged["val/ratio_var"] == pytest.approx(0.0, abs=1e-10)
    assert logged["policy/approxkl_avg"] == pytest.approx(0.0, abs=1e-10)
    assert logged["policy/clipfrac_avg"] == 0
    assert all(torch.equal(p, before[n]) for n, p in trained(made).items())


def test_zero_lora_has_no_divergence(tmp_path: Path):
    made = trainer(tmp_path)
    metrics = made.step(0)
    assert metrics["objective/kl"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["objective/kl_k3"] == pytest.approx(0.0, abs=1e-5)


def test_optimiser_steps_are_epochs_times_minibatches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = trainer(
        tmp_path,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_mini_batches=2,
        num_ppo_epochs=3,
    )
    steps: list[int] = []
    step = made.optimizer.step
    monkeypatch.setattr(made.optimizer, "step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    made.step(0)
    assert len(steps) == 3 * 2


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_a_trunk_computed_once_changes_nothing(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from peft import get_peft_model

    from pipeline.modeling import roles
    from pipeline.modeling.lora import lora_config

    results: list[dict[str, torch.Tensor]] = []
    passes: list[int] = []
    states = roles.hidden_states
    monkeypatch.setattr(
        roles, "hidden_states", lambda m, i: (passes.append(len(roles._blocks(m)[1])), states(m, i))[1]
    )
    for below in (0, 1):
        base = make()
        torch.manual_seed(1)
        config = lora_config(
            base, r=4, alpha=8, dropout=0.0, target_modules=None, task_type="CAUSAL_LM", first_layer=1
        )
        model = get_peft_model(base, config, adapter_name="policy").eval()
        made = trainer(tmp_path, model, trunk_layers=below, per_device_train_batch_size=4, num_ppo_epochs=2)
        made.step(0)
        made.step(1)
        results.append(trained(made))
    # Mutations caught: the trunk of other rows (no take); the embedding's output in place of the trunk.
    assert max((results[0][n] - results[1][n]).abs().max().item() for n in results[0]) < 1e-6
    assert passes.count(1) > 0


def test_a_trunk_that_is_trained_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"trunk_layers 1, but .* is trained"):
        trainer(tmp_path, trunk_layers=1)


def test_prompts_are_a_function_of_the_position(tmp_path: Path):
    made = trainer(tmp_path, per_device_train_batch_size=6, total_episodes=24)
    drawn = [i for update in range(4) for i in made.prompt_indices(update)]
    assert made.prompt_indices(2) == drawn[12:18]
    # No prompt again before all were seen; 24 = three passes over 8. Mutation caught: a new shuffle every update.
    assert all(sorted(drawn[p : p + 8]) == list(range(8)) for p in (0, 8, 16))
    assert drawn[:8] != drawn[8:16]


def test_same_seed_same_adapter_and_another_seed_another(tmp_path: Path):
    def run(seed: int) -> dict[str, torch.Tensor]:
        made = trainer(tmp_path, seed=seed, total_episodes=16)
        made.train()
        return trained(made)

    one, again, other = run(0), run(0), run(1)
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert any(not torch.equal(one[n], other[n]) for n in one)


def test_it_learns_a_reward_with_a_known_optimum(tmp_path: Path):
    made = trainer(
        tmp_path,
        per_device_train_batch_size=32,
        total_episodes=32 * 25,
        kl_coef=0.0,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
    )
    made.train()
    scores = [row["objective/scores"] for row in made.state.log_history if "objective/scores" in row]
    assert scores[0] < 0.1
    assert scores[-1] > 0.6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_mini_batches": 3}, "does not divide into num_mini_batches 3"),
        ({"kl_target": 0.0}, "kl_target"),
        ({"num_ppo_epochs": 0}, "num_ppo_epochs"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(settings: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        section(tmp_path, **settings)
