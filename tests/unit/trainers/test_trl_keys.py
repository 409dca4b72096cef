"""Every key of TRL's arguments works here or is refused by name: none is accepted without effect."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.errors import ConfigError
from pipeline.trainers.arguments import OPTIMISERS, training_arguments
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.reward import RewardSection
from pipeline.trainers.sft import SFTSection
from pipeline.workflow.config import load_config
from pipeline.workflow.key_checks.idle_keys import IDLE, check_idle
from pipeline.workflow.sections.training import TRACKERS

SECTIONS: dict[str, Any] = {"sft": SFTSection, "reward": RewardSection, "ppo": PPOSection}

EVERYWHERE = """
    per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
    warmup_steps weight_decay adam_beta1 adam_beta2 adam_epsilon gradient_accumulation_steps max_grad_norm
    bf16 tf32 gradient_checkpointing gradient_checkpointing_kwargs
    disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
    save_strategy save_steps save_seconds save_total_limit seed use_cpu ddp_backend ddp_timeout
    lora_r lora_alpha lora_target_modules
"""
TRAINER = """
    lora_dropout optim optim_args optim_target_modules average_tokens_across_devices label_smoothing_factor fp16
    activation_checkpointing activation_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode
    use_liger_kernel liger_kernel_config neftune_noise_alpha torch_empty_cache_steps
    logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter
    include_num_input_tokens_seen log_level log_level_replica full_determinism data_seed accelerator_config
    dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
    dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order dataset_num_proc
    train_sampling_strategy ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph
    debug skip_memory_metrics max_length pad_to_multiple_of activation_offloading
"""
WORKS = {
    "sft": EVERYWHERE + TRAINER + """
        bf16_full_eval fp16_full_eval eval_strategy eval_steps eval_delay per_device_eval_batch_size eval_on_start
        eval_accumulation_steps load_best_model_at_end metric_for_best_model greater_is_better
        router_aux_loss_coef shuffle_dataset packing packing_strategy padding_free eval_packing loss_type
        n_layer n_embd n_head n_positions vocab_size tokenizer eval_share
    """,
    "reward": EVERYWHERE + TRAINER + """
        disable_dropout center_rewards_coefficient head_learning_rate loss reference_samples test_sets
        old_share reader reader_heads head_only
    """,
    "ppo": EVERYWHERE + """
        eval_steps eval_delay num_mini_batches total_episodes local_rollout_forward_batch_size
        num_sample_generations response_length stop_token stop_token_id temperature missing_eos_penalty
        num_ppo_epochs whiten_rewards kl_coef kl_estimator cliprange vf_coef cliprange_value gamma lam
        trunk_layers use_peft reward reward_combine reward_std_coef check scale_score clip_score
        kl_target kl_horizon kl_budget diversity_floor num_generations target_kl entropy_coef
        value_model value_learning_rate value_warmup_updates rescore cuda_graph_decoding eval_prompts
        keep_best fall_patience reference
    """,
}  # fmt: skip
"""Keys that are obeyed. Those that are not are in :data:`pipeline.workflow.key_checks.idle_keys.IDLE`."""


# Fails when TRL or transformers has a new key: find out what it does here, and put it into one table or the other.
@pytest.mark.agrees(
    "Every key of TRL's `SFTConfig`, `RewardConfig` and `PPOConfig` either works here or is refused by name."
)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_works_or_is_refused(section: str):
    keys = {f.name for f in dataclasses.fields(SECTIONS[section])}
    works, idle = WORKS[section].split(), set(IDLE[section])
    assert len(works) == len(set(works))
    assert not idle & set(works)
    assert keys - idle - set(works) == set(), "nobody has said what becomes of these"
    assert (idle | set(works)) - keys == set(), "TRL has these no longer"


def config(tmp_path: Path, *overrides: str) -> Any:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "task": "reviews"}))
    return load_config(path, overrides)


# Seen failing with: every one accepted, recorded in the manifest, and without effect.
@pytest.mark.parametrize(("section", "key"), [(section, key) for section, keys in IDLE.items() for key in keys])
def test_an_idle_key_is_refused_by_name(section: str, key: str):
    idle = IDLE[section][key]
    value = next(v for v in ("something", True, 3, False) if v not in idle.asks_nothing)
    if key in ("eval_steps", "eval_delay", "label_smoothing_factor", "lora_dropout"):
        value = 0.5
    with pytest.raises(ConfigError) as err:
        check_idle({section: {key: value}}, "x.yaml")
    assert f"{section}.{key} = {value!r} has no effect here. {idle.mend}" in str(err.value)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_default_may_be_given(section: str, tmp_path: Path):
    """What asks for nothing is no mistake: of each idle key, the value it has anyway."""
    defaults = {f.name: f.default for f in dataclasses.fields(SECTIONS[section])}
    for key in IDLE[section]:
        value = getattr(defaults[key], "value", defaults[key])
        if value is dataclasses.MISSING or key in (
            "logging_steps",
            "sft_model_path",
            "reward_model_path",
            "debug",
        ):
            continue
        config(tmp_path, f"{section}.{key}={yaml.safe_dump(value).splitlines()[0]}")


# Seen failing with: reward.lora_dropout in the manifest, and TRL's disable_dropout setting it to 0.
@pytest.mark.parametrize(
    ("overrides", "off"),
    [((), True), (("reward.lora_dropout=0.1",), False), (("reward.disable_dropout=false",), False)],
)
def test_lora_dropout_of_the_reward_model(overrides: tuple[str, ...], off: bool, tmp_path: Path):
    args = training_arguments(config(tmp_path, *overrides), "reward", RewardSection, tmp_path)
    assert args.disable_dropout is off


def test_dropout_that_is_on_and_off(tmp_path: Path):
    with pytest.raises(ConfigError, match="does nothing under disable_dropout"):
        config(tmp_path, "reward.lora_dropout=0.1", "reward.disable_dropout=true")
    with pytest.raises(ValueError, match="does nothing under disable_dropout"):
        RewardSection(lora_dropout=0.1, disable_dropout=True)


def test_a_centring_term_of_single_completions(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no effect under reward\.loss: pointwise"):
        config(tmp_path, "reward.loss=pointwise", "reward.center_rewards_coefficient=0.1")
    config(tmp_path, "reward.loss=pointwise")


# Seen failing with: RuntimeError or ImportError and a traceback, after the model was loaded.
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("report_to=[wandb]", "report_to: wandb needs wandb, which is not installed. Run: pip install wandb"),
        ("report_to=wandbb", "report_to: 'wandbb' is no tracker. Known: azure_ml"),
        ("optim=adamw_8bit", "optim: adamw_8bit needs bitsandbytes, which is not installed."),
        ("optim=apollo_adamw", "optim: apollo_adamw needs apollo_torch"),
        ("use_liger_kernel=true", "use_liger_kernel: true needs liger_kernel"),
    ],
)
def test_a_package_that_is_not_installed(
    override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.trainers.arguments.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as err:
        training_arguments(config(tmp_path, f"sft.{override}"), "sft", SFTSection, tmp_path)
    assert said in str(err.value)


def test_the_trackers_are_transformers_own():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
    from transformers.training_args import OptimizerNames

    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)
    assert all(any(part in name.value for name in OptimizerNames) for part in OPTIMISERS)
