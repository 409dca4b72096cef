"""Uncertainty sampling (Lewis and Gale 1994): order items by how unsure the reward model, or an ensemble, is.

Of an ensemble it is the entropy of the mean, which is also large where the members disagree. Diversity is not
considered: two comparisons of one prompt may both come early.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from pipeline.modeling.types import Tokenizer
from pipeline.scoring.build_scorer import Ensemble
from pipeline.scoring.scorer import Samples, Scorer


def unsureness(scores: Tensor) -> Tensor:
    """(B,) entropy in nats of "the first is better", averaged over the pairs of completions.

    Args:
        scores: (M, B, N) of M models for N completions of each item. With N = 1 it is the entropy of "it is better
            than usual", scores being normalised.
    """
    if scores.shape[-1] == 1:
        return _entropy(scores[..., 0].sigmoid().mean(0))
    pairs = [scores[..., i] - scores[..., j] for i, j in combinations(range(scores.shape[-1]), 2)]
    return torch.stack([_entropy(pair.sigmoid().mean(0)) for pair in pairs]).mean(0)


def least_sure(
    scorer: Scorer,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[Sequence[int]]],
    tokenizer: Tokenizer,
) -> list[float]:
    """:func:`unsureness` of each item.

    Args:
        completion_ids: N completions of each prompt, the same N for all.
    """
    n = len(completion_ids[0])
    samples = Samples(
        [p for p in prompt_ids for _ in range(n)], [c for item in completion_ids for c in item], tokenizer
    )
    scores = scorer.all_scores(samples) if isinstance(scorer, Ensemble) else scorer(samples)[None]
    return unsureness(scores.reshape(len(scores), -1, n)).tolist()


def _entropy(p: Tensor) -> Tensor:
    p = p.double().clamp(1e-12, 1 - 1e-12)
    return -(p * p.log() + (1 - p) * (1 - p).log())
