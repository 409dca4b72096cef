"""The ``evaluate`` section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class EvaluateSection:
    """Its keys."""

    prompts: int = field(default=400, metadata={"help": "Held-out prompts; all of them if there are fewer."})
    split: Literal["test", "select"] = field(
        default="test",
        metadata={"help": "The prompts; `select` are those that PPO's checks and a loop's stops go by."},
    )
    seeds: int = field(default=2, metadata={"help": "Completions per prompt and side; seed, seed + 1, ..."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling; 0 takes the most likely token."})
    batch_size: int = field(default=128, metadata={"help": "Completions sampled at a time."})
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Sample and score with the base in bfloat16; `null`: on a GPU that has it."},
    )
    seed: int = field(default=0, metadata={"help": "Of sampling, the same for base and policy."})
    best_of: int | list[int] = field(
        default_factory=lambda: [2, 4, 8, 16, 32], metadata={"help": "n of best-of-n from the base; 0 is off."}
    )
    best_of_prompts: int = field(
        default=64, metadata={"help": "Prompts that best-of-n is measured on, the first."}
    )
    embedding_model: str | None = field(
        default=None,
        metadata={"help": "A sentence embedding model (directory or Hub id), for similarity by meaning."},
    )
    other_history: bool = field(
        default=False,
        metadata={
            "help": "Also sample after another conversation's history, and judge by the own one: whether replies "
            "go by it."
        },
    )
    judges: list[Any] = field(
        default_factory=list[Any],
        metadata={"help": "Who judges besides: as `ppo.reward`, or `{llm: ..., url: ...}`."},
    )

    @property
    def draws(self) -> int:
        """Completions per prompt and side; at temperature 0 all would be the same one."""
        return self.seeds if self.temperature > 0 else 1

    @property
    def ns(self) -> list[int]:
        """The n of best-of-n, ascending; none where it is off."""
        sizes = [self.best_of] if isinstance(self.best_of, int) else self.best_of
        return sorted({n for n in sizes if n != 0})
