"""The ``loop`` section: how often the stages are repeated on the policy's own samples, and from what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

From = Literal["base", "last"]
OLD_SHARE = "old_share"


@dataclass
class StopOptions:
    """When a loop ends before its last round; measured on the split ``select``, which no figure is reported on."""

    no_gain: bool = field(
        default=False,
        metadata={"help": "End after a round whose gold score's gain over the last policy's may be 0 or less."},
    )
    kl_budget: float | None = field(
        default=None,
        metadata={"help": "End after a round whose policy is further from the base than this (nats)."},
    )


@dataclass
class LoopSection:
    """Its keys."""

    rounds: int = field(default=3, metadata={"help": "Times that collect, reward, PPO and evaluate are done."})
    labels: int | list[int] | None = field(
        default=None,
        metadata={
            "help": "Comparisons to label in all rounds together, the same number in each, or a list with the "
            "number of each round; by default each has `collect.comparisons`."
        },
    )
    start: From = field(
        default="base", metadata={"help": "What PPO begins with: a new adapter on the base, or the last policy."}
    )
    reference: From = field(
        default="base", metadata={"help": "What PPO's KL is measured to: the base, or the last policy."}
    )
    data: Literal["all", "last"] | dict[str, float] = field(
        default="all",
        metadata={
            "help": "Pairs that the reward model learns from: of all rounds, of the last, or of the last and a "
            "share of the older ones, `{old_share: 0.3}`."
        },
    )
    chat: bool = field(
        default=True,
        metadata={
            "help": "Take up what people have said in `make chat` and `make try` since the last round, beside "
            "what is collected."
        },
    )
    oversight: bool = field(
        default=False,
        metadata={"help": "Begin no round before a person has approved the last policy; once recorded, it stays."},
    )
    stop: dict[str, Any] = field(
        default_factory=dict[str, Any], metadata={"help": "What ends the loop before its last round."}
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a share of old pairs that is none, or labels of fewer rounds than there are."""
        if isinstance(self.labels, list) and len(self.labels) < self.rounds:
            raise ValueError(
                f"labels {self.labels} has no number for round {len(self.labels) + 1} of {self.rounds}"
            )
        if isinstance(self.data, dict) and (list(self.data) != [OLD_SHARE] or not 0 < self.data[OLD_SHARE] < 1):
            raise ValueError(f"data {self.data} should be all, last, or {{old_share: a share between 0 and 1}}")

    @property
    def old_share(self) -> float:
        """The share of older rounds' training pairs that the reward model learns from."""
        return self.data[OLD_SHARE] if isinstance(self.data, dict) else float(self.data == "all")
