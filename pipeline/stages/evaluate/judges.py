"""The judges of an evaluation: from the config's entries to what each says. Leaves out the statistics.

A judge is any scorer, or a language model that is shown both completions; none of them is ever trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.evaluation.policy.length_control import length_controlled_win_rate
from pipeline.evaluation.policy.policy_metrics import change_by_prompt
from pipeline.evaluation.policy.verdicts import both_orders, outcomes_by_score, verdict_stats, win_rate_of
from pipeline.modeling.types import CausalLM, Device, Tokenizer
from pipeline.scoring.build_scorer import build
from pipeline.scoring.llm_judge import Answer, LLMJudge, Pair
from pipeline.scoring.load_for_stage import scorer_context
from pipeline.scoring.scorer import Scorer
from pipeline.stages.evaluate.sampled_sides import Found
from pipeline.workflow.judges import Judge, JudgeOptions
from pipeline.workflow.reward_sources import RewardSource
from pipeline.workflow.stage import Run

JUDGED = {
    "id": "string",
    "prompt": "string",
    "seed": "int32",
    "judge": "string",
    "base_score": "double",
    "policy_score": "double",
    "outcome": "double",
    "reason": "string",
}


def build_scorers(
    run: Run, judges: Sequence[Judge], model: CausalLM, tokenizer: Tokenizer, device: Device
) -> dict[str, Scorer]:
    """The scorers among the judges, by name.

    Args:
        model, tokenizer: the base's; reward adapters over it become roles of it.
    """
    own = run.version("reward").path if "reward" in run.inputs else None
    context = replace(scorer_context(run, model, tokenizer, device), adapter_dir=own)
    return {
        judge.name: build(judge.entry, context, key=judge.source.key)
        for judge in judges
        if isinstance(judge.source, RewardSource)
    }


def judge_all(
    run: Run, found: Found, judges: Sequence[Judge], draws: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ask the language models, and say of every judge how often it prefers the policy.

    Args:
        draws: completions per prompt and side.
    Returns:
        by the judge's name kind, win_rate, length_controlled_win_rate, and score (of a scorer) or how far it is
        to be trusted (see :func:`judging.verdict_stats`); and a row for each judgement.
    """
    stats: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    longer = np.subtract(found.policy.lengths, found.base.lengths)
    for judge in judges:
        if isinstance(judge.source, JudgeOptions):
            judged = asked(run, judge.source, found, draws)
        else:
            judged = scored(found.base.judged[judge.name], found.policy.judged[judge.name], draws, seed)
        count = len(judged.outcomes)
        stats[judge.name] = {
            **judged.about,
            "win_rate": win_rate_of(judged.outcomes, draws),
            "length_controlled_win_rate": length_controlled_win_rate(judged.outcomes, longer[:count], draws, seed),
        }
        for i, outcome in enumerate(judged.outcomes.tolist()):
            prompt, texts = found.prompts[i // draws], (found.base.completions[i], found.policy.completions[i])
            base_score, policy_score = judged.scores[i] if judged.scores is not None else (None, None)
            rows.append(
                {
                    "id": digest([judge.name, prompt, i % draws, *texts]),
                    "prompt": prompt,
                    "seed": seed + i % draws,
                    "judge": judge.name,
                    "base_score": base_score,
                    "policy_score": policy_score,
                    "outcome": None if math.isnan(outcome) else outcome,
                    "reason": judged.reasons[i],
                }
            )
    return stats, rows


@dataclass(frozen=True)
class Judged:
    """One judge's judgements of the first completions, in their order."""

    about: dict[str, Any]
    outcomes: Any
    reasons: list[str | None]
    scores: list[tuple[float, float]] | None = None


def scored(base: list[float], policy: list[float], draws: int, seed: int) -> Judged:
    """A scorer's judgements: the higher score wins."""
    score = change_by_prompt(base, policy, draws, seed)
    pairs = list(zip(base, policy, strict=True))
    return Judged({"kind": "scorer", "score": score}, outcomes_by_score(base, policy), [None] * len(pairs), pairs)


def asked(run: Run, options: JudgeOptions, found: Found, draws: int) -> Judged:
    """A language model's judgements, every pair asked in both orders. Two equal texts tie without being asked.

    Answers are kept in the data directory, by the digest of the question, for this evaluation and later ones.
    """
    judge = LLMJudge(options, run.store.root / ".judges" / f"{digest([options.url, options.llm])[:16]}.jsonl")
    pairs = list(zip(found.base.completions, found.policy.completions, strict=True))
    pairs = pairs[: options.prompts and options.prompts * draws]
    differ = [base != policy for base, policy in pairs]
    questions: list[Pair] = []
    for i, (base, policy) in enumerate(pairs):
        if differ[i]:
            prompt = found.prompts[i // draws]
            questions += [Pair(prompt, policy, base), Pair(prompt, base, policy)]
    new = judge.unanswered(questions)
    say("evaluate", f"{judge.where}: {new} questions, {len(questions) - new} answered before")
    answers = iter(judge.ask(questions))
    both = [(next(answers), next(answers)) if d else (Answer("tie"), Answer("tie")) for d in differ]
    verdicts = both_orders([a for a, _ in both], [b for _, b in both])
    return Judged({"kind": "llm", **verdict_stats(verdicts, differ)}, verdicts.outcomes, verdicts.reasons)
