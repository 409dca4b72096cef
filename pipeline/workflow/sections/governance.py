"""The ``governance`` section: what a version must have before it is published."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.texts.personal_data.count import ALL
from pipeline.texts.personal_data.find import TYPES


@dataclass
class GovernanceSection:
    """Its keys. Every version made under the config records them, and every version made from those."""

    consent: bool = field(
        default=False,
        metadata={
            "help": "Every answer of a person, in what is published or exported and in what it was made from, has "
            "that person's consent; an answer of which that is not known has none."
        },
    )
    sign_off: bool = field(
        default=False,
        metadata={
            "help": "What is published was approved as it is now: the version itself, and each policy, reward "
            "model and set of preferences that goes with it."
        },
    )
    personal_data: dict[str, int] = field(
        default_factory=dict[str, int],
        metadata={
            "help": "The most finds in published or exported rows of a version, as `{email: 0, phone: 5}`; `all`: "
            "of every type together. Without a limit finds are a warning."
        },
    )

    screening: float | None = field(
        default=None,
        metadata={
            "help": "The most by which the share of completions that `screen` flags may exceed the base's: the "
            "upper end of its 95 % interval."
        },
    )
    fairness: dict[str, float] = field(
        default_factory=dict[str, float],
        metadata={
            "help": "The largest gap between groups that `fairness` may find, by measure, as `{reward: 0.2}`: the "
            "farther end of its 95 % interval."
        },
    )

    def __post_init__(self) -> None:
        for name, limit in self.personal_data.items():
            if name not in (*TYPES, ALL):
                raise ValueError(f'personal_data has "{name}", which is none of {", ".join((*TYPES, ALL))}')
            if limit < 0:
                raise ValueError(f"personal_data.{name} = {limit} should be 0 or more")
        for name, size in self.fairness.items():
            if not size >= 0:
                raise ValueError(f"fairness.{name} = {size} should be 0 or more")
