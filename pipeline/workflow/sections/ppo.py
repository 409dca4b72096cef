"""The ``ppo`` section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pipeline.workflow.sections import trl_keys
from pipeline.workflow.sections.training import LoraOptions, TrainingFields, check_training


@dataclass(init=False, repr=False, eq=False)
class PPOFields(TrainingFields):
    """Our keys, and TRL's with another default; keys that both know mean the same."""

    adam_epsilon: float = 1e-5
    max_grad_norm: float = 1.0
    stop_token: Literal["eos"] | None = field(default="eos", metadata={"help": "Token that ends a completion."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature."})
    response_length: int | None = field(
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
        default=None,
        metadata={
            "help": "Who judges the held-out completions: the same grammar as `reward`; by default the task's "
            "gold score. Never trained on."
        },
    )
    scale_score: Literal["ref", "running"] | None = field(
        default=None, metadata={"help": "Scale scores by the first update's moments, or by all so far."}
    )
    clip_score: float | None = field(default=None, metadata={"help": "Bound of the scaled score."})

    reference: Literal["start", "base"] = field(
        default="start",
        metadata={
            "help": "What the KL of a run with `inputs.start` is measured to: that adapter, or the base. "
            "`inputs.reference` names another adapter."
        },
    )
    kl_target: float | None = field(
        default=None, metadata={"help": "Adapt `kl_coef` towards this KL, in nats (Ziegler et al. 2019)."}
    )
    kl_horizon: int = field(
        default=1000, metadata={"help": "Episodes over which `kl_coef` adapts to `kl_target`."}
    )
    kl_budget: float | None = field(
        default=None,
        metadata={
            "help": "End the run when an update's KL exceeds it (nats), and go back to the last policy that was "
            "measured within."
        },
    )
    diversity_floor: float | None = field(
        default=None,
        metadata={
            "help": "End the run when the held-out completions have less than this share of the effective closing "
            "sentences that they had before the first update, and go back to the last policy above; `keep_best` "
            "takes none below."
        },
    )
    num_generations: int = field(
        default=1,
        metadata={
            "help": "Completions of each prompt in an update, as in TRL's GRPO; the batch has that many times "
            "fewer prompts."
        },
    )
    target_kl: float | None = field(
        default=None,
        metadata={"help": "End an update's epochs once the mean approxkl of one exceeds it (nats per token)."},
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
    cuda_graph_decoding: bool = field(
        default=False, metadata={"help": "Sample with captured CUDA graphs; not yet measured on a GPU."}
    )

    eval_prompts: int = field(
        default=64,
        metadata={
            "help": "Prompts of the split `select` (`collect.select_share` of the training prompts, never trained "
            "on, never evaluated on) that are sampled every `eval_steps` updates, always with the same randomness."
        },
    )
    keep_best: bool = field(
        default=False,
        metadata={
            "help": "Publish the policy with the best held-out check (else score) within the budget, not the "
            "last. Where that is the one PPO began with, card, manifest, report and doctor say so first."
        },
    )
    fall_patience: int = field(
        default=0,
        metadata={
            "help": "End after so many evaluations in a row at which the check is below its best by more than 3 "
            "standard errors of the paired difference and by a fifth of what had been gained, while the score is "
            "higher: the reward is being hacked. `evaluate` and the doctor go by the same rule. 0: never."
        },
    )

    def lora(self) -> LoraOptions:
        return {**super().lora(), "first_layer": self.trunk_layers}

    def check_rules(self) -> None:
        """Raises ValueError where keys contradict each other, ours or TRL's."""
        args = cast("PPOKeys", self)  # what has these fields has TRL's too
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        if rows % args.num_mini_batches:
            raise ValueError(
                f"a batch of {rows} (per_device_train_batch_size {args.per_device_train_batch_size} x "
                f"gradient_accumulation_steps {args.gradient_accumulation_steps}) does not divide into "
                f"num_mini_batches {args.num_mini_batches}"
            )
        if rows % self.num_generations:
            raise ValueError(f"a batch of {rows} does not divide into num_generations {self.num_generations}")
        if (self.keep_best or self.fall_patience or self.diversity_floor) and args.eval_strategy != "steps":
            raise ValueError(
                "keep_best, fall_patience and diversity_floor need held-out figures: set eval_strategy: steps, "
                "eval_steps: 8"
            )
        if self.trunk_layers and not self.use_peft:
            raise ValueError(f"trunk_layers {self.trunk_layers} needs use_peft: true")
        if self.value_model == "adapter" and not self.use_peft:
            raise ValueError("value_model: adapter needs use_peft: true")
        if self.value_model == "adapter" and self.gradient_checkpointing:
            raise ValueError("value_model: adapter does not go with gradient_checkpointing: use head or model")


@dataclass(repr=False, eq=False)
class PPOKeys(PPOFields, trl_keys.PPOConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """All keys of the section: ours and TRL's."""

    def __post_init__(self) -> None:
        self.check_rules()
        check_training(self)
