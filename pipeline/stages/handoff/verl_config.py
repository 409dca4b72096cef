"""The configuration of verl that trains on what ``export-verl`` writes, from the settings of a PPO run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.json_values import JsonObject
from pipeline.stages.handoff.verl_keys import OFF
from pipeline.workflow.sections.ppo import PPOKeys

HERE = "${handoff}"
"""The directory, which the configuration names once."""
CRITIC_RATE = 1e-5
"""verl's own learning rate of a critic. Of LoRA or a head it would be far too high a one for a whole model."""


@dataclass(frozen=True)
class Handed:
    """What of a run is not in its settings.

    Attributes:
        directory: where it is written.
        prompts: how many train.
        longest: the most tokens of a prompt.
        completion: the most tokens of a completion.
        lora: rank, alpha and target modules of the adapter.
    """

    name: str
    directory: str
    prompts: int
    longest: int
    completion: int
    lora: tuple[int, int, list[str]]


def updates(args: PPOKeys, prompts: int) -> int:
    """The updates of a run: episodes over the batch, or ``max_steps`` if that is less."""
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    episodes = args.total_episodes or int(args.num_train_epochs * prompts)
    count = math.ceil(episodes / rows)
    return min(count, args.max_steps) if args.max_steps > 0 else count


def verl_config(args: PPOKeys, handed: Handed) -> JsonObject:
    """The configuration, beside the defaults of verl's ``ppo_trainer``.

    Raises:
        ConfigError: a minibatch has no whole number of prompts.
    """
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    batch, mini = rows // args.num_generations, rows // args.num_mini_batches // args.num_generations
    if mini * args.num_mini_batches * args.num_generations != rows:
        what = f"a minibatch of {rows // args.num_mini_batches} rows has no whole number of prompts."
        raise ConfigError(
            "ppo.num_mini_batches", what, "verl counts minibatches in prompts: lower num_generations."
        )
    steps, micro = updates(args, handed.prompts), args.per_device_train_batch_size
    reward = {"name": "vllm", "tensor_model_parallel_size": 1, "dtype": _dtype(args)}
    return {
        "hydra": {"searchpath": ["pkg://verl.trainer.config"], "run": {"dir": "."}, "output_subdir": None},
        "defaults": ["ppo_trainer", "_self_"],
        "handoff": handed.directory,
        "data": _data(args, handed, batch),
        "actor_rollout_ref": {
            "model": _policy(args, handed),
            "actor": _actor(args, mini, micro, steps),
            "rollout": _rollout(args, micro),
            "ref": {"log_prob_micro_batch_size_per_gpu": micro},
        },
        "critic": _critic(args, mini, micro, steps),
        "reward": {"reward_model": {"enable": True, "model_path": f"{HERE}/reward", "rollout": reward}},
        "algorithm": {
            "adv_estimator": "gae",
            "gamma": args.gamma,
            "lam": args.lam,
            "use_kl_in_reward": True,
            "kl_penalty": {"k1": "kl", "k3": "low_var_kl"}[args.kl_estimator],
            "kl_ctrl": {"type": "fixed", "kl_coef": args.kl_coef},
            "rollout_correction": {"bypass_mode": False},
        },
        "trainer": _trainer(args, handed, steps, batch),
    }


def _trainer(args: PPOKeys, handed: Handed, steps: int, batch: int) -> JsonObject:
    return {
        "n_gpus_per_node": 1,
        "nnodes": 1,
        "total_training_steps": steps,
        "total_epochs": max(1, math.ceil(steps * batch / handed.prompts)),
        # verl counts updates from 1.
        "critic_warmup": args.value_warmup_updates + 1 if args.value_warmup_updates else 0,
        "val_before_train": False,
        "test_freq": -1,
        "save_freq": steps,
        "logger": ["console"],
        "project_name": "handoff",
        "experiment_name": handed.name,
    }


def _data(args: PPOKeys, handed: Handed, batch: int) -> JsonObject:
    return {
        "train_files": [f"{HERE}/prompts/train.parquet"],
        "val_files": [f"{HERE}/prompts/held_out.parquet"],
        "train_batch_size": batch,
        "max_prompt_length": handed.longest,
        "max_response_length": handed.completion,
        "truncation": "left",
        "shuffle": True,
        "seed": args.seed,
    }


def _policy(args: PPOKeys, handed: Handed) -> JsonObject:
    rank, alpha, targets = handed.lora
    return {
        **_model(args.gradient_checkpointing),
        "lora_adapter_path": f"{HERE}/policy",
        "lora_rank": rank,  # with 0 it would leave the adapter out
        "lora_alpha": alpha,
        "target_modules": targets,
        # vLLM takes LoRA of few architectures, and not GPT-2's; merged for sampling, any.
        "lora": {"merge": True},
    }


def _rollout(args: PPOKeys, micro: int) -> JsonObject:
    return {
        "name": "vllm",
        "temperature": args.temperature,
        "top_p": 1.0,
        "top_k": -1,
        "n": args.num_generations,
        "ignore_eos": args.stop_token is None,
        "seed": args.seed,
        "dtype": _dtype(args),
        "tensor_model_parallel_size": 1,
        "log_prob_micro_batch_size_per_gpu": micro,
    }


def _model(checkpointing: bool) -> JsonObject:
    return {
        "path": f"{HERE}/base",
        "enable_gradient_checkpointing": checkpointing,
        "use_remove_padding": False,
    }


def _actor(args: PPOKeys, mini: int, micro: int, steps: int) -> JsonObject:
    return {
        "ppo_mini_batch_size": mini,
        "ppo_micro_batch_size_per_gpu": micro,
        "ppo_epochs": args.num_ppo_epochs,
        "shuffle": True,
        "data_loader_seed": args.seed,
        # The first is read only where the next two are null, and the last bounds what no paper's PPO does.
        "clip_ratio": args.cliprange,
        "clip_ratio_low": args.cliprange,
        "clip_ratio_high": args.cliprange,
        "clip_ratio_c": OFF,
        "loss_agg_mode": "token-mean",
        "entropy_coeff": args.entropy_coef,
        "use_kl_loss": False,
        "grad_clip": args.max_grad_norm or OFF,
        "optim": _optimiser(args, args.learning_rate, args.weight_decay, steps),
        "fsdp_config": _precision(args),
    }


def _critic(args: PPOKeys, mini: int, micro: int, steps: int) -> JsonObject:
    rate = CRITIC_RATE
    if args.value_model == "model":
        rate = args.learning_rate if args.value_learning_rate is None else args.value_learning_rate
    return {
        "enable": True,
        "model": {**_model(args.gradient_checkpointing), "lora_rank": 0},
        "ppo_mini_batch_size": mini,
        "ppo_micro_batch_size_per_gpu": micro,
        "forward_micro_batch_size_per_gpu": micro,
        "ppo_epochs": args.num_ppo_epochs,
        "shuffle": True,
        "data_loader_seed": args.seed,
        "cliprange_value": args.cliprange_value,
        "grad_clip": args.max_grad_norm or OFF,
        "optim": _optimiser(args, rate, 0.0, steps),
        "fsdp": _precision(args),
    }


def _optimiser(args: PPOKeys, rate: float, decay: float, steps: int) -> JsonObject:
    warmup: dict[str, Any] = {"lr_warmup_steps": int(args.warmup_steps)}
    if 0 < args.warmup_steps < 1:
        warmup = {"lr_warmup_steps": -1, "lr_warmup_steps_ratio": args.warmup_steps}
    return {
        "lr": rate,
        "weight_decay": decay,
        "betas": [args.adam_beta1, args.adam_beta2],
        "clip_grad": args.max_grad_norm or OFF,
        "lr_scheduler_type": "cosine" if args.lr_scheduler_type == "cosine" else "constant",
        **warmup,
        "override_optimizer_config": {"eps": args.adam_epsilon},
    }


def _precision(args: PPOKeys) -> JsonObject:
    """Of training; its engine reads ``mixed_precision``, not ``dtype``."""
    name = "fp32" if args.bf16 is False else "bf16"
    return {"mixed_precision": {"param_dtype": name, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}}


def _dtype(args: PPOKeys) -> str:
    return "float32" if args.bf16 is False else "bfloat16"
