"""The ``ppo`` section: TRL's ``PPOConfig``, and what it lacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pipeline.trainers.ppo.trl_parent import DERIVED_SETTINGS, PPOConfig
from pipeline.workflow.bounds import check_section
from pipeline.workflow.sections.ppo import PPOFields


@dataclass
class PPOSection(PPOFields, PPOConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """TRL's ``PPOConfig``, extended; keys that both know mean the same."""

    def __post_init__(self) -> None:
        check_section("ppo", vars(self))
        self.check_rules()
        super().__post_init__()

    def completion_tokens(self) -> int:
        """``response_length``, which has no default here.

        Raises:
            ValueError: it is not set.
        """
        if self.response_length is None:
            raise ValueError("response_length is not set: give the most tokens of a completion")
        return self.response_length

    @classmethod
    def of(cls, args: PPOConfig) -> PPOSection:
        """TRL's own arguments, ours at their defaults, so that our trainer takes the place of TRL's."""
        if isinstance(args, cls):
            return args
        settings = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
        return cls(**{k: v for k, v in settings.items() if k not in DERIVED_SETTINGS}, save_seconds=0.0)
