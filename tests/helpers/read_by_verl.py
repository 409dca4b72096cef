"""Read what ``export-verl`` wrote by verl's own code, in an environment that has verl, without this package.

    python read_by_verl.py DIRECTORY

Prints JSON: what its dataset, its token builder, its configuration, peft and transformers make of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def dataset(directory: str, config: Any, tokenizer: Any) -> dict[str, Any]:
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
    from verl.utils.tokenizer.continuous_token import ContinuousTokenBuilder

    rows = RLHFDataset(list(config.data.train_files), tokenizer, config.data)
    builder = ContinuousTokenBuilder(tokenizer)
    first = [rows[i] for i in range(min(20, len(rows)))]
    batch = collate_fn(first)
    return {
        "rows": len(rows),
        "fields": sorted(first[0]),
        "batch": sorted(batch),
        "ids": [builder.build_initial_tokens(list(row["raw_prompt"])) for row in first],
        "kept": len(
            RLHFDataset(list(config.data.train_files), tokenizer, {**config.data, "filter_overlong_prompts": True})
        ),
    }


def compose(directory: str) -> Any:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(config_dir=directory, version_base=None):
        config = compose(config_name="verl")
    OmegaConf.resolve(config)
    return config


def models(config: Any) -> dict[str, Any]:
    import torch
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )
    from verl.utils.torch_dtypes import PrecisionType

    ids = torch.tensor([[5, 9, 30, 7]])
    actor, critic = config.actor_rollout_ref.model, config.critic.model
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(actor.path)
        policy = PeftModel.from_pretrained(base, actor.lora_adapter_path, is_trainable=True)
        logits = policy(ids).logits[0, -1, :8].tolist()
        reward = AutoModelForSequenceClassification.from_pretrained(config.reward.reward_model.model_path)
        score = reward(ids).logits[0].tolist()
    values = AutoModelForTokenClassification.from_pretrained(critic.path, num_labels=1)
    try:  # as verl's _build_lora_module does it
        get_peft_model(values, LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, target_modules="all-linear"))
        critic_lora = "works"
    except AttributeError as err:
        critic_lora = str(err)
    mixed = config.actor_rollout_ref.actor.fsdp_config.mixed_precision
    return {
        "logits": logits,
        "score": score,
        "rank": policy.peft_config["default"].r,
        "critic_lora": critic_lora,
        "dtype": str(PrecisionType.to_dtype(mixed.param_dtype)),
    }


def main() -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config
    from verl.utils.tokenizer import hf_tokenizer

    directory = sys.argv[1]
    config = compose(directory)
    tokenizer = hf_tokenizer(config.actor_rollout_ref.model.path)
    found = {"data": dataset(directory, config, tokenizer), "models": models(config)}
    reference, critic = need_reference_policy(config), need_critic(config)
    validate_config(config, reference, critic)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    found["config"] = {
        "reference": reference,
        "critic": critic,
        "clip": [actor.clip_ratio, actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c],
        "eps": actor.optim.override_optimizer_config["eps"],
        "mixed": dict(actor.engine.mixed_precision),
        "kl": [config.algorithm.use_kl_in_reward, config.algorithm.kl_ctrl.kl_coef],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
