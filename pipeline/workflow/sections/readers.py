"""The ``readers`` section: what each reader's own reward model and policy are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class ReadersSection:
    """Its keys."""

    least_votes: int = field(
        default=20, metadata={"help": "Votes to train on, of a reader who gets a policy of their own."}
    )
    start: Literal["shared", "base"] = field(
        default="shared",
        metadata={
            "help": "What a reader's reward model begins with: the shared one, or a new adapter on the base."
        },
    )
    reward: dict[str, Any] = field(
        default_factory=dict[str, Any], metadata={"help": "Keys of `reward` that are others for a reader's own."}
    )
    ppo: dict[str, Any] = field(
        default_factory=dict[str, Any], metadata={"help": "Keys of `ppo` that are others for a reader's own."}
    )
