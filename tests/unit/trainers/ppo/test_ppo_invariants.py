"""What holds for our PPO whatever the batch, the model, the tokenizer or the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, TrainerCallback

import pipeline.trainers.ppo.trainer as our_ppo
from pipeline.modeling import generation
from pipeline.modeling.drawing import uniforms
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo.rollout import Rollout, collect_rollout, gathered
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora
from tests.unit.trainers.ppo.test_ppo import PROMPTS, likes_seven, trained, trainer
from tests.unit.trainers.ppo.test_trl_defects import classifier, ends_often, optimiser, spy

KINDS = pytest.mark.parametrize("kind", ["head", "adapter", "model"])
MODELS = pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])


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


def same_rollout(one: Rollout, other: Rollout, atol: float = 1e-5) -> None:
    assert one.completions() == other.completions()
    assert torch.equal(one.ended, other.ended)
    for name in ("old_logprobs", "ref_logprobs", "old_values", "score"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=atol, rtol=0, msg=name)


# -------------------- what is sampled


@MODELS
@KINDS
def test_a_row_alone_is_the_row_in_a_batch(make: Any, kind: str, tmp_path: Path):
    policy = with_lora(make())
    made = with_values(
        trainer(tmp_path, policy, value_model=kind, scorer=classifier(tiny_gpt2()), temperature=0.7)
    )
    together = collect(made, list(range(8)), noise())
    assert together.old_values.abs().sum() > 0
    for row in range(8):
        # Mutations caught: positions or states counted from a padded column; the score of the last column.
        same_rollout(together.take(torch.tensor([row])), collect(made, [row], noise()))


@MODELS
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_decoding_measures_what_training_measures(make: Any, temperature: float, tmp_path: Path):
    made = with_values(trainer(tmp_path, with_lora(make()), temperature=temperature))
    assert made.sampling.rescore is False
    decoded = collect(made, list(range(8)), noise())
    made.sampling = dataclasses.replace(made.sampling, rescore=True)
    # Mutations caught: log-probabilities at temperature 1; values of the state behind the token.
    same_rollout(decoded, collect(made, list(range(8)), noise()))
    assert (decoded.old_logprobs - decoded.ref_logprobs).abs().max() > 0.05, "the adapter does something"


@MODELS
def test_neither_dropping_rows_nor_the_cache_changes_anything(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = make()
    with torch.no_grad():
        model.get_output_embeddings().weight[51] *= 3
    made = with_values(trainer(tmp_path, with_lora(model), prompts=PROMPTS * 4, response_length=12))
    found: list[Rollout] = []
    for keep in (0, 1):
        monkeypatch.setattr(generation, "KEEP_ROWS", keep)
        found.append(collect(made, list(range(32)), noise(32, 12)))
    assert len(found[0].lengths.unique()) > 4, "the test needs rows that end at different steps"
    # Mutation caught: batch_select_indices that leaves rows where they are.
    same_rollout(found[0], found[1])
    monkeypatch.setattr(generation, "roomy_cache", lambda config, room: DynamicCache(config=config))
    same_rollout(found[0], collect(made, list(range(32)), noise(32, 12)))


def test_the_base_is_the_base_whatever_happens(tmp_path: Path):
    """Bit for bit, with adapter and flags as they were, also where the scorer fails halfway."""
    calls: list[int] = []

    def fails_once(samples: Samples) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("boom")
        return likes_seven(samples)

    base = tiny_gpt2()
    before = {n: p.detach().clone() for n, p in base.named_parameters()}
    policy = with_lora(base)
    made = trainer(tmp_path, policy, scorer=fails_once, value_model="adapter")
    flags = {n: p.requires_grad for n, p in policy.named_parameters()}
    made.step(0)
    with pytest.raises(RuntimeError, match="boom"):
        made.step(1)
    metrics = made.step(1)
    # Mutations caught: merged() that puts nothing back; role() that leaves the flags as set_adapter sets them.
    assert metrics["val/ratio_first"] == pytest.approx(1.0, abs=1e-6)
    assert policy.active_adapter == "policy"
    assert {n: p.requires_grad for n, p in policy.named_parameters()} == flags
    weights = {n.replace(".base_layer", ""): p for n, p in policy.get_base_model().named_parameters()}
    assert all(torch.equal(weights[n], p) for n, p in before.items())
    with policy.disable_adapter():
        assert torch.equal(
            policy(torch.tensor([PROMPTS[0]])).logits, tiny_gpt2()(torch.tensor([PROMPTS[0]])).logits
        )


def test_gathered_rows_are_of_one_kind(tmp_path: Path):
    """Accelerate's padding makes integers of booleans, on the ranks whose completions are the shorter ones."""
    rollout = collect(trainer(tmp_path, with_lora(tiny_gpt2())), list(range(8)), noise())
    sent: list[torch.dtype] = []

    class Ranks:
        num_processes = 2

        def pad_across_processes(self, tensor: Tensor, dim: int) -> Tensor:
            assert dim == 1
            wider = tensor.new_zeros(len(tensor), tensor.shape[1] + 2, *tensor.shape[2:]) + 0
            wider[:, : tensor.shape[1]] = tensor
            sent.extend((tensor.dtype, wider.dtype))
            return wider

        def gather(self, tensor: Tensor) -> Tensor:
            return torch.cat([tensor, tensor])

    whole = gathered(rollout, Ranks())
    # Mutation caught: booleans padded as they are, which the other rank, that pads nothing, sends as booleans.
    assert sent[::2] == sent[1::2]
    for name, value in vars(rollout).items():
        assert value is None or getattr(whole, name).dtype == value.dtype, name
    assert whole.completions() == rollout.completions() * 2


# -------------------- what is trained


@MODELS
@KINDS
def test_each_value_model_trains_its_own(make: Any, kind: str, tmp_path: Path):
    made = trainer(tmp_path, with_lora(make()), value_model=kind)
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    made.step(0)
    changed = {n for n, p in made.model.named_parameters() if not torch.equal(p, before[n])}
    own = {
        "head": lambda n: False,
        "adapter": lambda n: "lora_" in n and ".value." in n,
        "model": lambda n: n.startswith("value_model.backbone.") and "lm_head" not in n,
    }[kind]
    policy = {n for n in before if n.startswith("policy.") and ".policy." in n and "lora_" in n}
    head = {"value_model.linear.weight", "value_model.linear.bias"}
    # Mutations caught: a value adapter without its flags; a backbone that is the policy's own.
    assert changed == policy | head | {n for n in before if own(n)}
    assert changed == set(trained(made))


@contextmanager
def policy_gradient(made: Any) -> Iterator[list[float]]:
    """The largest gradient that reaches the policy's adapter, at every optimiser step."""
    seen: list[float] = []
    own = [p for n, p in made.model.named_parameters() if ".policy." in n and p.requires_grad]

    def look(*_: Any) -> None:
        seen.append(max([p.grad.abs().max().item() for p in own if p.grad is not None], default=0.0))

    handle = optimiser(made).register_step_pre_hook(look)
    yield seen
    handle.remove()


@KINDS
def test_the_value_loss_reaches_the_policy_through_a_head_only(kind: str, tmp_path: Path):
    made = with_values(trainer(tmp_path, with_lora(tiny_gpt2()), value_model=kind))
    rollout = collect(made, list(range(8)), noise())
    nothing, goal = torch.zeros_like(rollout.old_values), rollout.old_values + 1.0
    with policy_gradient(made) as seen:
        made.minibatch_step(rollout, nothing, goal, torch.arange(8))
    # Mutation caught: ValueHead.states under the policy's role.
    assert (seen[0] > 0) == (kind == "head")


@KINDS
def test_warming_up_trains_the_value_alone(kind: str, tmp_path: Path):
    more: dict[str, Any] = {
        "value_warmup_updates": 2,
        "entropy_coef": 0.1,
        "weight_decay": 0.1,
        "total_episodes": 24,
    }
    made = with_values(trainer(tmp_path, with_lora(tiny_gpt2()), value_model=kind, **more))
    states = [trained(made)]
    with policy_gradient(made) as seen:
        for update in range(3):
            made.step(update)
            states.append(trained(made))
    policy = {n for n in states[0] if ".policy." in n}
    moved = [{n for n in now if not torch.equal(now[n], then[n])} for then, now in pairwise(states)]
    # Mutations caught: no detach of the head's states; the entropy bonus left on; the step taken on all groups.
    assert moved[0] == moved[1] == set(states[0]) - policy
    assert moved[2] == set(states[0])
    assert max(seen[:8]) == 0.0, "or the optimiser begins with moments of another loss"
    assert min(seen[8:]) > 0.0


@pytest.mark.parametrize("coef", [0.0, 0.1])
def test_the_entropy_bonus_raises_entropy(coef: float, tmp_path: Path):
    made = trainer(tmp_path, with_lora(tiny_gpt2()), entropy_coef=coef, learning_rate=1e-3)
    rollout = collect(made, list(range(8)), noise())
    nothing = torch.zeros_like(rollout.old_values)
    rows = [made.minibatch_step(rollout, nothing, rollout.old_values, torch.arange(8)) for _ in range(4)]
    entropies = [row["entropy"] for row in rows]
    if coef:  # Mutation caught: the bonus added to the loss instead of taken from it.
        assert all(b > a + 1e-3 for a, b in pairwise(entropies))
    else:
        assert entropies == entropies[:1] * 4


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


@pytest.mark.parametrize(("limit", "minibatches", "steps"), [(1e-9, 1, 2), (1e-9, 4, 4), (1e3, 4, 16)])
def test_target_kl_ends_the_epochs(limit: float, minibatches: int, steps: int, tmp_path: Path):
    """The first minibatch sees the policy that sampled, so with one alone the first epoch's KL is 0."""
    made = trainer(tmp_path, target_kl=limit, num_mini_batches=minibatches, num_ppo_epochs=4)
    # Mutations caught: the epochs go on; looked at after every minibatch; only an epoch's first minibatch counts.
    assert made.step(0)["policy/steps"] == steps


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


# -------------------- when to stop, what to keep


class Remember(TrainerCallback):
    """The trained weights after every update, 0 being the start."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.states.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})

    on_step_end = on_train_begin


def are(made: Any, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(p, state[n]) for n, p in trained(made).items())


def test_the_kl_budget_goes_back_to_the_last_policy_within(tmp_path: Path):
    remember = Remember()
    more: dict[str, Any] = {"kl_budget": 0.5, "kl_coef": 0.0, "learning_rate": 5e-3, "total_episodes": 160}
    made = trainer(tmp_path, callbacks=[remember], **more)
    made.train()
    kls = [row["objective/kl"] for row in made.state.log_history]
    assert len(kls) > 2
    assert max(kls[:-1]) <= 0.5 < kls[-1]
    assert "kl_budget 0.5" in made.stopped
    # The last one measured within is what the update before the last began with. Mutation caught: none put back.
    assert are(made, remember.states[len(kls) - 2])
    assert "policy/steps" not in made.state.log_history[-1]


def test_a_start_over_budget_trains_nothing(tmp_path: Path):
    remember = Remember()
    made = trainer(tmp_path, with_lora(tiny_gpt2()), kl_budget=0.1, total_episodes=32, callbacks=[remember])
    made.train()
    assert made.state.global_step == 1
    assert are(made, remember.states[0])


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


@pytest.mark.parametrize("keep_best", [True, False])
def test_the_best_is_published(keep_best: bool, tmp_path: Path):
    remember = Remember()
    made = trainer(tmp_path, scorer=proxy, check=gold, keep_best=keep_best, callbacks=[remember], **LEARNS)
    made.train()
    checks = [row["eval/check"] for row in made.state.log_history if "eval/check" in row]
    assert len(checks) == 17
    best = int(np.argmax(checks))
    assert 0 < best < 16, "the test needs a best that is neither first nor last"
    # Mutation caught: ranked by the proxy although there is a judge.
    assert are(made, remember.states[best if keep_best else 16])


def test_a_hacked_reward_ends_the_run_before_it_is_lost(tmp_path: Path):
    remember = Remember()
    made = trainer(
        tmp_path, scorer=proxy, check=gold, keep_best=True, fall_patience=2, callbacks=[remember], **LEARNS
    )
    made.train()
    rows = [row for row in made.state.log_history if "eval/check" in row]
    best, last = max(rows, key=lambda row: row["eval/check"]), rows[-1]
    assert "fell" in made.stopped
    assert made.state.global_step < 16
    assert best.get("update", 0) < last["update"] - 1
    assert last["eval/scores"] > best["eval/scores"]
    assert last["eval/check"] < best["eval/check"]
    # The kept one is from before the fall. Mutation caught: the one that stopped the run.
    assert are(made, remember.states[int(best["update"])])
    assert made.evaluate_held_out()["eval/check"] == pytest.approx(best["eval/check"])


def test_without_a_fall_the_run_goes_on(tmp_path: Path):
    made = trainer(tmp_path, scorer=proxy, check=proxy, fall_patience=1, **{**LEARNS, "total_episodes": 32 * 6})
    made.train()
    assert made.stopped is None
    assert made.state.global_step == 6


# -------------------- completions, tokenizers, sizes


def always(token: int) -> Any:
    """A policy that samples nothing but ``token``."""
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.bias.zero_()
        model.transformer.ln_f.bias[0] = 50.0
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wte.weight[token, 0] = 5.0
    return with_lora(model, noise=0.0)


def assert_finite(made: Any) -> None:
    assert all(np.isfinite(v) for row in made.state.log_history for v in row.values())
    assert all(p.isfinite().all() for p in trained(made).values())


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


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@MODELS
def test_gradient_checkpointing_gives_the_same_update(make: Any, full: bool, tmp_path: Path):
    results: list[dict[str, Tensor]] = []
    for on in (False, True):
        model = make().requires_grad_(True) if full else with_lora(make())
        made = trainer(tmp_path, model, use_peft=not full, gradient_checkpointing=on, learning_rate=1e-3)
        made.step(0)
        # Mutation caught: blocks left in training mode.
        assert not any(m.training for m in made.model.policy.modules())
        results.append(trained(made))
    for name, parameter in results[0].items():
        torch.testing.assert_close(results[1][name], parameter, atol=1e-6, rtol=0, msg=name)


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


@pytest.mark.parametrize(
    ("rows", "steps", "minibatches"), [(1, 8, 1), (4, 3, 2), (1, 12, 12), (1, 12, 2)], ids=str
)
def test_any_cut_into_micro_batches_is_the_same_update(rows: int, steps: int, minibatches: int, tmp_path: Path):
    """Such as minibatches of 6 in micro-batches of 4 and 2, and minibatches of one row."""
    results: list[dict[str, Tensor]] = []
    for size, count in ((rows, steps), (rows * steps, 1)):
        cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": count}
        made = trainer(tmp_path, ends_often(), num_mini_batches=minibatches, **cut)
        assert made.step(0)["policy/steps"] == 4 * minibatches
        results.append(trained(made))
    for name, parameter in results[0].items():
        torch.testing.assert_close(results[1][name], parameter, atol=1e-5, rtol=0, msg=name)
