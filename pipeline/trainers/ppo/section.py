"""The ``ppo`` section: TRL's ``PPOConfig``, and what it lacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from trl.experimental.ppo import PPOConfig

from pipeline.trainers.checkpointing import SavingFields
from pipeline.trainers.common import LoraFields


@dataclass
class PPOSection(LoraFields, SavingFields, PPOConfig):
    """TRL's ``PPOConfig``, extended; keys that both know mean the same."""

    adam_epsilon: float = 1e-5
    max_grad_norm: float = 1.0
    stop_token: Literal["eos"] | None = field(default="eos", metadata={"help": "Token that ends a completion."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature."})
    response_length: int | None = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, metadata={"help": "Most tokens in a completion; the task's own by default."}
    )
    num_sample_generations: int = field(
        default=4, metadata={"help": "How often in the run some of the completions are shown; 0: never."}
    )
    trunk_layers: int = field(
        default=0, metadata={"help": "Lowest blocks without LoRA, computed once per update; 0: all have it."}
    )
    use_peft: bool = field(default=True, metadata={"help": "Train LoRA; false trains every weight of a copy."})

    reward: Any = field(default=None, metadata={"help": "Where scores come from; the reward adapter by default."})
    reward_combine: Literal["sum", "mean", "min", "mean_minus_std"] = field(
        default="sum", metadata={"help": "How several rewards become one score."}
    )
    reward_std_coef: float = field(default=1.0, metadata={"help": "Of mean_minus_std."})
    check: Any = field(
        default=None, metadata={"help": "Held-out judge of the policy; the task's gold score if it has one."}
    )
    scale_score: Literal["ref", "running"] | None = field(
        default=None, metadata={"help": "Scale scores by the first update's moments, or by all so far."}
    )
    clip_score: float | None = field(default=None, metadata={"help": "Bound of the scaled score."})

    kl_target: float | None = field(default=None, metadata={"help": "Adapt kl_coef towards this KL (nats)."})
    kl_horizon: int = field(default=1000, metadata={"help": "Episodes over which kl_coef adapts."})
    kl_budget: float | None = field(default=None, metadata={"help": "End the run at this KL (nats)."})
    diversity_floor: float | None = field(
        default=None,
        metadata={"help": "End the run where held-out closing sentences fall below this share of the first."},
    )
    num_generations: int = field(default=1, metadata={"help": "Completions of each prompt in an update."})
    target_kl: float | None = field(
        default=None, metadata={"help": "End an update's epochs once approxkl is over it (nats per token)."}
    )
    entropy_coef: float = field(default=0.0, metadata={"help": "Weight of the entropy bonus."})

    value_model: Literal["head", "adapter", "model"] = field(
        default="head", metadata={"help": "Read values from the policy's states, own LoRA, or an own model."}
    )
    value_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the value model; 10x by default for a head, 1x for more."}
    )
    value_warmup_updates: int = field(default=0, metadata={"help": "First updates that train only the value."})
    rescore: bool | None = field(
        default=None, metadata={"help": "Measure old log-probabilities again; by default unless fp32."}
    )

    eval_prompts: int = field(default=64, metadata={"help": "Held-out prompts sampled every eval_steps updates."})
    keep_best: bool = field(default=False, metadata={"help": "Publish the best held-out policy, not the last."})
    fall_patience: int = field(
        default=0, metadata={"help": "End after so many evaluations with check fallen and score risen; 0: never."}
    )

    def __post_init__(self) -> None:
        for key in ("kl_target", "kl_budget", "target_kl", "clip_score"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ValueError(f"{key} {value} is not above 0")
        if self.diversity_floor is not None and not 0 < self.diversity_floor < 1:
            raise ValueError(
                f"diversity_floor {self.diversity_floor} is not between 0 and 1, a share of what the base has"
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} is not above 0")
        for key in ("num_ppo_epochs", "per_device_train_batch_size", "num_mini_batches", "kl_horizon"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} {getattr(self, key)} is below 1")
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if rows % self.num_mini_batches:
            raise ValueError(
                f"a batch of {rows} (per_device_train_batch_size {self.per_device_train_batch_size} x "
                f"gradient_accumulation_steps {self.gradient_accumulation_steps}) does not divide into "
                f"num_mini_batches {self.num_mini_batches}"
            )
        evaluates = self.eval_strategy == "steps"
        if (self.keep_best or self.fall_patience or self.diversity_floor) and not evaluates:
            raise ValueError(
                "keep_best, fall_patience and diversity_floor need held-out figures: set eval_strategy: steps, "
                "eval_steps: 8"
            )
        if self.num_generations < 1 or rows % self.num_generations:
            raise ValueError(f"a batch of {rows} does not divide into num_generations {self.num_generations}")
        if self.trunk_layers < 0 or (self.trunk_layers and not self.use_peft):
            raise ValueError(f"trunk_layers {self.trunk_layers} needs to be 0 or more, and use_peft: true")
        if not self.use_peft and self.value_model == "adapter":
            raise ValueError("value_model: adapter needs use_peft: true")
        if self.value_model == "adapter" and self.gradient_checkpointing:
            raise ValueError("value_model: adapter does not go with gradient_checkpointing: use head or model")
        super().__post_init__()

    def lora(self) -> dict[str, Any]:
        return {**super().lora(), "first_layer": self.trunk_layers}

    @classmethod
    def of(cls, args: PPOConfig) -> PPOSection:
        """TRL's own arguments, ours at their defaults, so that our trainer takes the place of TRL's."""
        if isinstance(args, cls):
            return args
        given = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
        derived = ("world_size", "num_total_batches", "micro_batch_size", "local_batch_size", "batch_size")
        derived += ("local_mini_batch_size", "mini_batch_size")
        return cls(**{k: v for k, v in given.items() if k not in derived}, save_seconds=0.0)
