"""Read a reward model's score, at the same kind of position in training, in PPO and in evaluation.

If the tokenizer has a padding token of its own, a text ends with the end-of-sequence token and the score is read
there, also of completions cut by length. If not (GPT-2 pads with the end-of-sequence token), the score is read on
the last token before it. Both are what Hugging Face's sequence classifiers do with that tokenizer, so the adapter
scores the same in any loader. The position and the normalisation are stored in ``scoring.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.base.errors import ModelError
from pipeline.modeling.lora import add_role
from pipeline.modeling.roles import active_adapter
from pipeline.modeling.states import hidden_states, last_mlp_at
from pipeline.modeling.tokens import pad_id, right_pad
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.scoring.scorer import Samples

Position = Literal["eos", "last"]


@dataclass(frozen=True)
class Scoring:
    """How a reward adapter's score is read and normalised: (raw - score_mean) / score_std."""

    score_position: Position
    score_mean: float
    score_std: float
    reference_samples: int

    def normalised(self, raw: Tensor) -> Tensor:
        """The scores of raw ones."""
        return (raw - self.score_mean) / self.score_std

    def save(self, directory: Path) -> None:
        (directory / "scoring.json").write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Scoring:
        """Raises ModelError if the directory is not a reward adapter of this pipeline."""
        try:
            scoring = cls(**json.loads((directory / "scoring.json").read_text()))
            if scoring.score_position not in get_args(Position) or not math.isfinite(scoring.score_mean):
                raise ValueError("no position or no mean")
            if not (math.isfinite(scoring.score_std) and scoring.score_std > 0):
                raise ValueError("no standard deviation")
            return scoring
        except (OSError, ValueError, TypeError) as err:
            raise ModelError(
                str(directory), "is not a reward adapter with its scoring.json.", "Train one: make reward"
            ) from err


def score_position(tokenizer: Tokenizer) -> Position:
    """The position at which this tokenizer's texts are scored; see the module's docstring."""
    return "last" if pad_id(tokenizer) == tokenizer.eos_token_id else "eos"


def scored_rows(
    prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], eos_id: int, position: Position
) -> list[list[int]]:
    """Ids of prompt + completion, each row ending on the token whose state is scored."""
    tail = [eos_id] if position == "eos" else []
    rows: list[list[int]] = []
    for prompt, completion in zip(prompt_ids, completion_ids, strict=True):
        body = list(completion)
        if eos_id in body:
            body = body[: body.index(eos_id)]
        rows.append([*prompt, *body, *tail])
    return rows


@torch.no_grad()
def score_rows(model: CausalLM, head: Tensor, rows: Sequence[Sequence[int]], batch_size: int = 64) -> Tensor:
    """(N,) raw scores: the head (1, H) on the last state of each row, under the model's active role."""
    if not rows:
        return torch.zeros(0)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    scores = torch.zeros(len(rows))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        ids, lengths = right_pad([rows[i] for i in index], 0, head.device)
        last = torch.arange(len(index), device=head.device) * ids.shape[1] + lengths - 1
        with last_mlp_at(model, last):
            states = hidden_states(model, ids).flatten(0, 1)[last]
        scores[index] = (states.to(head.dtype) @ head.T).squeeze(-1).float().cpu()
    return scores


class RewardRole:
    """A reward adapter as a role of a shared base: a scorer of the base's own tokens.

    ``truncated`` counts the rows that were longer than the base's positions and lost their beginning.
    """

    def __init__(
        self, model: CausalLM, head: Tensor, scoring: Scoring, eos_id: int, adapter: str = "reward"
    ) -> None:
        self.model, self.head, self.scoring, self.eos_id, self.adapter = model, head, scoring, eos_id, adapter
        self.truncated = 0

    @classmethod
    def load(cls, model: CausalLM, directory: Path, eos_id: int, adapter: str = "reward") -> RewardRole:
        """Add the reward adapter in ``directory`` to ``model`` (a PEFT model over the same base) as a role.

        Raises:
            ModelError: it is not a reward adapter, or one of another base.
        """
        scoring = Scoring.load(directory)
        if not (directory / "adapter_model.safetensors").is_file():
            raise ModelError(str(directory), "holds no adapter_model.safetensors.", "Train one: make reward")
        rest = add_role(model, directory, adapter)
        heads = [v for k, v in rest.items() if k.endswith("score.weight")]
        if len(heads) != 1:
            raise ModelError(str(directory), "the adapter holds no score head.", "Train one: make reward")
        device = next(model.parameters()).device
        return cls(model, heads[0].to(device), scoring, eos_id, adapter)

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) normalised scores of the completions as their text is tokenised, as in the reward stage."""
        return self.score(samples.prompt_ids, samples.stored_ids)

    def score(self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]]) -> Tensor:
        """(B,) normalised scores of these ids."""
        rows = scored_rows(prompt_ids, completion_ids, self.eos_id, self.scoring.score_position)
        # A prompt with just enough room for the completion leaves none for the end token that is scored.
        limit = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        self.truncated += sum(len(row) > limit for row in rows)
        with active_adapter(self.model, self.adapter):
            # The model may have been moved since.
            raw = score_rows(self.model, self.head.to(self.model.device), [row[-limit:] for row in rows])
        return self.scoring.normalised(raw)
