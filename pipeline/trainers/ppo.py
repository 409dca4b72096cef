"""PPO with LoRA roles on one base: TRL's PPOTrainer with its loop cut into named steps.

Kept from TRL 1.12: its config, constructor arithmetic, optimiser, scheduler, callbacks, state and logging keys.
Replaced: ``train()``, whose masks look for padding ids, whose score lands on padding and whose minibatches and
seeds do not do what they say. One process only; several ranks are left out here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
import trl.experimental.ppo.ppo_trainer as trl_ppo
from datasets import Dataset
from torch import Tensor, nn
from transformers import set_seed
from trl.experimental.ppo import PPOConfig
from trl.experimental.ppo import PPOTrainer as TRLPPOTrainer

from pipeline.core.records import digest
from pipeline.functional.advantages import gae, token_rewards, whiten
from pipeline.functional.kl import AdaptiveKL, kl_k1, kl_k3
from pipeline.functional.logprobs import selected_logprobs
from pipeline.functional.losses import explained_variance, policy_loss, value_loss
from pipeline.functional.masks import masked_mean, masked_var
from pipeline.modeling.roles import completion_states, output_embedding
from pipeline.trainers.common import LoraFields, show_progress
from pipeline.trainers.rollout import Rollout, Sampling, Scorer, collect_rollout

Monitor = Callable[[Rollout], dict[str, float]]
"""Figures to log beside the proxy score, such as the gold score; never trained on."""


@dataclass
class PPOSection(LoraFields, PPOConfig):
    """TRL's ``PPOConfig`` plus LoRA, an adaptive KL coefficient and the value head's own learning rate."""

    adam_epsilon: float = 1e-5
    max_grad_norm: float = 1.0
    stop_token: Literal["eos"] | None = field(default="eos", metadata={"help": "Token that ends a completion."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature."})
    response_length: int | None = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, metadata={"help": "Most tokens in a completion; the task's own by default."}
    )
    num_sample_generations: int = 0
    kl_target: float | None = field(default=None, metadata={"help": "Adapt kl_coef towards this KL (nats)."})
    kl_horizon: int = field(default=1000, metadata={"help": "Episodes over which kl_coef adapts."})
    value_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the value head; 10x by default."}
    )

    def __post_init__(self) -> None:
        if self.kl_target is not None and self.kl_target <= 0:
            raise ValueError(f"kl_target {self.kl_target} is not above 0")
        for key in ("num_ppo_epochs", "per_device_train_batch_size", "num_mini_batches"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} {getattr(self, key)} is below 1")
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if rows % self.num_mini_batches:
            raise ValueError(
                f"a batch of {rows} (per_device_train_batch_size {self.per_device_train_batch_size} x "
                f"gradient_accumulation_steps {self.gradient_accumulation_steps}) does not divide into "
                f"num_mini_batches {self.num_mini_batches}"
            )
        if (rows // self.num_mini_batches) % self.per_device_train_batch_size:
            raise ValueError(
                f"a minibatch of {rows // self.num_mini_batches} rows does not divide by "
                f"per_device_train_batch_size {self.per_device_train_batch_size}"
            )
        super().__post_init__()


class ValueHead(nn.Module):
    """The value model: one linear map of the policy's own states, zero at the start."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) to (...), fp32."""
        return self.linear(states.float()).squeeze(-1)


class PolicyAndValue(nn.Module):
    """All that needs a gradient, in one ``forward``, so that one wrapper sees all of it."""

    def __init__(self, policy: Any, value_model: ValueHead) -> None:
        super().__init__()
        self.policy, self.value_model = policy, value_model

    def forward(self, rollout: Rollout, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies (no gradient) and values, (N,) each, of the tokens that count."""
        mask = rollout.completion_mask
        states = completion_states(self.policy, rollout.input_ids, rollout.prompt_lengths, mask.shape[1])[mask]
        logprobs, entropy = selected_logprobs(
            states, output_embedding(self.policy), rollout.completion_ids[mask], temperature
        )
        return logprobs, entropy, self.value_model(states)


class PPOTrainer(TRLPPOTrainer):
    """PPO on a PEFT model whose adapter ``policy`` is trained; with every adapter off it is the reference.

    Args:
        args: the config section.
        tokenizer: of the base.
        model: a PEFT model with an adapter ``policy``.
        scorer: from prompt and completion ids to scores.
        prompt_ids: prompts to sample from, without replacement within a pass over them.
        monitor: figures to log with every update.
        on_rollout: called with the update, its prompts' indices, the rollout and its final scores.
    """

    def __init__(
        self,
        args: PPOSection,
        tokenizer: Any,
        model: Any,
        scorer: Scorer,
        prompt_ids: Sequence[Sequence[int]],
        monitor: Monitor | None = None,
        on_rollout: Callable[[int, list[int], Rollout, Tensor], None] | None = None,
        callbacks: list[Any] | None = None,
    ) -> None:
        set_seed(args.seed)
        self.scorer, self.prompt_ids, self.monitor, self.on_rollout = scorer, prompt_ids, monitor, on_rollout
        self.kl_controller = AdaptiveKL(args.kl_coef, args.kl_target, args.kl_horizon)
        with _wrapper_class(PolicyAndValue):
            super().__init__(
                args=args,
                processing_class=tokenizer,
                model=model,
                ref_model=None,
                reward_model=nn.Identity(),  # pyright: ignore[reportArgumentType] - the scorer takes its place
                value_model=ValueHead(output_embedding(model).shape[1]),  # pyright: ignore[reportArgumentType]
                train_dataset=Dataset.from_dict({"input_ids": [list(p) for p in prompt_ids]}),
                callbacks=callbacks,
            )
        show_progress(self)
        # Losses are already divided by the tokens of the whole step; Accelerate would divide once more.
        self.accelerator.gradient_accumulation_steps = 1
        self.sampling = Sampling(
            max_new_tokens=int(args.response_length or 0),
            temperature=args.temperature,
            stop_id=cast("int | None", self.stop_token_id),
            batch_size=args.local_rollout_forward_batch_size,
        )

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with the value head in a group of its own: a fresh linear head wants larger steps than LoRA."""
        del model
        args: Any = self.args
        wrapper: Any = self.model
        policy = [p for p in wrapper.policy.parameters() if p.requires_grad]
        value_lr = args.value_learning_rate or 10 * args.learning_rate
        self.optimizer = torch.optim.AdamW(
            [
                {"params": policy, "lr": args.learning_rate, "weight_decay": args.weight_decay},
                {"params": list(wrapper.value_model.parameters()), "lr": value_lr, "weight_decay": 0.0},
            ],
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
        )
        return self.optimizer

    def train(self) -> None:
        """Run every update; see :meth:`step` for one."""
        args: Any = self.args
        self.state.global_step, self.state.episode = 0, 0
        self.state.max_steps = args.num_total_batches
        self.state.num_train_epochs = args.total_episodes / self.train_dataset_len
        self.state.compute_steps(args, args.num_total_batches)
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        for update in range(args.num_total_batches):
            started = time.perf_counter()
            metrics = self.step(update)
            metrics["eps"] = args.batch_size / (time.perf_counter() - started)
            self.state.global_step = update + 1
            self.state.epoch = self.state.episode / self.train_dataset_len
            self.control = self.callback_handler.on_step_end(args, self.state, self.control)
            self.log(metrics)
            if self.control.should_training_stop:
                break
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    def step(self, update: int) -> dict[str, float]:
        """One update: sample, score, penalise, estimate advantages, optimise, measure."""
        args: Any = self.args
        wrapper: Any = self.accelerator.unwrap_model(self.model)
        indices = self.prompt_indices(update)
        rollout = collect_rollout(
            wrapper.policy,
            wrapper.value_model,
            self.scorer,
            [self.prompt_ids[i] for i in indices],
            self.sampling,
            _generator(args.seed, update),
        )
        mask = rollout.completion_mask
        score = self.final_score(rollout)
        kl = (kl_k1 if args.kl_estimator == "k1" else kl_k3)(rollout.old_logprobs, rollout.ref_logprobs) * mask
        rewards = token_rewards(score, kl, self.kl_controller.coef, mask)
        if args.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, returns = gae(rewards, rollout.old_values, mask, args.gamma, args.lam)
        losses = self.optimise(update, rollout, whiten(advantages, mask), returns)
        if self.on_rollout is not None:
            self.on_rollout(update, indices, rollout, score)
        metrics = self.measure(rollout, score, kl, returns, losses)
        self.kl_controller.update(metrics["objective/kl"], len(rollout))
        self.state.episode += len(rollout)
        return metrics

    def prompt_indices(self, update: int) -> list[int]:
        """Which prompts this update samples: a function of (seed, position) alone, a new shuffle every pass."""
        args: Any = self.args
        first, count = update * args.batch_size, len(self.prompt_ids)
        passes = range(first // count, (first + args.batch_size - 1) // count + 1)
        order = [i for p in passes for i in torch.randperm(count, generator=_generator(args.seed, p, 1)).tolist()]
        start = first - passes.start * count
        return order[start : start + args.batch_size]

    def final_score(self, rollout: Rollout) -> Tensor:
        """(B,) the score that enters the reward: less the penalty where the stop token never came."""
        args: Any = self.args
        if args.missing_eos_penalty is None or self.stop_token_id is None:
            return rollout.score
        return rollout.score - args.missing_eos_penalty * ~rollout.ended

    def optimise(
        self, update: int, rollout: Rollout, advantages: Tensor, returns: Tensor
    ) -> list[dict[str, float]]:
        """Several epochs over the rollout in shuffled minibatches; one optimiser step for each."""
        args: Any = self.args
        stats: list[dict[str, float]] = []
        for epoch in range(args.num_ppo_epochs):
            order = torch.randperm(len(rollout), generator=_generator(args.seed, update, 2 + epoch))
            for rows in order.split(args.local_mini_batch_size):
                stats.append(self.minibatch_step(rollout, advantages, returns, rows))
            self.lr_now = self.optimizer.param_groups[0]["lr"]
        self.lr_scheduler.step()
        return stats

    def minibatch_step(
        self, rollout: Rollout, advantages: Tensor, returns: Tensor, rows: Tensor
    ) -> dict[str, float]:
        """One optimiser step on ``rows``; the loss is divided by the tokens of all its micro-batches."""
        args: Any = self.args
        model: Any = self.model
        tokens = rollout.completion_mask[rows].sum()
        sums: dict[str, Tensor] = {}
        for micro in rows.split(args.per_device_train_batch_size):
            part = rollout.take(micro)
            mask, width = part.completion_mask, part.width
            logprobs, entropy, values = model(part, args.temperature)
            pg, ratio, pg_clipped = policy_loss(
                logprobs, part.old_logprobs[mask], advantages[micro, :width][mask], args.cliprange
            )
            vf, vf_clipped = value_loss(
                values, part.old_values[mask], returns[micro, :width][mask], args.cliprange_value
            )
            self.accelerator.backward((pg.sum() + args.vf_coef * vf.sum()) / tokens)
            with torch.no_grad():
                change = logprobs - part.old_logprobs[mask]
                row = {"pg": pg, "vf": vf, "entropy": entropy, "pg_clipped": pg_clipped, "vf_clipped": vf_clipped}
                row |= {"approxkl": 0.5 * change**2, "ratio": ratio, "ratio2": ratio**2}
                sums = {k: sums.get(k, torch.zeros((), device=v.device)) + v.sum() for k, v in row.items()}
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = self.accelerator.clip_grad_norm_(trained, args.max_grad_norm or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad()
        means = {k: (v / tokens).item() for k, v in sums.items()}
        return means | {"grad_norm": float(cast("Tensor", norm))}

    def measure(
        self, rollout: Rollout, score: Tensor, kl: Tensor, returns: Tensor, losses: list[dict[str, float]]
    ) -> dict[str, float]:
        """The update's figures, under TRL's names where it has one; token figures count real tokens only."""
        mask, lengths = rollout.completion_mask, rollout.completion_mask.sum(1).float()
        mean = {k: sum(row[k] for row in losses) / len(losses) for k in losses[0]}
        k1 = (kl_k1(rollout.old_logprobs, rollout.ref_logprobs) * mask).sum(1)
        k3 = (kl_k3(rollout.old_logprobs, rollout.ref_logprobs) * mask).sum(1)
        penalty = -self.kl_controller.coef * kl.sum(1).mean()
        figures = {
            "objective/kl": k1.mean(),
            "objective/kl_k3": k3.mean(),
            "objective/entropy": -(rollout.old_logprobs * mask).sum(1).mean(),
            "objective/non_score_reward": penalty,
            "objective/rlhf_reward": penalty + score.mean(),
            "objective/scores": rollout.score.mean(),
            "objective/scores_std": rollout.score.std(correction=0),
            "val/num_eos_tokens": rollout.ended.sum(),
            "val/explained_variance": explained_variance(rollout.old_values, returns, mask),
            "val/returns_mean": masked_mean(returns, mask),
            "val/returns_var": masked_var(returns, mask),
            "length/mean": lengths.mean(),
            "length/max": lengths.max(),
            "eos_rate": rollout.ended.float().mean(),
        }
        return {
            **{k: float(v) for k, v in figures.items()},
            "policy/approxkl_avg": mean["approxkl"],
            "policy/clipfrac_avg": mean["pg_clipped"],
            "policy/entropy_avg": mean["entropy"],
            "policy/grad_norm": mean["grad_norm"],
            "loss/policy_avg": mean["pg"],
            "loss/value_avg": mean["vf"],
            "val/clipfrac_avg": mean["vf_clipped"],
            "val/ratio": mean["ratio"],
            "val/ratio_var": max(mean["ratio2"] - mean["ratio"] ** 2, 0.0),
            "val/ratio_first": losses[0]["ratio"],
            "kl_coef": self.kl_controller.coef,
            "lr": self.lr_now,
            "update": self.state.global_step + 1,
            "episode": self.state.episode + len(rollout),
            **(self.monitor(rollout) if self.monitor is not None else {}),
        }


def _generator(*numbers: int) -> torch.Generator:
    """A CPU generator that is a function of ``numbers`` alone, so a step can be repeated from its position."""
    return torch.Generator().manual_seed(int(digest(list(numbers))[:15], 16))


@contextmanager
def _wrapper_class(cls: type[nn.Module]):
    """Have TRL's constructor prepare ``cls`` instead of its own wrapper, whose forward runs a second backbone."""
    original = trl_ppo.PolicyAndValueWrapper
    trl_ppo.PolicyAndValueWrapper = cls  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        trl_ppo.PolicyAndValueWrapper = original
