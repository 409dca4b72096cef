"""PPO: parity with TRL's own trainer where the two agree, and what holds whatever the batch, model or settings."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl.experimental.ppo.ppo_trainer as trl_ppo
from datasets import Dataset
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from transformers import GPT2Config, GPT2ForSequenceClassification
from trl.experimental.ppo import PPOConfig

import pipeline.trainers.ppo.trainer as our_ppo
from pipeline.modeling.decoding.drawing import Completions
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo import rollout as rollout_module
from pipeline.trainers.ppo.rollout import Rollout
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.ppo.trainer import PPOTrainer
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora
from tests.unit.trainers.ppo.helpers import (
    MODELS,
    PROMPTS,
    SMALL,
    assert_finite,
    collect,
    ends_often,
    noise,
    section,
    spy,
    trained,
    trainer,
)


@pytest.mark.agrees(
    "PPO: the same rollout and weights give the same LoRA and value weights after three steps of AdamW, "
    "where none of the differences below applies."
)
def test_parity_with_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Same rollout, same starting weights: the same LoRA and value weights after three AdamW steps.

    TRL's wrapper computes a value head on the policy's own states once its value model's backbone is the policy's.
    No stop token, one minibatch: here every deviation of ours from TRL vanishes (where the score lands, what the
    masks count, how micro-batches are averaged), so whatever is left must agree.
    """

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


def by_ids(samples: Samples) -> torch.Tensor:
    """Scores that differ whatever was sampled: of equal ones nothing is learnt but rounding."""
    return torch.tensor([sum(ids) % 11 / 11 for ids in samples.completion_ids])


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_a_trunk_computed_once_changes_nothing(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from peft import get_peft_model

    from pipeline.modeling import states
    from pipeline.modeling.lora import lora_config

    results: list[dict[str, torch.Tensor]] = []
    passes: list[int] = []
    of_rows = states.hidden_states
    monkeypatch.setattr(
        states, "hidden_states", lambda m, i: (passes.append(len(states._blocks(m)[1])), of_rows(m, i))[1]
    )
    for below in (0, 1):
        base = make()
        torch.manual_seed(1)
        config = lora_config(
            base, r=4, alpha=8, dropout=0.0, target_modules=None, task_type="CAUSAL_LM", first_layer=1
        )
        model = get_peft_model(base, config, adapter_name="policy").eval()
        options = {"trunk_layers": below, "per_device_train_batch_size": 4, "num_ppo_epochs": 2}
        made = trainer(tmp_path, model, scorer=by_ids, **options)
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


@pytest.mark.thorough
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


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_penalty_is_the_estimator_asked_for(estimator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    penalised = spy(monkeypatch, our_ppo, "token_rewards")
    seen: list[Rollout] = []
    made = trainer(
        tmp_path,
        with_lora(tiny_gpt2()),
        kl_estimator=estimator,
        on_rollout=lambda u, i, r, s: (seen.append(r), {})[1],
    )
    made.step(0)
    log_ratio = (seen[0].ref_logprobs - seen[0].old_logprobs).double().numpy()
    expected = -log_ratio if estimator == "k1" else np.exp(log_ratio) - 1 - log_ratio
    np.testing.assert_allclose(penalised[0][0][1].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", ["ref", "running"])
def test_scores_are_scaled_then_clipped(scale: str, tmp_path: Path):
    made = trainer(tmp_path, scale_score=scale, clip_score=1.0, missing_eos_penalty=0.5)
    rollout = dataclasses.replace(
        collect(made, list(range(4)), noise()), ended=torch.tensor([True, True, True, False])
    )
    batches = [np.array([1.0, 2.0, 3.0, 6.0]), np.array([-4.0, 0.0, 0.5, 9.0])]
    for i, batch in enumerate(batches):
        known = batches[0] if scale == "ref" else np.concatenate(batches[: i + 1])
        expected = ((batch - known.mean()) / known.std(ddof=1)).clip(-1, 1) - np.array([0, 0, 0, 0.5])
        score = made.final_score(dataclasses.replace(rollout, score=torch.tensor(batch)))
        # Mutations caught: ref moments that go on running; clipped before scaled; the penalty scaled too.
        np.testing.assert_allclose(score.numpy(), expected, atol=1e-6)


def test_the_coefficient_adapts_by_hand(tmp_path: Path):
    made = trainer(
        tmp_path,
        with_lora(tiny_gpt2()),
        kl_target=2.0,
        kl_horizon=40,
        kl_coef=0.2,
        total_episodes=64,
        learning_rate=5e-2,
    )
    made.train()
    rows = made.state.log_history
    errors = [row["objective/kl"] / 2.0 - 1.0 for row in rows]
    assert min(errors) < -0.2 < 0.2 < max(errors), "the test needs an error on either side"
    for now, after, error in zip(rows, rows[1:], errors, strict=False):
        # Mutation caught: steps of the optimiser counted instead of episodes.
        assert after["kl_coef"] == pytest.approx(now["kl_coef"] * (1 + min(max(error, -0.2), 0.2) * 8 / 40))


def always(token: int) -> Any:
    """A policy that samples nothing but ``token``."""
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.bias.zero_()
        model.transformer.ln_f.bias[0] = 50.0
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wte.weight[token, 0] = 5.0
    return with_lora(model, noise=0.0)


@pytest.mark.parametrize("rows", [8, 1])
def test_completions_that_end_at_once(rows: int, tmp_path: Path):
    read: list[str] = []

    def reward(samples: Samples) -> Tensor:
        read.extend(samples.completions)
        return torch.zeros(len(samples))

    made = trainer(tmp_path, always(51), scorer=reward, per_device_train_batch_size=rows, total_episodes=2 * rows)
    made.train()
    assert read == [""] * 2 * rows
    logged = made.state.log_history[-1]
    assert (logged["length/mean"], logged["length/max"], logged["eos_rate"]) == (1.0, 1.0, 1.0)
    assert_finite(made)


@pytest.mark.parametrize("stop", [None, "eos"])
def test_completions_that_never_end(stop: Any, tmp_path: Path):
    made = trainer(tmp_path, always(9), stop_token=stop, missing_eos_penalty=1.0, total_episodes=16)
    made.train()
    logged = made.state.log_history[-1]
    assert (logged["length/mean"], logged["eos_rate"]) == (6.0, 0.0)
    # Without a stop token there is none that could be missing.
    assert logged["objective/rlhf_reward"] == pytest.approx(0.0 if stop is None else -1.0, abs=1e-5)
    assert_finite(made)


def test_another_stop_token_ends_and_eos_does_not(tmp_path: Path):
    seen: list[Rollout] = []
    policy = ends_often()
    with torch.no_grad():
        policy.get_base_model().transformer.wte.weight[7] = policy.get_base_model().transformer.wte.weight[51]
    made = trainer(
        tmp_path, policy, stop_token=None, stop_token_id=7, on_rollout=lambda u, i, r, s: (seen.append(r), {})[1]
    )
    made.train()
    rows = seen[0].completions()
    assert [r[-1] == 7 for r in rows] == seen[0].ended.tolist()
    assert not any(7 in r[:-1] for r in rows)
    assert any(51 in r[:-1] for r in rows), "the test needs an eos in the middle"
    assert seen[0].ended.any()


def test_what_pads_is_nothing_to_the_update(tmp_path: Path):
    """Vocabulary of 53 with a bos out of its range; pad a token of its own, the eos, or none at all."""
    results: list[dict[str, Tensor]] = []
    none = tiny_tokenizer()
    none.pad_token = None
    for tokenizer in (tiny_tokenizer(), tiny_tokenizer(pad_is_eos=True), none):
        made = trainer(tmp_path, ends_often(), tokenizer=tokenizer, prompts=["w5 w6 w7", "", "w8", "w9 w1"] * 2)
        assert made.prompts.ids[1] == [51], "an empty prompt begins as a document does"
        made.train()
        assert_finite(made)
        results.append(trained(made))
    assert all(torch.equal(other[n], p) for other in results[1:] for n, p in results[0].items())


@MODELS
def test_a_bf16_base_trains_fp32_lora(make: Any, tmp_path: Path):
    made = trainer(tmp_path, with_lora(make().bfloat16()), total_episodes=24)
    assert made.sampling.rescore
    before, base = trained(made), {n: p.detach().clone() for n, p in made.model.named_parameters()}
    made.train()
    assert {p.dtype for p in before.values()} == {torch.float32}
    assert {p.dtype for n, p in base.items() if n not in before and "norm" not in n} == {torch.bfloat16}
    for row in made.state.log_history:
        # Mutation caught: no rescoring, so that the decode loop's log-probabilities stand.
        assert row["val/ratio_first"] == pytest.approx(1.0, abs=1e-2)
    assert all(not torch.equal(p, before[n]) for n, p in trained(made).items())
    assert all(torch.equal(p, base[n]) for n, p in made.model.named_parameters() if n not in before)
    assert_finite(made)


def test_several_completions_of_each_prompt(tmp_path: Path):
    once = trainer(tmp_path, per_device_train_batch_size=4, total_episodes=32)
    thrice = trainer(tmp_path, per_device_train_batch_size=12, num_generations=3, total_episodes=96)
    for update in range(5):
        prompts = once.prompt_indices(update)
        # The same prompts as with one completion of each, all once before the first comes again.
        assert thrice.prompt_indices(update) == prompts * 3
    assert sorted(thrice.prompt_indices(0)[:4] + thrice.prompt_indices(1)[:4]) == list(range(len(PROMPTS)))
    rollouts: list[Any] = []
    made = trainer(
        tmp_path, num_generations=4, on_rollout=lambda u, i, r, s: (rollouts.append((i, r.completions())), {})[1]
    )
    made.train()
    ((indices, completions),) = rollouts
    assert Counter(indices).most_common(1)[0][1] == 4
    # Each of its own noise. Mutation caught: one completion, four times.
    assert len({tuple(c) for i, c in zip(indices, completions, strict=True) if i == indices[0]}) > 1


@pytest.mark.parametrize("value_model", ["head", "adapter"])
def test_ranks_reduce_only_what_is_trained(value_model: str, tmp_path: Path):
    """DDP's buckets hold LoRA and the value head; the frozen base is in none."""
    made = trainer(tmp_path, value_model=value_model)
    names = [name for name, p in made.model.named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_" in name or name.startswith("value_model.linear.") for name in names)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        reduced = DistributedDataParallel(made.model)._get_ddp_logging_data()
    finally:
        distributed.destroy_process_group()
    trained_bytes = sum(p.numel() * 4 for p in trained(made).values())
    assert (reduced["num_parameter_tensors"], reduced["total_parameter_size_bytes"]) == (len(names), trained_bytes)
    assert trained_bytes < 0.5 * sum(p.numel() * 4 for p in made.model.parameters())
