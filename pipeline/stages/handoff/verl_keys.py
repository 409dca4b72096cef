"""What becomes of each key of ``ppo`` in verl, and which values verl would silently train something else with.

Read in the sources of verl 0.9.1 (``trainer/config``, ``trainer/ppo/core_algos.py``, ``trainer/ppo/v1``,
``workers/utils/losses.py``, ``workers/engine/fsdp``). Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.base.errors import ConfigError
from pipeline.workflow.reward_sources import parse_sources
from pipeline.workflow.sections.ppo import PPOKeys

VERL = "0.9.1"
"""The version whose sources the table is of."""

Verdict = Literal["same", "reinterpreted", "no counterpart"]

OFF = 1e9
"""A bound that nothing reaches, where verl has no way to leave one out."""


@dataclass(frozen=True)
class Counterpart:
    """What verl has for some keys.

    Attributes:
        theirs: verl's keys; empty where it has none.
        note: what they mean there.
        neutral: values that ask for nothing which verl lacks. Other values are refused; None refuses none.
        instead: what is done where a refused value is accepted; empty where it cannot be.
    """

    keys: tuple[str, ...]
    verdict: Verdict
    theirs: str
    note: str
    neutral: tuple[Any, ...] | None = None
    instead: str = ""

    def refuses(self, value: object) -> bool:
        """Whether verl would do something else than this value asks for."""
        return self.neutral is not None and not any(
            value == quiet and isinstance(value, bool) == isinstance(quiet, bool) for quiet in self.neutral
        )


def _same(theirs: str, *keys: str, note: str = "") -> Counterpart:
    return Counterpart(keys, "same", theirs, note)


def _other(
    theirs: str, note: str, *keys: str, neutral: tuple[Any, ...] | None = None, instead: str = ""
) -> Counterpart:
    return Counterpart(keys, "reinterpreted", theirs, note, neutral, instead)


def _none(note: str, *keys: str, neutral: tuple[Any, ...] | None = None, instead: str = "") -> Counterpart:
    return Counterpart(keys, "no counterpart", "", note, neutral, instead)


ACTOR, CRITIC = "actor_rollout_ref.actor", "critic"
_NOBODY_ENDS_IT = "nothing ends a run or chooses among its policies"

TABLE: tuple[Counterpart, ...] = (
    # what is maximised
    _same("algorithm.gamma", "gamma"),
    _same("algorithm.lam", "lam"),
    _same(
        "algorithm.kl_ctrl.kl_coef, algorithm.use_kl_in_reward: true", "kl_coef",
        note="verl leaves the penalty out by default; without the adapter the actor is the reference",
    ),
    _other(
        "algorithm.kl_penalty", "`k1` is `kl`; `k3` is `low_var_kl`, there bounded at 10 a token", "kl_estimator",
    ),
    _none(
        "its adaptive factor goes by the KL a token, not a completion", "kl_target",
        neutral=(None,), instead="kl_coef stays as it is",
    ),
    _none("of `kl_target`", "kl_horizon"),
    _other(
        "reward.reward_model.model_path",
        "the experiment's own reward model, merged; a list, a function or another model is refused",
        "reward", neutral=(None, "adapter"),
    ),
    _none("of several rewards", "reward_combine", neutral=("sum",)),
    _none("of several rewards", "reward_std_coef"),
    _none("scores are used as they come", "scale_score", neutral=(None,), instead="scores are not scaled"),
    _none("scores are used as they come", "clip_score", neutral=(None,), instead="scores have no bound"),
    _none(
        "a completion that the limit cut is scored as any other", "missing_eos_penalty",
        neutral=(None, 0.0), instead="nothing is taken off",
    ),
    _none("rewards are used as they come", "whiten_rewards", neutral=(False,), instead="they are not"),
    _same(f"{ACTOR}.entropy_coeff", "entropy_coef"),
    # the policy's step
    _same(
        f"{ACTOR}.clip_ratio, clip_ratio_low, clip_ratio_high, clip_ratio_c", "cliprange",
        note="all four are written: alone, the first changes nothing, the fourth is a bound of verl's own",
    ),
    _same(f"{ACTOR}.ppo_epochs, {CRITIC}.ppo_epochs", "num_ppo_epochs"),
    _other(
        f"{ACTOR}.ppo_mini_batch_size, {CRITIC}.ppo_mini_batch_size",
        "in prompts: the batch over `num_mini_batches` and `num_generations`; `shuffle: true`, as here",
        "num_mini_batches",
    ),
    _other(
        f"data.train_batch_size, {ACTOR}.ppo_micro_batch_size_per_gpu",
        "the batch in prompts, over all GPUs; a micro-batch has `per_device_train_batch_size` completions",
        "per_device_train_batch_size", "gradient_accumulation_steps",
    ),
    _none(
        "all epochs are made, however far the policy has moved", "target_kl",
        neutral=(None,), instead="epochs are not cut short",
    ),
    _other(
        "algorithm.rollout_correction.bypass_mode: false",
        "old log-probabilities are always measured again, as by `rescore: true`", "rescore",
    ),
    # values
    _other(
        f"{CRITIC}.model",
        "a whole critic of its own over the base, with a new head: verl's LoRA on one fails with transformers 5",
        "value_model",
    ),
    _other(
        f"{CRITIC}.optim.lr",
        "of `model`; else verl's own 1e-5, as the rate of a head or of LoRA is none for a whole model",
        "value_learning_rate",
    ),
    _other(
        f"{CRITIC}.optim",
        "the critic has an optimiser of its own, whose steps do not depend on the weight; 0 is refused", "vf_coef",
    ),
    _same(f"{CRITIC}.cliprange_value", "cliprange_value"),
    _same("trainer.critic_warmup", "value_warmup_updates", note="one more: verl counts updates from 1"),
    # sampling
    _same("actor_rollout_ref.rollout.temperature", "temperature", note="`top_p: 1`, `top_k: -1`"),
    _same("data.max_response_length", "response_length"),
    _same("actor_rollout_ref.rollout.n", "num_generations"),
    _other("actor_rollout_ref.rollout.ignore_eos", "true where it is null", "stop_token"),
    _none("completions end with the tokenizer's own token", "stop_token_id", neutral=(None,)),
    # how long, how fast
    _same(f"{ACTOR}.optim.lr", "learning_rate"),
    _other(
        f"{ACTOR}.optim.lr_scheduler_type", "`constant` and `cosine` alone, and our default is `linear`",
        "lr_scheduler_type", neutral=("constant", "constant_with_warmup", "cosine"), instead="it is constant",
    ),
    _none("", "lr_scheduler_kwargs", neutral=(None, {}), instead="the schedule has no further settings"),
    _same(
        f"{ACTOR}.optim.lr_warmup_steps", "warmup_steps",
        note="below 1 `lr_warmup_steps_ratio`; in updates, as here",
    ),
    _other(
        "trainer.total_training_steps", "updates: episodes over the batch, passes over prompts, or `max_steps`",
        "total_episodes", "num_train_epochs", "max_steps",
    ),
    _same(f"{ACTOR}.optim.weight_decay", "weight_decay", note="verl's default is 0.01"),
    _same(f"{ACTOR}.optim.betas", "adam_beta1", "adam_beta2"),
    _same(f"{ACTOR}.optim.override_optimizer_config.eps", "adam_epsilon", note="verl's default is torch's, 1e-8"),
    _same(
        f"{ACTOR}.grad_clip, {CRITIC}.grad_clip", "max_grad_norm",
        note="0 is written as a bound that nothing reaches",
    ),
    _other(
        f"{ACTOR}.fsdp_config.mixed_precision",
        "null is bfloat16, verl's default; `false` is float32; verl's key `dtype` changes nothing", "bf16",
    ),
    _same("actor_rollout_ref.model.enable_gradient_checkpointing", "gradient_checkpointing"),
    _other("data.seed", "the order of prompts; no completion is the same as here", "seed"),
    # the adapter
    _same(
        "actor_rollout_ref.model.lora_adapter_path, lora_rank", "lora_r", "lora_alpha",
        "lora_target_modules", "trunk_layers",
        note="the adapter's own; the rank is written too: without it verl leaves the adapter out",
    ),
    _none("a whole policy has no reference beside it", "use_peft", neutral=(True,)),
    _none("of `inputs.start`: the KL is measured to the base", "reference", neutral=("base",)),
    # what watches the run
    _none(_NOBODY_ENDS_IT, "kl_budget", neutral=(None,), instead="watch actor/reward_kl_penalty"),
    _none(_NOBODY_ENDS_IT, "diversity_floor", neutral=(None,), instead="read the completions"),
    _none(_NOBODY_ENDS_IT, "keep_best", neutral=(False,), instead="the last policy is the result"),
    _none(_NOBODY_ENDS_IT, "fall_patience", neutral=(0,), instead="watch the completions"),
    _none(
        "verl has its own", "check", "eval_prompts", "eval_steps", "eval_delay", "num_sample_generations",
        "save_seconds", "save_strategy", "save_steps", "save_total_limit", "report_to", "run_name", "project",
        "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "disable_tqdm",
    ),
    _none(
        "of this program's speed", "local_rollout_forward_batch_size", "cuda_graph_decoding",
        "gradient_checkpointing_kwargs", "tf32", "use_cpu", "ddp_backend", "ddp_timeout",
    ),
)  # fmt: skip
"""Every key of ``ppo`` that has an effect."""


@dataclass(frozen=True)
class Refusal:
    """A value that verl has nothing for."""

    key: str
    value: Any
    counterpart: Counterpart

    def __str__(self) -> str:
        return f"ppo.{self.key} = {self.value!r} ({self.counterpart.note or 'verl has no such key'})"


def refusals(args: PPOKeys, started: bool) -> Iterator[Refusal]:
    """The values that would train something else.

    Args:
        started: whether the run began with another adapter, to which its KL may be measured.
    """
    for counterpart in TABLE:
        for key in counterpart.keys:
            value = getattr(args, key)
            if key == "reference" and not started:
                continue  # then it is the base
            if key == "reward" and value is not None:
                sources = parse_sources(value, "ppo.reward", "ppo.reward")
                plain = len(sources) == 1 and sources[0].kind == "adapter" and sources[0].weight in (None, 1.0)
                value = None if plain else value
            if counterpart.refuses(value) or (key == "vf_coef" and value == 0):
                yield Refusal(key, value, counterpart)


def check(args: PPOKeys, started: bool, accepted: Iterable[str], where: str) -> list[Refusal]:
    """What is given up, each accepted by name.

    Raises:
        ConfigError: a value is not accepted, cannot be, or is accepted without need.
    """
    found = list(refusals(args, started))
    accepted = list(accepted)
    for refusal in found:
        if not refusal.counterpart.instead:
            raise ConfigError(where, f"verl cannot train this run: {refusal}.", "Change it, and run ppo again.")
    missing = [r for r in found if r.key not in accepted]
    if missing:
        lost = "; ".join(f"{r}, then {r.counterpart.instead}" for r in missing)
        mend = f"To train without: --accept {','.join(r.key for r in found)}"
        raise ConfigError(where, f"verl would train something else: {lost}.", mend)
    for key in accepted:
        if key not in {r.key for r in found}:
            raise ConfigError("--accept", f"{key}: nothing of it is refused.", "Leave it out.")
    return found


def key_table() -> str:
    """The table of keys, in Markdown."""
    rows = ["| ppo | verl | verdict | |", "|---|---|---|---|"]
    for entry in TABLE:
        ours = ", ".join(f"`{key}`" for key in entry.keys)
        theirs = ", ".join(f"`{key}`" for key in entry.theirs.split(", ")) if entry.theirs else "–"
        refused = ""
        if entry.neutral is not None:
            quiet = ", ".join(f"`{json.dumps(value)}`" for value in entry.neutral)
            refused = f"other than {quiet}: refused" + (f"; accepted: {entry.instead}" if entry.instead else "")
        note = "; ".join(part for part in (entry.note, refused) if part)
        rows.append(f"| {ours} | {theirs} | {entry.verdict} | {note} |")
    return "\n".join(rows)
