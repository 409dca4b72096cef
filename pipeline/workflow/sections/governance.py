"""The ``governance`` section: what a version must have before it is published."""

from __future__ import annotations

from dataclasses import dataclass, field


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
