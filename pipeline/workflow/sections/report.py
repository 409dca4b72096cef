"""The ``report`` section."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReportSection:
    """Its keys."""

    samples: int = field(default=4, metadata={"help": "Completions shown of each kind: gains, losses, random."})
    token_scores: bool = field(
        default=True,
        metadata={
            "help": "Score the gains and losses shown after every token; off where the reward model is too large."
        },
    )
