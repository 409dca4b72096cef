"""Keys of TRL's and transformers' arguments that have no effect in this pipeline, each with what to use instead.

The sections ``sft``, ``reward`` and ``ppo`` take TRL's own arguments. A key without effect would stand in the
manifest as if it had been used, so it is refused. A value that asks for nothing (push_to_hub: false) is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.json_values import dict_of


@dataclass(frozen=True)
class Idle:
    """A key without effect.

    Attributes:
        mend: what to do instead.
        asks_nothing: values that are accepted.
    """

    mend: str
    asks_nothing: tuple[Any, ...] = (None, False, 0, "", "no")


TRUE = (None, True)
"""The accepted values of a key that is on by default."""

_HUB = Idle("Upload a version's directory, which is a Hub repository: hf upload.")
_LAUNCH = Idle("Launch with accelerate's own file: LAUNCH='accelerate launch --config_file ...'.")
_AGAIN = Idle("Run the same command again: it continues from its newest checkpoint.")
_SAVING = Idle("Checkpoints are whole and only for continuing: save_seconds, save_steps and save_total_limit.")
_NO_METRICS = Idle("No function of metrics is called while it trains; evaluate and reward --evaluate measure.")
_STAGES = Idle("Run the stages: make sft, reward, ppo, evaluate.")
_COLUMNS = Idle("Rows are tokenised by the stage, whose columns are known; name yours in task_args.")
_TOKENS = Idle("Give a tokenizer that has it: the base's, or sft.tokenizer.")
_TEXTS = Idle("Texts are read by the task: task_args.dataset, text_column, corpus_column, chat_template.")
_SAFE = Idle("No code of a model repository is run, and weights are read in fp32; name a base that needs neither.")

EVERYWHERE: Mapping[str, Idle] = {
    "output_dir": Idle("Work is kept in data_dir; set that."),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_private_repo", "hub_always_push", "hub_revision"), _HUB),
    "hub_strategy": Idle(_HUB.mend, (None, "every_save")),
    "hub_token": Idle("Set HF_TOKEN in the environment: a config is published with what it makes."),
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config", "parallelism_config"), _LAUNCH),
    "local_rank": Idle(_LAUNCH.mend, (None, -1)),
    "resume_from_checkpoint": _AGAIN,
    "restore_callback_states_from_checkpoint": _AGAIN,
    "ignore_data_skip": Idle(
        "What is continued ends as if it had not been interrupted; add --fresh to start from the beginning."
    ),
    **dict.fromkeys(("save_only_model", "save_on_each_node", "enable_jit_checkpoint"), _SAVING),
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), _STAGES),
    **dict.fromkeys(
        ("batch_eval_metrics", "include_for_metrics", "eval_use_gather_object", "prediction_loss_only"),
        Idle(_NO_METRICS.mend, (None, False, [])),
    ),
    "eval_do_concat_batches": Idle(_NO_METRICS.mend, TRUE),
    "label_names": _COLUMNS,
    "length_column_name": Idle(_COLUMNS.mend, (None, "length")),
    "remove_unused_columns": Idle(_COLUMNS.mend, TRUE),
    "use_cache": Idle("Training reads no cache of keys and values; sampling always does."),
    "auto_find_batch_size": Idle("What is learnt would depend on the memory: set per_device_train_batch_size."),
}
"""Idle in all three sections."""

TEXTS: Mapping[str, Idle] = {
    "model_init_kwargs": _SAFE,
    "trust_remote_code": _SAFE,
    "chat_template_path": _TEXTS,
    "eos_token": _TOKENS,
    "pad_token": _TOKENS,
}
"""Idle in ``sft`` and ``reward``."""

_MEASURED = "The reward model is measured on the held-out pairs once it is trained, and on reward.test_sets."
_PPO_EVAL = "Set eval_strategy: steps, eval_steps and eval_prompts; the first look is before the first update."
_PPO_OPTIMISER = (
    "PPO is optimised by AdamW: learning_rate, value_learning_rate, weight_decay, adam_beta1, adam_beta2."
)
_PPO_LOG = "PPO logs every update."
_PPO_ORDER = Idle("Prompts, noise and minibatches are functions of seed and update alone; set seed.")
_PPO_MEMORY = "Set gradient_checkpointing, local_rollout_forward_batch_size or a smaller batch."
_DERIVED = Idle(
    "Set per_device_train_batch_size, gradient_accumulation_steps, num_mini_batches and total_episodes."
)
_ADAPTERS = Idle("Give the adapter to start from: inputs: {start: NAME-policy@v1}.")
_NOT_PPO = "PPO's own loop does not have it; leave it out."

IDLE: Mapping[str, Mapping[str, Idle]] = {
    "sft": {
        **EVERYWHERE,
        **TEXTS,
        "dataset_text_field": Idle(_TEXTS.mend, (None, "text")),
        "dataset_kwargs": _TEXTS,
        "truncation_mode": Idle("Texts lose their end; set max_length.", (None, "keep_start")),
        "completion_only_loss": Idle("The texts of a corpus are learnt whole: they have no prompt of their own."),
        "assistant_only_loss": Idle("The texts of a corpus are learnt whole: they have no turns of their own."),
    },
    "reward": {
        **EVERYWHERE,
        **TEXTS,
        **dict.fromkeys(
            ("eval_strategy", "eval_on_start", "eval_accumulation_steps", "bf16_full_eval"), Idle(_MEASURED)
        ),
        **dict.fromkeys(("eval_steps", "eval_delay", "fp16_full_eval"), Idle(_MEASURED)),
        "per_device_eval_batch_size": Idle(_MEASURED, (None, 8)),
        **dict.fromkeys(
            ("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
            Idle(_MEASURED, (None, False)),
        ),
    },
    "ppo": {
        **EVERYWHERE,
        "sft_model_path": Idle("Set base_model."),
        "reward_model_path": Idle("Set ppo.reward."),
        **dict.fromkeys(
            (
                *("world_size", "num_total_batches", "micro_batch_size", "local_batch_size", "batch_size"),
                *("local_mini_batch_size", "mini_batch_size"),
            ),
            Idle(_DERIVED.mend, (None,)),
        ),
        **dict.fromkeys(("model_adapter_name", "ref_adapter_name"), _ADAPTERS),
        "ds3_gather_for_generation": Idle(_NOT_PPO, TRUE),
        "lora_dropout": Idle(
            "Dropout is off in PPO, or the policy that samples would not be the one that is trained."
        ),
        **dict.fromkeys(
            ("optim", "optim_args", "optim_target_modules"),
            Idle(_PPO_OPTIMISER, (None, "adamw_torch", "adamw_torch_fused")),
        ),
        "average_tokens_across_devices": Idle("Losses are divided by the tokens of all processes.", TRUE),
        "label_smoothing_factor": Idle(_NOT_PPO),
        "neftune_noise_alpha": Idle(_NOT_PPO),
        "include_num_input_tokens_seen": Idle(_NOT_PPO),
        **dict.fromkeys(
            ("fp16", "fp16_full_eval", "bf16_full_eval"), Idle("Set bf16: LoRA and the optimiser stay in fp32.")
        ),
        **dict.fromkeys(
            (
                *("activation_checkpointing", "activation_checkpointing_kwargs", "torch_empty_cache_steps"),
                *("use_liger_kernel", "liger_kernel_config"),
            ),
            Idle(_PPO_MEMORY),
        ),
        **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), Idle(_NOT_PPO)),
        "accelerator_config": _LAUNCH,
        **dict.fromkeys(("logging_first_step",), Idle(_PPO_LOG, (None, False, True))),
        "logging_strategy": Idle(_PPO_LOG, (None, "steps")),
        "logging_steps": Idle(_PPO_LOG, (None, 1)),
        "logging_nan_inf_filter": Idle(_PPO_LOG, TRUE),
        **dict.fromkeys(("log_level", "log_level_replica"), Idle(_NOT_PPO, (None, "passive", "warning"))),
        "log_on_each_node": Idle(_NOT_PPO, TRUE),
        "eval_strategy": Idle(_PPO_EVAL, (None, False, "no", "steps")),
        **dict.fromkeys(("eval_on_start", "eval_accumulation_steps"), Idle(_PPO_EVAL)),
        "per_device_eval_batch_size": Idle(_PPO_EVAL, (None, 8)),
        **dict.fromkeys(
            ("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
            Idle("Set keep_best: true, and eval_strategy: steps.", (None, False)),
        ),
        "data_seed": Idle(_PPO_ORDER.mend, (None,)),
        "full_determinism": _PPO_ORDER,
        "train_sampling_strategy": Idle(_PPO_ORDER.mend, (None, "random")),
        **dict.fromkeys(
            (
                *("dataloader_drop_last", "dataloader_num_workers", "dataloader_persistent_workers"),
                *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataset_num_proc"),
            ),
            _PPO_ORDER,
        ),
        **dict.fromkeys(
            ("dataloader_pin_memory", "dataloader_in_order"), Idle(_PPO_ORDER.mend, (None, False, True))
        ),
        **dict.fromkeys(
            (
                *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph"),
                *("debug",),
            ),
            Idle(_NOT_PPO),
        ),
        "skip_memory_metrics": Idle(_NOT_PPO, TRUE),
    },
}
"""The idle keys of each section that trains; all other keys of TRL have their effect."""


def check_idle(raw: Mapping[str, Any], where: str) -> None:
    """Check that no key of a config has no effect.

    Raises:
        ConfigError: a key has none; the message says what to use instead.
    """
    for section, idle in IDLE.items():
        for key, value in dict_of(raw.get(section)).items():
            if key in idle and not _asks_nothing(value, idle[key]):
                raise ConfigError(where, f"{section}.{key} = {value!r:.120} has no effect here.", idle[key].mend)
    reward = dict_of(raw.get("reward"))
    if reward.get("loss") == "pointwise" and reward.get("center_rewards_coefficient"):
        raise ConfigError(
            where,
            "reward.center_rewards_coefficient has no effect under reward.loss: pointwise.",
            "Leave it out: the scores of single completions are centred by their labels.",
        )


def _asks_nothing(value: object, key: Idle) -> bool:
    # Python takes True for 1.
    return any(value == quiet and isinstance(value, bool) == isinstance(quiet, bool) for quiet in key.asks_nothing)
