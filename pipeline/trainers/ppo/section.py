"""The ``ppo`` section: TRL's ``PPOConfig`` with our further keys."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pipeline.trainers.ppo.trl_parent import DERIVED_SETTINGS, PPOConfig
from pipeline.workflow.key_checks.bounds import check_section
from pipeline.workflow.sections.ppo import PPOFields


@dataclass
class PPOSection(PPOFields, PPOConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """TRL's ``PPOConfig``, extended; its keys keep their meaning."""

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
            raise ValueError("response_length is not set: give the length limit of a completion in tokens")
        return self.response_length

    @classmethod
    def of(cls, args: PPOConfig) -> PPOSection:
        """From TRL's own arguments, our keys at their defaults: our trainer is a drop-in replacement."""
        if isinstance(args, cls):
            return args
        settings = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.init}
        return cls(**{k: v for k, v in settings.items() if k not in DERIVED_SETTINGS}, save_seconds=0.0)
