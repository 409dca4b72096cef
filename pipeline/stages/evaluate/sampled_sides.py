"""Sample and score completions of base and policy side by side, and best-of-n's completions of the base.

Every rank takes its share of the work, while the randomness is drawn for all of it: how many ranks there are
changes no completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.base.records import digest
from pipeline.evaluation.policy.policy_metrics import Sampled
from pipeline.modeling import tokens
from pipeline.modeling.decoding.drawing import Completions, uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import Role, merged_adapter, output_embedding
from pipeline.modeling.states import sequence_logprobs
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.tasks import Task

BATCHES = 8
"""Batches of best-of-n's completions that are sampled in one go."""


@dataclass(frozen=True)
class Sampler:
    """Samples completions of either side, and scores them.

    Attributes:
        scorer: the proxy.
        judges: further scorers, which PPO never saw, by name.
        temperature: 0 takes the most likely token.
    """

    tokenizer: Any
    task: Task
    scorer: Scorer
    judges: Mapping[str, Scorer]
    temperature: float
    batch_size: int

    def sample(self, side: Role, prompts: Sequence[str], noise: Tensor) -> tuple[Samples, Completions]:
        """A completion of each prompt, drawn with that row of ``noise``; with the prompts as they were read."""
        limit = tokens.prompt_limit(side.model, self.task.completion_tokens)
        prompt_ids = tokens.encode_prompts(self.tokenizer, prompts, limit)
        with merged_adapter(side.model, side.adapter):
            sampled = generate(
                side.model,
                prompt_ids,
                max_new_tokens=self.task.completion_tokens,
                eos_id=self.tokenizer.eos_token_id,
                temperature=self.temperature,
                noise=noise,
                batch_size=self.batch_size,
            )
        return Samples(prompt_ids, sampled.rows(), self.tokenizer, list(prompts)), sampled


@dataclass(frozen=True)
class ScoredCompletion:
    """One completion and what is measured on it.

    Attributes:
        length: tokens.
        judged: each judge's score, by its name.
        logprobs, ref_logprobs: nats per token, under the model itself and under the base.
    """

    completion: str
    length: int
    ended: bool
    score: float
    judged: Mapping[str, float]
    logprobs: list[float]
    ref_logprobs: list[float]


@dataclass(frozen=True, kw_only=True)
class ScoredSide(Sampled):
    """One model's completions, with each judge's scores by its name."""

    scores: Sequence[float] = ()
    logprobs: Sequence[Sequence[float]] = ()
    ref_logprobs: Sequence[Sequence[float]] = ()
    judged: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, rows: Sequence[ScoredCompletion], prompts: Sequence[str], task: Task) -> ScoredSide:
        """From completions in order, with the prompt of each."""
        completions = [row.completion for row in rows]
        return cls(
            completions=completions,
            lengths=[row.length for row in rows],
            ended=[row.ended for row in rows],
            scores=[row.score for row in rows],
            gold_scores=task.gold_scores(prompts, completions),
            logprobs=[row.logprobs for row in rows],
            ref_logprobs=[row.ref_logprobs for row in rows],
            judged={name: [row.judged[name] for row in rows] for name in rows[0].judged},
        )


@dataclass(frozen=True)
class BaseSample:
    """One of many completions of the base, for best-of-n.

    Attributes:
        chosen_by: the score, less what PPO takes off that of a completion that did not end.
        scores: ``score``, ``gold_score`` where there is one, and each judge's as ``judge:NAME``.
        ended: False where the limit of length cut it.
    """

    chosen_by: float
    scores: Mapping[str, float]
    completion: str
    ended: bool


@dataclass(frozen=True)
class EvaluationSamples:
    """All that was sampled, of every rank.

    Attributes:
        best: the samples of each prompt that best-of-n is measured on; empty where it is off.
        precision: of sampling and scoring.
    """

    prompts: list[str]
    base: ScoredSide
    policy: ScoredSide
    best: list[list[BaseSample]]
    precision: str = "fp32"

    def pair(self, i: int) -> tuple[str, str]:
        """The i-th completion of the base, and of the policy."""
        return self.base.completions[i], self.policy.completions[i]


def sample_side(
    side: Role, base: Role, sampler: Sampler, prompts: Sequence[str], own: Sequence[int], draws: int, seed: int
) -> list[ScoredCompletion]:
    """Sample one model and score its completions.

    Args:
        own: which of the ``draws`` completions of each prompt; completion k of prompt i has number i * draws + k.
        seed: of the first completion of every prompt; the next has the next.
    """
    if not own:
        return []
    width = sampler.task.completion_tokens
    each = [uniforms(len(prompts), width, torch.Generator().manual_seed(seed + k)) for k in range(draws)]
    noise = torch.stack(each, dim=1).view(-1, width)[list(own)]
    samples, sampled = sampler.sample(side, [prompts[i // draws] for i in own], noise)
    rows, temperature = samples.completion_ids, sampler.temperature or 1.0
    if output_embedding(side.model).dtype == torch.float32:
        # Those of the decode loop, with LoRA merged, differ from a pass by 1e-6; in bf16 by 0.04.
        logprobs = [row[:n] for row, n in zip(sampled.logprobs.tolist(), sampled.lengths.tolist(), strict=True)]
    else:
        logprobs = sequence_logprobs(side.model, samples.prompt_ids, rows, side.adapter, temperature)
    ref_logprobs = logprobs
    if side != base:
        ref_logprobs = sequence_logprobs(base.model, samples.prompt_ids, rows, base.adapter, temperature)
    scores = sampler.scorer(samples).tolist()
    judged = {name: judge(samples).tolist() for name, judge in sampler.judges.items()}
    lengths, ended = sampled.lengths.tolist(), sampled.ended.tolist()
    return [
        ScoredCompletion(
            completion=completion,
            length=lengths[i],
            ended=ended[i],
            score=scores[i],
            judged={name: column[i] for name, column in judged.items()},
            logprobs=logprobs[i],
            ref_logprobs=ref_logprobs[i],
        )
        for i, completion in enumerate(samples.completions)
    ]


def sample_base(
    base: Role,
    sampler: Sampler,
    prompts: Sequence[str],
    own: Sequence[int],
    samples: int,
    seed: int,
    missing_eos_penalty: float,
) -> list[list[BaseSample]]:
    """``samples`` completions of the base for each of ``own`` prompts.

    Args:
        missing_eos_penalty: what PPO takes off the score of a completion that did not end.
    """
    by_prompt: list[list[BaseSample]] = [[] for _ in own]
    texts = [prompts[i] for i in own]
    # Several of each prompt at a time, which is then read once for all of them; no more than fill some batches.
    at_a_time = max(1, BATCHES * sampler.batch_size // len(texts)) if texts else 1
    for first in range(0, samples if own else 0, at_a_time):
        numbers = range(first, min(first + at_a_time, samples))
        noise = torch.cat([_noise_of_base(len(prompts), sampler, seed, k)[list(own)] for k in numbers])
        drawn, sampled = sampler.sample(base, texts * len(numbers), noise)
        for k in range(len(numbers)):
            rows = slice(k * len(texts), (k + 1) * len(texts))
            scored = _scored_base(drawn.at(rows), sampled.ended[rows], sampler, texts, missing_eos_penalty)
            for own_samples, sample in zip(by_prompt, scored, strict=True):
                own_samples.append(sample)
    return by_prompt


def _noise_of_base(prompts: int, sampler: Sampler, seed: int, k: int) -> Tensor:
    """The uniforms of the k-th completion of every prompt."""
    # Of its own, so that none of them is a completion that the comparison has seen.
    generator = torch.Generator().manual_seed(int(digest(["best of n", seed, k])[:15], 16))
    return uniforms(prompts, sampler.task.completion_tokens, generator)


def _scored_base(
    drawn: Samples, ended: Tensor, sampler: Sampler, texts: Sequence[str], missing_eos_penalty: float
) -> list[BaseSample]:
    """One completion of each prompt, scored together: a score may depend on the others."""
    score = sampler.scorer(drawn)
    chosen_by = (score - missing_eos_penalty * ~ended).tolist()
    columns: dict[str, list[float]] = {"score": score.tolist()}
    if (gold := sampler.task.gold_scores(texts, drawn.completions)) is not None:
        columns["gold_score"] = gold
    columns |= {f"judge:{name}": judge(drawn).tolist() for name, judge in sampler.judges.items()}
    return [
        BaseSample(chosen_by[i], {name: column[i] for name, column in columns.items()}, completion, bool(ended[i]))
        for i, completion in enumerate(drawn.completions)
    ]
