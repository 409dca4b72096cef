"""What TRL 1.12's PPOTrainer gets wrong, each shown on TRL's class and shown right on ours.

Both are built by one call from the same arguments. The half about TRL asserts the wrong behaviour, so that the day
it changes, this file says which deviation of ours has lost its reason.
"""

from __future__ import annotations

import gc
import inspect
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trl.experimental.ppo.ppo_trainer as trl_ppo
from datasets import Dataset
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import TrainerCallback
from trl.experimental.ppo import PPOConfig
from trl.experimental.ppo import PPOTrainer as TRLTrainer

import pipeline.trainers.ppo.trainer as our_ppo
from pipeline.functional.logprobs import CHUNK
from pipeline.modeling.lora import save_adapter
from pipeline.scoring.scorer import Samples
from pipeline.stages.ppo import load_model
from pipeline.store.checkpoints import Checkpoints
from pipeline.trainers.ppo.rollout import Rollout
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.ppo.trainer import PPOTrainer
from tests.conftest import tiny_gpt2, tiny_tokenizer, with_lora
from tests.unit.trainers.ppo.helpers import PROMPTS, SMALL, classifier, ends_often, optimiser, spy, trained

BOTH = pytest.mark.parametrize("cls", [TRLTrainer, PPOTrainer], ids=["trl", "ours"])
EOS, TOKENS = 51, 4
DATA = PROMPTS * 3
SETTINGS: dict[str, Any] = {
    **SMALL,
    "num_ppo_epochs": 1,
    "num_sample_generations": 0,
    "stop_token": "eos",
    "response_length": TOKENS,
    "temperature": 1.0,
}


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL collects garbage several times an update, which in a process of this size takes most of its time."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def build(
    cls: type[TRLTrainer],
    output_dir: Path,
    policy: Any = None,
    *,
    tokenizer: Any = None,
    ref_model: Any = None,
    reward_model: Any = None,
    value_model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **more: Any,
) -> Any:
    """Either trainer from TRL's own arguments; without a value model TRL's gets one, and ours makes its head."""
    other = {k: more.pop(k) for k in ("callbacks", "peft_config", "optimizers") if k in more}
    policy = with_lora(tiny_gpt2()) if policy is None else policy
    tokenizer = tokenizer or tiny_tokenizer()
    tokenizer.padding_side = "left"
    critic = classifier(policy, 5) if value_model is None and cls is TRLTrainer else value_model
    made: Any = cls(
        PPOConfig(**{"output_dir": str(output_dir), **SETTINGS, **more}),
        tokenizer,
        policy,
        ref_model,
        reward_model or classifier(policy),
        train_dataset or Dataset.from_dict({"input_ids": DATA}),
        critic,  # pyright: ignore[reportArgumentType] - None where ours makes its own
        eval_dataset=eval_dataset or Dataset.from_dict({"input_ids": PROMPTS}),
        **other,
    )
    made.log = lambda logs, *_: made.state.log_history.append(logs)
    return made


def steps_per_update(cls: type[TRLTrainer], tmp_path: Path, **more: Any) -> list[int]:
    """Optimiser steps, not calls of a wrapper that may leave them out, in every update."""
    counts, now = list[int](), list[int]()

    class Count(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            counts.append(len(now))
            now.clear()

    made = build(cls, tmp_path, callbacks=[Count()], **more)
    optimiser(made).register_step_post_hook(lambda *_: now.append(1))
    made.train()
    return counts


def rollouts(made: PPOTrainer) -> list[tuple[Rollout, torch.Tensor]]:
    """Every rollout of ours with its final scores, once it has trained."""
    seen: list[tuple[Rollout, torch.Tensor]] = []
    made.on_rollout = lambda update, indices, rollout, score: (seen.append((rollout, score)), {})[1]
    return seen


ACCUMULATING: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}


# -------------------- 1 to 3: how many optimiser steps an update has


@pytest.mark.differs(
    "steps",
    "With gradient accumulation, TRL makes one optimiser step of an epoch, however many minibatches "
    "`num_mini_batches` asks for. Here each minibatch is a step.",
)
def test_minibatches_are_optimiser_steps(tmp_path: Path):
    def first(cls: type[TRLTrainer], count: int) -> int:
        return steps_per_update(cls, tmp_path, num_mini_batches=count, **ACCUMULATING)[0]

    assert [first(TRLTrainer, n) for n in (1, 4)] == [1, 1]
    # Mutation caught: order.split(args.batch_size) in optimise.
    assert [first(PPOTrainer, n) for n in (1, 2, 4)] == [1, 2, 4]


@pytest.mark.differs(
    "steps",
    "At the end of the data TRL makes a step of every micro-batch. Here an update has as many steps as any other.",
)
def test_the_end_of_the_data_forces_no_step(tmp_path: Path):
    more = {**ACCUMULATING, "total_episodes": len(DATA)}
    assert steps_per_update(TRLTrainer, tmp_path, **more) == [1, 1, 4]
    # Mutation caught: optimizer.step inside the loop over micro-batches.
    assert steps_per_update(PPOTrainer, tmp_path, **more) == [1, 1, 1]


@pytest.mark.differs(
    "steps",
    "With `num_sample_generations`, TRL makes a step of every micro-batch in the update after samples "
    "were shown. Here showing them changes nothing.",
)
def test_sample_generations_leave_training_alone(tmp_path: Path):
    more: dict[str, Any] = {
        **ACCUMULATING,
        "total_episodes": 16,
        "num_sample_generations": 1,
        "per_device_eval_batch_size": 8,
    }
    # TRL leaves its evaluation loader at its end, and Accelerate takes every micro-batch after it for the last.
    assert steps_per_update(TRLTrainer, tmp_path, **more) == [1, 4]
    assert steps_per_update(PPOTrainer, tmp_path, **more) == [1, 1]


# -------------------- 4 to 6: settings that do nothing


def gradients(made: Any) -> list[torch.Tensor]:
    """The whole gradient at every optimiser step, once it has trained."""
    seen: list[torch.Tensor] = []

    def record(optimizer: Any, *_: Any) -> None:
        grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        seen.append(torch.cat([g.flatten().clone() for g in grads]))

    optimiser(made).register_step_pre_hook(record)
    return seen


@pytest.mark.differs(
    "settings", "TRL ignores `max_grad_norm`. Here the gradient is clipped, and the norm before is logged."
)
@BOTH
def test_the_gradient_is_clipped(cls: type[TRLTrainer], tmp_path: Path):
    made = build(cls, tmp_path, max_grad_norm=1e-3)
    seen = gradients(made)
    made.train()
    norm = seen[0].norm().item()
    if cls is TRLTrainer:
        assert norm > 0.1
    else:
        assert norm == pytest.approx(1e-3, rel=1e-3)
        # Mutation caught: clip_grad_norm_ with no bound. The norm that is logged is the one before.
        assert made.state.log_history[-1]["policy/grad_norm"] > 0.1


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.mark.differs(
    "settings",
    "TRL shuffles minibatches by NumPy's global generator, so that a `seed` does not fix a run. Here it "
    "does, whatever state the process's generators are in.",
)
def test_the_seed_is_the_run(tmp_path: Path):
    def run(cls: type[TRLTrainer], outside: int) -> dict[str, torch.Tensor]:
        policy = with_lora(tiny_gpt2())
        given = {"reward_model": classifier(policy), "value_model": classifier(policy, 5)}
        seed_everything(outside)
        made = build(cls, tmp_path, policy, **given, num_mini_batches=4, total_episodes=16, seed=3)
        if cls is PPOTrainer:  # it draws from no generator of the process, in training either
            seed_everything(outside)
        made.train()
        return trained(made)

    def same(cls: type[TRLTrainer]) -> bool:
        one, two = run(cls, 0), run(cls, 1)
        return all(torch.equal(one[n], two[n]) for n in one)

    # TRL shuffles minibatches by NumPy's generator, in whatever state the process has it.
    assert not same(TRLTrainer)
    # Mutation caught: torch.randperm in optimise without its generator.
    assert same(PPOTrainer)


def saved_for_backward(made: Any) -> int:
    """Bytes that autograd keeps for the way back in one update, blocks that checkpoint left out."""
    kept = [0]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[0] += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made.train()
    return kept[0]


@pytest.mark.differs(
    "settings",
    "With TRL `gradient_checkpointing` keeps as many bytes for the backward pass as without. Here fewer "
    "than a third.",
)
def test_gradient_checkpointing_saves_memory(tmp_path: Path):
    def kept(cls: type[TRLTrainer], on: bool) -> int:
        return saved_for_backward(build(cls, tmp_path, gradient_checkpointing=on))

    assert kept(TRLTrainer, True) == kept(TRLTrainer, False)
    # Mutation caught: _checkpointing left out, as blocks checkpoint in training mode only.
    assert kept(PPOTrainer, True) < 0.3 * kept(PPOTrainer, False)


def computed_in(made: Any) -> set[torch.dtype]:
    """What the first block's states are made of in one run."""
    seen = set[torch.dtype]()
    block = made.accelerator.unwrap_model(made.model).policy.get_base_model().transformer.h[0]
    block.register_forward_hook(lambda _, __, out: seen.add((out[0] if isinstance(out, tuple) else out).dtype))
    made.train()
    return seen


@pytest.mark.differs(
    "settings",
    "With `bf16`, TRL computes in fp32 on a CPU. Here the base computes in bf16, and LoRA stays in fp32.",
)
def test_bf16_is_heeded(tmp_path: Path):
    assert computed_in(build(TRLTrainer, tmp_path, bf16=True)) == {torch.float32}

    tiny_gpt2().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    asked = PPOSection(output_dir=str(tmp_path), bf16=True, use_cpu=True, gradient_checkpointing=False)
    run: Any = SimpleNamespace(base=(str(tmp_path / "base"), None), inputs={})
    policy, _ = load_model(run, asked)
    # Mutation caught: the base loaded in fp32 whatever bf16 says; LoRA in bf16, where small steps are lost.
    assert {p.dtype for n, p in policy.named_parameters() if "lora_" in n} == {torch.float32}
    assert computed_in(build(PPOTrainer, tmp_path, policy, bf16=True)) == {torch.bfloat16}


# -------------------- 8: going on later


@pytest.mark.differs(
    "missing",
    "TRL's `train` has no `resume_from_checkpoint`, its checkpoints leave the value model out, and a "
    "second `train` begins again. Here a run goes on from its checkpoint.",
)
def test_a_run_can_go_on(tmp_path: Path):
    assert "resume_from_checkpoint" not in inspect.signature(TRLTrainer.train).parameters
    theirs = build(TRLTrainer, tmp_path / "theirs", save_strategy="steps", save_steps=1)
    theirs.train()
    files = [load_file(f) for f in (tmp_path / "theirs" / "checkpoint-1").rglob("*.safetensors")]
    assert files
    assert not any("score" in name or "value" in name for tensors in files for name in tensors)
    theirs.train()
    assert theirs.state.global_step == 1  # of two: it begins again

    ours = build(PPOTrainer, tmp_path / "ours")
    ours.checkpoints = Checkpoints(tmp_path / "ours")
    ours.train()
    ours.save_checkpoint()
    state = load_file(tmp_path / "ours" / "checkpoint-1" / "state.safetensors")
    # Mutation caught: trained_parameters of wrapper.policy alone.
    assert torch.equal(state["parameters/value_model.linear.weight"], trained(ours)["value_model.linear.weight"])
    ours.train(tmp_path / "ours" / "checkpoint-1")
    assert ours.state.global_step == 1
    assert len(ours.state.log_history) == 1


# -------------------- 9 to 12: which tokens count, and for what


@pytest.mark.differs(
    "tokens",
    "Where padding is the end token, as with GPT-2, TRL masks every end, so that ending is never learnt. "
    "Here the end token counts, whatever pads.",
)
@pytest.mark.parametrize("pad_is_eos", [True, False])
def test_the_end_token_counts(pad_is_eos: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sampled = spy(monkeypatch, trl_ppo, "batch_generation")
    whitened = spy(monkeypatch, trl_ppo, "masked_whiten")
    theirs = build(TRLTrainer, tmp_path, ends_often(), tokenizer=tiny_tokenizer(pad_is_eos))
    theirs.train()
    responses = sampled[0][1][0][:, -TOKENS:]
    (_, mask), _ = whitened[-1]
    ends = responses == EOS
    assert ends.any()
    # With pad = eos no end is ever in a mask, so that ending is never learnt.
    assert (ends & mask).any() == (not pad_is_eos)

    ours = build(PPOTrainer, tmp_path, ends_often(), tokenizer=tiny_tokenizer(pad_is_eos))
    seen = rollouts(ours)
    ours.train()
    rollout = seen[0][0]
    # Mutation caught: lengths[rows[stop]] = t in the decode loop.
    assert ((rollout.completion_ids == EOS) & rollout.completion_mask).sum() == rollout.ended.sum() > 0


@pytest.mark.differs(
    "tokens",
    "TRL gives the score of a completion that ended to the position after its last token. Here to the last token.",
)
def test_the_score_lands_on_the_last_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    more: dict[str, Any] = {"kl_coef": 0.0, "whiten_rewards": True}
    sampled = spy(monkeypatch, trl_ppo, "batch_generation")
    whitened = spy(monkeypatch, trl_ppo, "masked_whiten")
    build(TRLTrainer, tmp_path, ends_often(), **more).train()
    responses, rewards = sampled[0][1][0][:, -TOKENS:], whitened[0][0][0]
    lengths = torch.tensor([row.index(EOS) + 1 if EOS in row else TOKENS for row in responses.tolist()])
    cut = lengths == TOKENS
    assert 0 < cut.sum() < 8
    where = rewards.nonzero()[:, 1]
    assert torch.equal(where[cut], lengths[cut] - 1)
    assert torch.equal(where[~cut], lengths[~cut])

    rewarded = spy(monkeypatch, our_ppo, "token_rewards")
    ours = build(PPOTrainer, tmp_path, ends_often(), **more)
    seen = rollouts(ours)
    ours.train()
    lengths = seen[0][0].lengths
    assert 0 < (lengths == TOKENS).sum() < 8
    # Mutation caught: last = completion_mask.sum(1) in token_rewards.
    assert torch.equal(rewarded[0][1].nonzero()[:, 1], lengths - 1)


@pytest.mark.differs(
    "tokens",
    "With a stop token other than the tokenizer's, TRL's `missing_eos_penalty` fines completions that "
    "ended as they should. Here only those that did not.",
)
def test_the_penalty_asks_for_the_stop_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    more: dict[str, Any] = {"stop_token": None, "stop_token_id": 7, "missing_eos_penalty": 2.0}
    indifferent = classifier(ends_often(7))
    torch.nn.init.zeros_(indifferent.score.weight)
    sampled = spy(monkeypatch, trl_ppo, "batch_generation")
    theirs = build(TRLTrainer, tmp_path, ends_often(7), reward_model=indifferent, **more)
    theirs.train()
    responses = sampled[0][1][0][:, -TOKENS:]
    assert (responses == 7).any()
    assert not (responses == EOS).any()
    # Fined are those that ended as they should, too.
    assert theirs.state.log_history[-1]["objective/scores"] == -2.0

    ours = build(PPOTrainer, tmp_path, ends_often(7), reward_model=indifferent, **more)
    seen = rollouts(ours)
    ours.train()
    rollout, score = seen[0]
    stopped = [row[-1] == 7 for row in rollout.completions()]
    assert 0 < sum(stopped) < 8
    # Mutation caught: the penalty where ids lack the tokenizer's eos.
    assert score.tolist() == [0.0 if s else -2.0 for s in stopped]


@pytest.mark.differs(
    "tokens",
    "TRL's gradient depends on how a batch is cut into micro-batches of unequal lengths (by more than 5 "
    "%). Here it does not (by less than 0.001 %).",
)
def test_the_loss_does_not_know_the_micro_batches(tmp_path: Path):
    def gradient(cls: type[TRLTrainer], rows: int) -> torch.Tensor:
        np.random.seed(0)
        made = build(
            cls, tmp_path, ends_often(), per_device_train_batch_size=rows, gradient_accumulation_steps=8 // rows
        )
        seen = gradients(made)
        made.train()
        assert len(seen) == 1
        return seen[0]

    def apart(cls: type[TRLTrainer]) -> float:
        whole, pieces = gradient(cls, 8), gradient(cls, 2)
        return ((whole - pieces).norm() / whole.norm()).item()

    assert apart(TRLTrainer) > 0.05
    # Mutation caught: tokens = part.completion_mask.sum() in minibatch_step.
    assert apart(PPOTrainer) < 1e-5


@pytest.mark.differs(
    "tokens",
    "At learning rate 0, with two minibatches, TRL logs a probability ratio of 0.5, as it averages cells "
    "that were never written. Here 1.",
)
@BOTH
def test_the_ratio_does_not_vary_at_learning_rate_zero(cls: type[TRLTrainer], tmp_path: Path):
    more = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_mini_batches": 2}
    made = build(cls, tmp_path, ends_often(), learning_rate=0.0, num_ppo_epochs=4, **more)
    before = trained(made)
    made.train()
    logged = made.state.log_history[-1]
    if cls is TRLTrainer:  # half of the cells it averages are never written
        assert logged["val/ratio"] == pytest.approx(0.5, abs=1e-6)
        assert logged["val/ratio_var"] == pytest.approx(4 / 15, abs=1e-6)
    else:
        assert logged["val/ratio"] == pytest.approx(1.0, abs=1e-6)
        assert logged["val/ratio_var"] == pytest.approx(0.0, abs=1e-12)
        assert logged["policy/approxkl_avg"] == pytest.approx(0.0, abs=1e-12)
        assert logged["policy/clipfrac_avg"] == logged["val/clipfrac_avg"] == 0.0
    assert all(torch.equal(p, before[n]) for n, p in trained(made).items())


# -------------------- 13 to 15: what it costs


class MostLogits(TorchDispatchMode):
    """The most positions whose logits, or anything as wide as the vocabulary, one tensor holds."""

    rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.shape[-1] == 53:
                self.rows = max(self.rows, leaf.numel() // 53)
        return out


@pytest.mark.differs(
    "cost",
    "TRL holds the logits of all positions of a batch in one tensor. Here no tensor holds those of more "
    "than a chunk.",
)
def test_no_tensor_holds_all_logits(tmp_path: Path):
    def most(cls: type[TRLTrainer]) -> int:
        made = build(cls, tmp_path, per_device_train_batch_size=24, response_length=8, stop_token=None)
        with MostLogits() as mode:
            made.train()
        return mode.rows

    positions = 24 * 8
    assert most(TRLTrainer) >= positions
    # Mutation caught: CHUNK too large to cut anything.
    assert most(PPOTrainer) <= CHUNK < positions


@pytest.mark.differs(
    "cost",
    "TRL trains a second full model for the values. Here the default is a linear head on the policy's states.",
)
def test_the_value_model_is_a_head(tmp_path: Path):
    def numbers(cls: type[TRLTrainer]) -> int:
        made = build(cls, tmp_path)
        return sum(p.numel() for g in optimiser(made).param_groups for p in g["params"] if p.requires_grad)

    lora = sum(p.numel() for n, p in with_lora(tiny_gpt2()).named_parameters() if "lora_" in n)
    assert numbers(TRLTrainer) == lora + sum(p.numel() for p in classifier(tiny_gpt2()).parameters())
    assert numbers(PPOTrainer) == lora + 32 + 1


@pytest.mark.differs("cost", "TRL collects garbage at least twice in an update. Here Python does when it wants.")
def test_the_garbage_is_left_to_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = spy(monkeypatch, gc, "collect")

    def collections(cls: type[TRLTrainer]) -> int:
        made = build(cls, tmp_path, total_episodes=16)
        calls.clear()
        made.train()
        return len(calls)

    assert collections(TRLTrainer) >= 2 * 2
    assert collections(PPOTrainer) == 0


# -------------------- 16 to 20: what is not there

ADDED_SETTINGS = {"kl_target", "kl_budget", "target_kl", "scale_score", "clip_score", "entropy_coef", "keep_best"}
ADDED_FIGURES = {
    "kl_coef",
    "policy/grad_norm",
    "val/explained_variance",
    "objective/kl_k3",
    "eos_rate",
    "length/mean",
}


@pytest.mark.differs(
    "missing",
    "TRL lacks `kl_target`, `kl_budget`, `target_kl`, `scale_score`, `clip_score`, `entropy_coef` and "
    "`keep_best`, and logs neither the gradient norm nor the explained variance nor the share of "
    "completions that end.",
)
def test_figures_and_settings_that_trl_lacks(tmp_path: Path):
    logged: dict[type[TRLTrainer], set[str]] = {}
    for cls in (TRLTrainer, PPOTrainer):
        made = build(cls, tmp_path)
        made.train()
        logged[cls] = set(made.state.log_history[-1])
    assert not ADDED_FIGURES & logged[TRLTrainer]
    assert logged[PPOTrainer] >= ADDED_FIGURES | logged[TRLTrainer]
    assert not ADDED_SETTINGS & set(PPOConfig.__dataclass_fields__)
    assert set(PPOSection.__dataclass_fields__) >= ADDED_SETTINGS | set(PPOConfig.__dataclass_fields__)


@pytest.mark.differs("missing", "TRL's PPO takes no Python function as a reward. Here one is as good as a model.")
def test_a_function_is_a_reward(tmp_path: Path):
    def length(samples: Samples) -> torch.Tensor:
        return torch.tensor([float(len(c)) for c in samples.completion_ids])

    with pytest.raises(AttributeError, match="function"):
        build(TRLTrainer, tmp_path, reward_model=length)
    ours = build(PPOTrainer, tmp_path, ends_often(), reward_model=length)
    seen = rollouts(ours)
    ours.train()
    assert torch.equal(seen[0][0].score, seen[0][0].lengths.float())


class Stop(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = True


@pytest.mark.differs(
    "missing", "TRL goes on after `max_steps`, and when a callback asks it to stop. Here the run ends."
)
@pytest.mark.parametrize("asked", [{"max_steps": 1}, {"callbacks": [Stop()]}], ids=["max_steps", "callback"])
def test_a_run_ends_when_it_should(asked: dict[str, Any], tmp_path: Path):
    def updates(cls: type[TRLTrainer]) -> int:
        made = build(cls, tmp_path, total_episodes=16, **asked)
        made.train()
        return made.state.global_step

    assert updates(TRLTrainer) == 2
    assert updates(PPOTrainer) == 1


@pytest.mark.differs(
    "missing",
    "With `eval_strategy: steps`, TRL logs no evaluation. Here held-out prompts are evaluated every `eval_steps`.",
)
@BOTH
def test_held_out_prompts_are_evaluated(cls: type[TRLTrainer], tmp_path: Path):
    made = build(cls, tmp_path, total_episodes=32, eval_strategy="steps", eval_steps=2)
    made.train()
    rows = [row.get("update", 0) for row in made.state.log_history if any(k.startswith("eval") for k in row)]
    # Mutation caught: an evaluation that was asked for once is made at every later update.
    assert rows == ([] if cls is TRLTrainer else [0, 2, 4])


@pytest.mark.differs("missing", "TRL wants prompts as token ids. Here they may be texts or conversations.")
@pytest.mark.parametrize(
    "prompt", ["w5 w6 w7", [{"role": "user", "content": "w5 w6"}, {"role": "assistant", "content": "w7"}]]
)
def test_prompts_are_texts_or_conversations(prompt: Any, tmp_path: Path):
    data = Dataset.from_dict({"prompt": [prompt] * 8})
    theirs = build(TRLTrainer, tmp_path, train_dataset=data)
    with pytest.raises(ValueError, match="input_ids"):
        theirs.train()

    given: list[Any] = []

    def reward(samples: Samples) -> torch.Tensor:
        given.extend(samples.as_given)
        return torch.zeros(len(samples))

    ours = build(PPOTrainer, tmp_path, train_dataset=data, reward_model=reward)
    ours.train()
    assert given == [prompt] * 8
    # The words of a conversation's frame are unknown to this tokenizer, so they are token 0.
    assert [t for t in ours.prompts.ids[0] if t] == [5, 6, 7]


@pytest.mark.differs(
    "missing",
    "TRL saves an adapter that does not name its base, in a subdirectory. Here it is at the top and names "
    "base and revision.",
)
def test_a_saved_adapter_knows_its_base(tmp_path: Path):
    theirs = build(TRLTrainer, tmp_path)
    theirs.save_model(str(tmp_path / "theirs"))
    found = next((tmp_path / "theirs").rglob("adapter_config.json"))
    assert json.loads(found.read_text())["base_model_name_or_path"] is None
    assert found.parent != tmp_path / "theirs", "not at the root, where the Hub looks for it"

    ours = build(PPOTrainer, tmp_path)
    policy, tokenizer = ours.accelerator.unwrap_model(ours.model).policy, ours.processing_class
    save_adapter(policy, "policy", tmp_path / "ours", base="org/base", revision="abc", tokenizer=tokenizer)
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", "abc")
