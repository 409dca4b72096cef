"""The records that cross floors: Comparison -> Annotation -> Preference, and their ids.

Text only. Token ids live with the rollout that made them and are never rebuilt from text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

Choice = Literal["a", "b", "tie", "both_bad"]

# Columns of the datasets of ``collect``. ``completion_b`` is null where a completion stands alone.
PROMPTS = {"id": "string", "prompt": "string"}
COMPARISONS = {"id": "string", "prompt": "string", "completion_a": "string", "completion_b": "string"}
PREFERENCES = {
    "id": "string",
    "prompt": "string",
    "chosen": "string",
    "rejected": "string",
    "margin": "double",
    "annotator": "string",
    "comparison_id": "string",
}
VOTES = {
    "id": "string",
    "comparison_id": "string",
    "annotator": "string",
    "choice": "string",
    "score_a": "double",
    "score_b": "double",
    "margin": "double",
    "reason": "string",
}


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no blanks, UTF-8 kept as it is."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def row_id(prompt: str, chosen: str, rejected: str) -> str:
    """Identity of a preference: the same three texts have the same id in every version."""
    return digest([prompt, chosen, rejected])


def bucket(text: str, salt: str = "split") -> float:
    """A number in [0, 1) that depends on ``text`` alone; splits are cut on it."""
    return int(hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:13], 16) / 16**13


def split_of(prompt: str, test_share: float) -> Literal["train", "test"]:
    """Split by the hash of the prompt, so that a prompt is on the same side in every version."""
    return "test" if bucket(prompt) < test_share else "train"


def selection_bucket(prompt: str) -> float:
    """A number in [0, 1), another one than :func:`split_of` goes by: which prompts choose a checkpoint."""
    return bucket(prompt, salt="select")


@dataclass(frozen=True)
class Comparison:
    """Two completions of one prompt, not judged yet."""

    prompt: str
    completion_a: str
    completion_b: str
    meta: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def id(self) -> str:
        return digest([self.prompt, self.completion_a, self.completion_b])


@dataclass(frozen=True)
class Annotation:
    """One annotator's choice on one comparison.

    ``score_a`` and ``score_b`` are what the annotator thought of each completion, where it has such numbers;
    ``margin`` says by how much the choice was won (TRL's ``margin`` column), where that is known.
    """

    comparison_id: str
    annotator: str
    choice: Choice
    score_a: float | None = None
    score_b: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Abstention:
    """An annotator that could not answer, with its reason. Never turned into a low score."""

    comparison_id: str
    annotator: str
    reason: str


@dataclass(frozen=True)
class Preference:
    """A training row in TRL's explicit-prompt format."""

    prompt: str
    chosen: str
    rejected: str
    annotator: str
    comparison_id: str
    margin: float | None = None

    @property
    def id(self) -> str:
        return row_id(self.prompt, self.chosen, self.rejected)


def preference_from(comparison: Comparison, annotation: Annotation) -> Preference | None:
    """The training row of a decided comparison; None for a tie or for two bad ones."""
    if annotation.choice not in ("a", "b"):
        return None
    pair = (comparison.completion_a, comparison.completion_b)
    chosen, rejected = pair if annotation.choice == "a" else pair[::-1]
    return Preference(comparison.prompt, chosen, rejected, annotation.annotator, comparison.id, annotation.margin)
