"""Sampling base and policy side by side, and best-of-n's completions of the base. Leaves out comparing them.

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
from pipeline.modeling import tokens
from pipeline.modeling.drawing import Completions, uniforms
from pipeline.modeling.generation import generate
from pipeline.modeling.roles import Role, merged, sequence_logprobs
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.tasks import Task
from pipeline.texts.diversity import closings


@dataclass(frozen=True)
class Setting:
    """What both sides have in common.

    Attributes:
        scorer: the proxy.
        judges: further scorers, which PPO never saw, by name.
        temperature: of sampling; 0 takes the most likely token.
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
        with merged(side.model, side.adapter):
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


@dataclass
class Side:
    """One model's completions and all that is measured on them, a column each; those of one prompt together.

    Attributes:
        judged: each judge's scores, by its name.
        logprobs, ref_logprobs: nats per token, under the model itself and under the base.
        gold_scores: None where the task has none.
    """

    completions: list[str]
    lengths: list[int]
    ended: list[bool]
    scores: list[float]
    judged: dict[str, list[float]]
    logprobs: list[list[float]]
    ref_logprobs: list[list[float]]
    gold_scores: list[float] | None

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], prompts: Sequence[str], task: Task) -> Side:
        """From rows as :func:`measure` gives them, in order, with the prompt of each."""
        columns: dict[str, Any] = {k: [row[k] for row in rows] for k in rows[0]}
        columns["judged"] = {name: [row["judged"][name] for row in rows] for name in rows[0]["judged"]}
        return cls(**columns, gold_scores=task.gold_scores(prompts, columns["completions"]))


@dataclass
class Found:
    """All that was sampled and measured, of every rank.

    Attributes:
        best: for each prompt that best-of-n is measured on and each of its samples, see :func:`best_of_samples`.
    """

    prompts: list[str]
    base: Side
    policy: Side
    best: list[list[dict[str, Any]]]


def measure(
    side: Role, base: Role, setting: Setting, prompts: Sequence[str], mine: Sequence[int], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Sample and measure one model: a row with :class:`Side`'s columns for each of ``mine``.

    Args:
        mine: which of the ``draws`` completions of each prompt; completion k of prompt i has number i * draws + k.
        seed: of the first completion of every prompt; the next has the next.
    """
    if not mine:
        return []
    width = setting.task.completion_tokens
    each = [uniforms(len(prompts), width, torch.Generator().manual_seed(seed + k)) for k in range(draws)]
    noise = torch.stack(each, dim=1).view(-1, width)[list(mine)]
    samples, sampled = setting.sample(side, [prompts[i // draws] for i in mine], noise)
    rows, temperature = samples.completion_ids, setting.temperature or 1.0
    own = sequence_logprobs(side.model, samples.prompt_ids, rows, side.adapter, temperature)
    same = side == base
    ref = own if same else sequence_logprobs(base.model, samples.prompt_ids, rows, base.adapter, temperature)
    columns = {
        "completions": samples.completions,
        "lengths": sampled.lengths.tolist(),
        "ended": sampled.ended.tolist(),
        "scores": setting.scorer(samples).tolist(),
        "judged": rows_of({name: judge(samples).tolist() for name, judge in setting.judges.items()}, len(mine)),
        "logprobs": own,
        "ref_logprobs": ref,
    }
    return rows_of(columns, len(mine))


def rows_of(columns: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
    """Columns as ``count`` rows."""
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def best_of_samples(
    base: Role,
    setting: Setting,
    prompts: Sequence[str],
    mine: Sequence[int],
    samples: int,
    seed: int,
    missing_eos_penalty: float,
) -> list[list[dict[str, Any]]]:
    """``samples`` completions of the base for each of ``mine`` prompts: numbers, and the sentence that ends each.

    One completion of every prompt is held at a time.

    Args:
        missing_eos_penalty: what PPO takes off the score of a completion that did not end.
    Returns:
        for each prompt a row per sample: chosen_by (the score with that penalty, as PPO's), score, gold_score
        where there is one, each judge's, as ``judge:name``, and closing.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in mine]
    texts = [prompts[i] for i in mine]
    for k in range(samples if mine else 0):
        # Of its own, so that none of them is a completion that the comparison has seen.
        generator = torch.Generator().manual_seed(int(digest(["best of n", seed, k])[:15], 16))
        noise = uniforms(len(prompts), setting.task.completion_tokens, generator)[list(mine)]
        drawn, sampled = setting.sample(base, texts, noise)
        score = setting.scorer(drawn)
        gold = setting.task.gold_scores(texts, drawn.completions)
        columns: dict[str, list[Any]] = {
            "chosen_by": (score - missing_eos_penalty * ~sampled.ended).tolist(),
            "score": score.tolist(),
        }
        columns |= {} if gold is None else {"gold_score": gold}
        columns |= {f"judge:{name}": judge(drawn).tolist() for name, judge in setting.judges.items()}
        columns["closing"] = closings(drawn.completions, sampled.ended.tolist())
        for rows, row in zip(found, rows_of(columns, len(mine)), strict=True):
            rows.append(row)
    return found
