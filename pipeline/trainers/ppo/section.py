"""The ``ppo`` section: TRL's ``PPOConfig``, and what it lacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from trl.experimental.ppo import PPOConfig

from pipeline.workflow.sections.ppo import PPOFields


@dataclass
class PPOSection(PPOFields, PPOConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """TRL's ``PPOConfig``, extended; keys that both know mean the same."""

    def __post_init__(self) -> None:
        self.check_rules()
        super().__post_init__()

    @classmethod
    def of(cls, args: PPOConfig) -> PPOSection:
        """TRL's own arguments, ours at their defaults, so that our trainer takes the place of TRL's."""
        if isinstance(args, cls):
            return args
        given = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
        derived = ("world_size", "num_total_batches", "micro_batch_size", "local_batch_size", "batch_size")
        derived += ("local_mini_batch_size", "mini_batch_size")
        return cls(**{k: v for k, v in given.items() if k not in derived}, save_seconds=0.0)
