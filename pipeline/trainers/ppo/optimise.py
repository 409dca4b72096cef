"""The optimisation of one update: epochs, minibatches, and the share that each rank and each pass takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from trl.experimental.ppo import PPOTrainer as TRLPPOTrainer

from pipeline.base.errors import ModelError
from pipeline.base.records import digest
from pipeline.functional.losses import policy_loss, value_loss
from pipeline.modeling.roles import output_embedding
from pipeline.trainers.ppo import state
from pipeline.trainers.ppo.inputs import adapter_parameters
from pipeline.trainers.ppo.metrics import training_metrics
from pipeline.trainers.ppo.rollout import Rollout


class Optimising(TRLPPOTrainer):
    """TRL's trainer with steps that are as many as its config says, over losses divided by real tokens."""

    def optimise(
        self, update: int, rollout: Rollout, advantages: Tensor, returns: Tensor
    ) -> list[dict[str, float]]:
        """Several epochs over the rollout in shuffled minibatches; one optimiser step for each."""
        args: Any = self.args
        value_only = update < args.value_warmup_updates
        steps: list[dict[str, float]] = []
        for epoch in range(args.num_ppo_epochs):
            order = torch.randperm(len(rollout), generator=generator_of(args.seed, update, 2 + epoch))
            epoch_steps = [
                self.minibatch_step(rollout, advantages, returns, rows, value_only)
                for rows in order.split(args.mini_batch_size)
            ]
            if not steps:
                self.require_same_logprobs(epoch_steps[0])
            steps += epoch_steps
            if (
                args.target_kl is not None
                and training_metrics(epoch_steps)["policy/approxkl_avg"] > args.target_kl
            ):
                break
        self.lr_scheduler.step()
        return steps

    def minibatch_step(
        self, rollout: Rollout, advantages: Tensor, returns: Tensor, rows: Tensor, value_only: bool = False
    ) -> dict[str, float]:
        """One optimiser step on ``rows`` of all ranks; the loss is divided by the tokens of all of them."""
        args: Any = self.args
        model: Any = self.model
        tokens = rollout.completion_mask[rows].sum()
        ranks = self.accelerator.num_processes
        sums: dict[str, Tensor] = {}
        micro_batches = self.micro_batches(rollout, rows)
        for i, (micro, counts) in enumerate(micro_batches):
            part = rollout.take(micro)
            mask, width = part.completion_mask, part.width
            last = i == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                logprobs, entropy, values = model(
                    part.input_ids,
                    part.prompt_lengths,
                    part.completion_ids,
                    mask,
                    part.trunk,
                    args.temperature,
                    args.entropy_coef != 0.0,
                    value_only,
                )
                pg, ratio, pg_clipped = policy_loss(
                    logprobs, part.old_logprobs[mask], advantages[micro, :width][mask], args.cliprange
                )
                vf, vf_clipped = value_loss(
                    values, part.old_values[mask], returns[micro, :width][mask], args.cliprange_value
                )
                policy_weight = 0.0 if value_only else 1.0
                loss = policy_weight * (pg.sum() - args.entropy_coef * entropy.sum()) + args.vf_coef * vf.sum()
                # Ranks average their gradients; what is wanted is the sum.
                self.accelerator.backward(counts * ranks * loss / tokens)
            with torch.no_grad():
                change = logprobs - part.old_logprobs[mask]
                row = {"pg": pg, "vf": vf, "entropy": entropy, "pg_clipped": pg_clipped, "vf_clipped": vf_clipped}
                row |= {"approxkl": 0.5 * change**2, "ratio": ratio, "ratio2": ratio**2}
                sums = {k: sums.get(k, 0.0) + counts * v.detach().double().sum() for k, v in row.items()}
        norm = self.accelerator.clip_grad_norm_(self.trained.values(), args.max_grad_norm or float("inf"))
        with self.frozen_policy() if value_only else nullcontext():
            self.optimizer.step()
        self.optimizer.zero_grad()
        totals = cast("Tensor", self.accelerator.reduce(torch.stack(list(sums.values())), "sum")) / tokens
        return dict(zip(sums, totals.tolist(), strict=True)) | {"grad_norm": float(cast("Tensor", norm))}

    def micro_batches(self, rollout: Rollout, rows: Tensor) -> list[tuple[Tensor, float]]:
        """This rank's share of a minibatch in pieces that fit the machine, rows of like length together.

        Every rank gets as many pieces, so that none waits for another for ever: where rows run out, one row stands
        in that counts 0 instead of 1.
        """
        args: Any = self.args
        ranks, size = self.accelerator.num_processes, args.per_device_train_batch_size
        rows = rows[(rollout.prompt_lengths + rollout.lengths).cpu()[rows].argsort(stable=True)]
        pieces = math.ceil(math.ceil(len(rows) / ranks) / size)
        mine = rows[self.accelerator.process_index :: ranks].split(size) if len(rows) else ()
        found = [(piece, 1.0) for piece in mine if len(piece)]
        return found + [(rows[:1], 0.0)] * (pieces - len(found))

    def require_same_logprobs(self, first: dict[str, float]) -> None:
        """The first minibatch sees the policy that sampled, so its ratio is 1 up to rounding.

        Raises:
            ModelError: it is not: the passes that sample and that train differ, and every gradient would be wrong.
        """
        fp32 = output_embedding(self.accelerator.unwrap_model(self.model).policy).dtype == torch.float32
        if not first["approxkl"] < (1e-5 if fp32 else 5e-3):
            raise ModelError(
                "ppo",
                f"sampling and training give other log-probabilities: approxkl {first['approxkl']:.2g} and ratio "
                f"{first['ratio']:.4f} before the first step.",
                "Set ppo.rescore: true; if it is, this model is not supported.",
            )

    @contextmanager
    def frozen_policy(self) -> Iterator[None]:
        """Take an optimiser step that leaves the policy where it is."""
        group = self.optimizer.param_groups[0]
        rate, group["lr"] = group["lr"], 0.0
        try:
            yield
        finally:
            group["lr"] = rate

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with the value model in a group of its own: a fresh linear head wants larger steps than LoRA."""
        del model
        args: Any = self.args
        wrapper: Any = self.model
        if self.optimizer is not None:
            return self.optimizer
        policy = [p for p in wrapper.policy.parameters() if p.requires_grad]
        head = list(wrapper.value_model.parameters())
        if wrapper.value_model.adapter is not None:
            own = {id(p) for p in adapter_parameters(wrapper.policy, wrapper.value_model.adapter)}
            head += [p for p in policy if id(p) in own]
            policy = [p for p in policy if id(p) not in own]
        head_rate = args.value_learning_rate
        if head_rate is None:
            head_rate = args.learning_rate * (10 if wrapper.value_model.shares_states else 1)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": policy, "lr": args.learning_rate, "weight_decay": args.weight_decay},
                {"params": head, "lr": head_rate, "weight_decay": 0.0},
            ],
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
        )
        return self.optimizer

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return state.trained_parameters(self.accelerator.unwrap_model(self.model))


def generator_of(*numbers: int) -> torch.Generator:
    """A CPU generator that is a function of ``numbers`` alone, so a step can be repeated from its position."""
    return torch.Generator().manual_seed(int(digest(list(numbers))[:15], 16))
