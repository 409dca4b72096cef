"""The parts of TRL that PPO uses: the config, the trainer's constructor, and the attributes listed in `USED`.

TRL's PPO is experimental. Only this module imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trl.experimental.ppo.ppo_trainer as trl_ppo
from datasets import Dataset
from torch import nn
from trl.experimental.ppo import PPOConfig
from trl.experimental.ppo import PPOTrainer as TRLPPOTrainer

from pipeline.modeling.types import CausalLM, Tokenizer

__all__ = ["DERIVED_SETTINGS", "OVERRIDDEN", "USED", "PPOConfig", "TRLPPOTrainer", "initialise"]

USED = {
    "accelerator": "devices, ranks and the backward pass",
    "add_callback": "appends a callback",
    "args": "the settings; the constructor fills in batch_size, mini_batch_size and num_total_batches",
    "callback_handler": "calls the callbacks",
    "control": "the callbacks' requests: save, evaluate, stop",
    "create_scheduler": "makes lr_scheduler again, for a batch of another size",
    "is_deepspeed_enabled": "parameters are sharded",
    "is_fsdp_enabled": "parameters are sharded",
    "is_world_process_zero": "this is the main process",
    "log": "appends a row to state.log_history and calls the callbacks",
    "lr_scheduler": "made by the constructor for num_total_batches steps",
    "model": "the wrapper of policy and value model, prepared by Accelerate",
    "model_adapter_name": "the adapter that is trained, where args name it",
    "optimizer": "made by the create_optimizer hook, prepared by Accelerate",
    "processing_class": "the policy's tokenizer",
    "ref_adapter_name": "the adapter that is the reference, where args name it",
    "ref_model": "the reference; None where it is the policy with its adapters off",
    "state": "step, episode and log",
    "stop_token_id": "ends a completion",
    "train_dataset_len": "number of prompts",
}
"""The attributes of TRL's trainer, and of transformers' above it, that the trainer reads or calls."""

OVERRIDDEN = {"__init__", "create_optimizer", "train"}
"""The methods that the trainer overrides; the constructor calls ``create_optimizer``."""

DERIVED_SETTINGS = {
    "batch_size",
    "local_batch_size",
    "local_mini_batch_size",
    "micro_batch_size",
    "mini_batch_size",
    "num_total_batches",
    "world_size",
}
"""The fields of ``PPOConfig`` that TRL's constructor computes from others."""


def initialise(
    trainer: TRLPPOTrainer,
    wrapper_class: type[nn.Module],
    *,
    args: PPOConfig,
    processing_class: Tokenizer,
    model: CausalLM,
    prompt_ids: Sequence[Sequence[int]],
    **options: Any,
) -> None:
    """Call TRL's constructor, with placeholders for the arguments that are not used.

    Args:
        wrapper_class: holds policy and value model, instead of TRL's wrapper, which runs a second backbone.
        prompt_ids: only their number is used.
        options: further arguments of TRL's constructor.
    """
    with _wrapper_exchanged(wrapper_class):
        TRLPPOTrainer.__init__(
            trainer,
            args=args,
            processing_class=processing_class,
            model=model,  # pyright: ignore[reportArgumentType] - a PEFT model is as good
            reward_model=nn.Identity(),  # pyright: ignore[reportArgumentType] - a scorer takes its place
            train_dataset=Dataset.from_dict({"input_ids": prompt_ids}),
            eval_dataset=None,
            **options,
        )
    # Losses are already divided by the tokens of the whole step; Accelerate would divide once more.
    trainer.accelerator.gradient_accumulation_steps = 1


@contextmanager
def _wrapper_exchanged(wrapper_class: type[nn.Module]) -> Iterator[None]:
    """TRL's constructor takes its wrapper's class from its module and offers no argument for it."""
    original = trl_ppo.PolicyAndValueWrapper
    trl_ppo.PolicyAndValueWrapper = wrapper_class  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        trl_ppo.PolicyAndValueWrapper = original
