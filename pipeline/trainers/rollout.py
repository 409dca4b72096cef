"""One update's experience: what was sampled, and everything PPO needs to know about it.

Rows are right-padded prompt + completion; masks come from lengths. No gradient is needed anywhere here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.functional.logprobs import selected_logprobs_chunked
from pipeline.functional.masks import length_mask
from pipeline.modeling.generation import generate
from pipeline.modeling.roles import completion_states, merged, output_embedding, role
from pipeline.modeling.tokens import right_pad

Scorer = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Tensor]
"""From prompt ids and completion ids to (B,) scores."""


@dataclass(frozen=True)
class Rollout:
    """B completions of up to T tokens.

    Attributes:
        input_ids: (B, L) prompt + completion, padded on the right.
        prompt_lengths: (B,).
        completion_ids: (B, T), any value where the mask is False.
        completion_mask: (B, T).
        ended: (B,) True where the stop token was sampled.
        old_logprobs, ref_logprobs, old_values: (B, T), 0 where the mask is False.
        score: (B,) from the reward source, before any penalty.
    """

    input_ids: Tensor
    prompt_lengths: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    ended: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    old_values: Tensor
    score: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def completions(self) -> list[list[int]]:
        """The completions as lists of ids."""
        lengths = self.completion_mask.sum(1).tolist()
        return [r[:n] for r, n in zip(self.completion_ids.tolist(), lengths, strict=True)]

    def take(self, index: Tensor) -> Rollout:
        """The rows at ``index``, cut to the longest of them."""
        rows = Rollout(**{k: v[index] for k, v in vars(self).items()})
        width = int(rows.completion_mask.sum(1).max())
        longest = int((rows.prompt_lengths + rows.completion_mask.sum(1)).max())
        cut = {k: getattr(rows, k)[:, :width] for k in vars(rows) if getattr(rows, k).shape[1:] == (self.width,)}
        return Rollout(**{**vars(rows), **cut, "input_ids": rows.input_ids[:, :longest]})

    @property
    def width(self) -> int:
        return self.completion_mask.shape[1]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn."""

    max_new_tokens: int
    temperature: float
    stop_id: int | None
    batch_size: int


@torch.no_grad()
def collect_rollout(
    model: Any,
    value_head: Any,
    scorer: Scorer,
    prompt_ids: Sequence[Sequence[int]],
    sampling: Sampling,
    generator: torch.Generator,
    policy: str | None = "policy",
) -> Rollout:
    """Sample completions and score them under every role.

    The old log-probabilities come from the same forward as the training ones, so the ratio starts at exactly 1;
    the decode loop's own would differ in the last bits, where LoRA is folded into the weights.
    """
    with merged(model, policy):
        sampled = generate(
            model,
            prompt_ids,
            max_new_tokens=sampling.max_new_tokens,
            eos_id=sampling.stop_id,
            temperature=sampling.temperature,
            generator=generator,
            batch_size=sampling.batch_size,
        )
    weight = output_embedding(model)
    completions = sampled.rows()
    joined = [[*p, *c] for p, c in zip(prompt_ids, completions, strict=True)]
    input_ids, _ = right_pad(joined, 0, weight.device)
    prompt_lengths = torch.tensor([len(p) for p in prompt_ids], device=weight.device)
    completion_ids, lengths = right_pad(completions, 0, weight.device)
    mask = length_mask(lengths, completion_ids.shape[1])

    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in torch.arange(len(input_ids)).split(sampling.batch_size):
        states = completion_states(model, input_ids[rows], prompt_lengths[rows], mask.shape[1])
        values = torch.where(mask[rows], value_head(states), 0.0)
        old = _logprobs(states, weight, completion_ids[rows], mask[rows], sampling.temperature)
        with role(model, None):
            states = completion_states(model, input_ids[rows], prompt_lengths[rows], mask.shape[1])
        ref = _logprobs(states, weight, completion_ids[rows], mask[rows], sampling.temperature)
        parts.append((old, ref, values))
    old_logprobs, ref_logprobs, old_values = (torch.cat(p) for p in zip(*parts, strict=True))
    return Rollout(
        input_ids=input_ids,
        prompt_lengths=prompt_lengths,
        completion_ids=completion_ids,
        completion_mask=mask,
        ended=sampled.ended.to(weight.device),
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
        old_values=old_values,
        score=scorer(prompt_ids, completions).to(weight.device).float(),
    )


def _logprobs(states: Tensor, weight: Tensor, ids: Tensor, mask: Tensor, temperature: float) -> Tensor:
    out = torch.zeros(mask.shape, device=mask.device)
    out[mask] = selected_logprobs_chunked(states[mask], weight, ids[mask], temperature)
    return out
