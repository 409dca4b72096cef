"""The ``collect`` section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class CollectSection:
    """Its keys."""

    annotator: str = field(
        default="oracle",
        metadata={"help": "A module of pipeline/annotators or a dotted path; `human`: people, on a page."},
    )
    annotator_args: dict[str, Any] = field(
        default_factory=dict[str, Any], metadata={"help": "The annotator's own keys."}
    )
    comparisons: int = field(
        default=1500, metadata={"help": "Prompts to sample completions of; a source brings its own."}
    )
    round: int = field(
        default=1, metadata={"help": "Of a loop: each has its own prompts, and its own randomness of sampling."}
    )
    completions: int = field(
        default=2, metadata={"help": "Completions of each prompt; every two of them are a comparison."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Of sampling the completions."})
    sampler: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "A server that samples the completions instead of this process: `{url: http://host:8000/v1, "
            "model: NAME}`."
        },
    )
    serve: bool = field(default=True, metadata={"help": "Where people annotate: serve the page, and wait."})
    batch_size: int = field(default=128, metadata={"help": "Completions sampled at a time."})
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Sample in bfloat16; `null`: on a GPU that has it. Not faster on every CPU."},
    )
    test_share: float = field(default=0.1, metadata={"help": "Share held out for measuring the reward model."})
    select_share: float = field(
        default=0.1, metadata={"help": "Share of the training prompts by which only PPO's checks are made."}
    )
    scrub: bool = field(
        default=False,
        metadata={
            "help": "Put placeholders for personal data in what `replay` or `label.dataset` brings, and in what "
            "people write."
        },
    )
    split_by: Literal["prompt", "completion"] = field(
        default="prompt",
        metadata={"help": "What is on one side of the split only; `completion` where all prompts are alike."},
    )
