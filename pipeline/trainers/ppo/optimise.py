"""Optimise on one rollout: epochs, minibatches, the clipped losses (Schulman et al. 2017, arXiv:1707.06347).

A minibatch is one optimiser step. It is divided among the ranks and into micro-batches that fit the machine; its
loss is divided by the tokens of the whole step, so the division changes no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.base.errors import ModelError
from pipeline.base.records import digest
from pipeline.modeling.roles import output_embedding
from pipeline.modeling.weights import trained_parameters
from pipeline.results.metrics import Logged
from pipeline.trainers.ppo.inputs import adapter_parameters
from pipeline.trainers.ppo.metrics import training_metrics
from pipeline.trainers.ppo.policy_and_value import PolicyAndValue
from pipeline.trainers.ppo.rollout import Rollout
from pipeline.trainers.ppo.section import PPOSection


def optimise(
    model: nn.Module,
    optimizer: Optimizer,
    accelerator: Accelerator,
    rollout: Rollout,
    advantages: Tensor,
    returns: Tensor,
    args: PPOSection,
    update: int,
) -> list[dict[str, float]]:
    """Run several epochs over the rollout in shuffled minibatches, an optimiser step for each.

    Args:
        model: :class:`PolicyAndValue` as Accelerate prepared it.
        advantages, returns: (B, T).
        update: from 0; with the seed it decides the order of rows.
    Returns:
        The metrics of every step.
    """
    value_only = update < args.value_warmup_updates
    steps: list[dict[str, float]] = []
    for epoch in range(args.num_ppo_epochs):
        order = torch.randperm(len(rollout), generator=seeded_generator(args.seed, update, 2 + epoch))
        epoch_steps = [
            minibatch_step(model, optimizer, accelerator, rollout, advantages, returns, rows, args, value_only)
            for rows in order.split(cast("int", args.mini_batch_size))
        ]
        if not steps:
            check_same_logprobs(epoch_steps[0], output_embedding(accelerator.unwrap_model(model).policy).dtype)
        steps += epoch_steps
        if args.target_kl is not None and training_metrics(epoch_steps)[Logged.APPROX_KL] > args.target_kl:
            break
    return steps


def minibatch_step(
    model: nn.Module,
    optimizer: Optimizer,
    accelerator: Accelerator,
    rollout: Rollout,
    advantages: Tensor,
    returns: Tensor,
    rows: Tensor,
    args: PPOSection,
    value_only: bool = False,
) -> dict[str, float]:
    """Take one optimiser step on ``rows`` of all ranks; the loss is divided by the tokens of all of them."""
    tokens = rollout.completion_mask[rows].sum()
    ranks = accelerator.num_processes
    sums: dict[str, Tensor] = {}
    pieces = micro_batches(rollout, rows, args.per_device_train_batch_size, accelerator.process_index, ranks)
    for i, (micro, weight) in enumerate(pieces):
        part = rollout.take(micro)
        mask, width = part.completion_mask, part.width
        with nullcontext() if i == len(pieces) - 1 else accelerator.no_sync(model):
            logprobs, entropy, values = model(
                **part.columns(),
                temperature=args.temperature,
                entropy_grad=args.entropy_coef != 0.0,
                value_only=value_only,
            )
            pg, ratio, pg_clipped = policy_loss(
                logprobs, part.old_logprobs[mask], advantages[micro, :width][mask], args.cliprange
            )
            vf, vf_clipped = value_loss(
                values, part.old_values[mask], returns[micro, :width][mask], args.cliprange_value
            )
            policy_weight = 0.0 if value_only else 1.0
            loss = policy_weight * (pg.sum() - args.entropy_coef * entropy.sum()) + args.vf_coef * vf.sum()
            # DDP averages gradients over ranks; this makes it their sum.
            accelerator.backward(weight * ranks * loss / tokens)
        with torch.no_grad():
            change = logprobs - part.old_logprobs[mask]
            row = {"pg": pg, "vf": vf, "entropy": entropy, "pg_clipped": pg_clipped, "vf_clipped": vf_clipped}
            row |= {"approxkl": 0.5 * change**2, "ratio": ratio, "ratio2": ratio**2}
            sums = {k: sums.get(k, 0.0) + weight * v.detach().double().sum() for k, v in row.items()}
    trained = trained_parameters(accelerator.unwrap_model(model)).values()
    norm = accelerator.clip_grad_norm_(trained, args.max_grad_norm or float("inf"))
    with frozen_policy(optimizer) if value_only else nullcontext():
        optimizer.step()
    optimizer.zero_grad()
    totals = cast("Tensor", accelerator.reduce(torch.stack(list(sums.values())), "sum")) / tokens
    return dict(zip(sums, totals.tolist(), strict=True)) | {"grad_norm": float(cast("Tensor", norm))}


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, cliprange: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Per-token clipped surrogate, the ratio, and whether the clip was active (all of the inputs' shape)."""
    ratio = torch.exp(logprobs - old_logprobs)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - cliprange, 1.0 + cliprange)
    return torch.maximum(plain, clipped), ratio, clipped > plain


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, cliprange_value: float
) -> tuple[Tensor, Tensor]:
    """Half the per-token clipped squared error, and whether the clip was active."""
    bounded = old_values + (values - old_values).clamp(-cliprange_value, cliprange_value)
    plain, clipped = (values - returns) ** 2, (bounded - returns) ** 2
    return 0.5 * torch.maximum(plain, clipped), clipped > plain


def micro_batches(rollout: Rollout, rows: Tensor, size: int, rank: int, ranks: int) -> list[tuple[Tensor, float]]:
    """This rank's share of a minibatch in pieces of up to ``size`` rows of similar length, with weights.

    Every rank gets the same number of pieces, or ranks would wait for each other for ever: without rows left, a
    piece of one row has the weight 0 instead of 1.
    """
    rows = rows[(rollout.prompt_lengths + rollout.lengths).cpu()[rows].argsort(stable=True)]
    count = math.ceil(math.ceil(len(rows) / ranks) / size)
    own_rows = rows[rank::ranks].split(size) if len(rows) else ()
    pieces = [(piece, 1.0) for piece in own_rows if len(piece)]
    return pieces + [(rows[:1], 0.0)] * (count - len(pieces))


def check_same_logprobs(first: dict[str, float], dtype: torch.dtype) -> None:
    """Check that the ratio of the first minibatch, under the policy that sampled, is 1 up to rounding.

    Raises:
        ModelError: it is not: sampling and training differ, and every gradient would be wrong.
    """
    if not first["approxkl"] < (1e-5 if dtype == torch.float32 else 5e-3):
        raise ModelError(
            "ppo",
            f"sampling and training give other log-probabilities: approxkl {first['approxkl']:.2g} and ratio "
            f"{first['ratio']:.4f} before the first step.",
            "Set ppo.rescore: true; if it is, this model is not supported.",
        )


@contextmanager
def frozen_policy(optimizer: Optimizer) -> Iterator[None]:
    """Set the policy's learning rate to 0 for an optimiser step."""
    group = optimizer.param_groups[0]
    rate, group["lr"] = group["lr"], 0.0
    try:
        yield
    finally:
        group["lr"] = rate


def build_optimizer(wrapper: PolicyAndValue, args: PPOSection) -> Optimizer:
    """AdamW with the value model in a group of its own: a new linear head needs larger steps than LoRA."""
    policy = [p for p in wrapper.policy.parameters() if p.requires_grad]
    value = list(wrapper.value_model.parameters())
    if wrapper.value_model.adapter is not None:
        value_lora = adapter_parameters(wrapper.policy, wrapper.value_model.adapter)
        ids = {id(p) for p in value_lora}
        value += [p for p in policy if id(p) in ids]
        policy = [p for p in policy if id(p) not in ids]
    value_rate = args.value_learning_rate
    if value_rate is None:
        value_rate = args.learning_rate * (10 if wrapper.value_model.shares_states else 1)
    return torch.optim.AdamW(
        [
            {"params": policy, "lr": args.learning_rate, "weight_decay": args.weight_decay},
            {"params": value, "lr": value_rate, "weight_decay": 0.0},
        ],
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
    )


def seeded_generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by ``numbers``, so a resumed run draws the same numbers."""
    return torch.Generator().manual_seed(int(digest(list(numbers))[:15], 16))
