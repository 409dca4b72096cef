"""The judges of an evaluation: from the config's entries to what each prefers.

A judge is any scorer, or a language model that is shown both completions; none of them is ever trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.evaluation.policy.length_control import length_controlled_win_rate
from pipeline.evaluation.policy.policy_metrics import change_by_prompt
from pipeline.evaluation.policy.win_rates import (
    JudgedPairs,
    combine_orders,
    judge_trust,
    outcomes_by_score,
    win_rate,
)
from pipeline.labelling.conversation import shown_prompt
from pipeline.modeling.types import CausalLM, Device, Tokenizer
from pipeline.results.policy import JudgeVerdicts
from pipeline.scoring.build_scorer import build
from pipeline.scoring.llm_judge import Answer, LLMJudge, Pair
from pipeline.scoring.load_for_stage import scorer_context
from pipeline.scoring.scorer import Scorer
from pipeline.stages.evaluate.sampled_sides import EvaluationSamples
from pipeline.statistics.bootstrap import Resampling
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
    run: Run, samples: EvaluationSamples, judges: Sequence[Judge], draws: int, seed: int
) -> tuple[dict[str, JudgeVerdicts], list[dict[str, Any]]]:
    """(what each judge prefers, by its name; a row for each judgement). Language models are asked here.

    Args:
        draws: completions per prompt and side.
    """
    verdicts: dict[str, JudgeVerdicts] = {}
    rows: list[dict[str, Any]] = []
    longer = np.subtract(samples.policy.lengths, samples.base.lengths)
    for judge in judges:
        if isinstance(judge.source, JudgeOptions):
            answers, asked = ask(run, judge.source, samples, draws)
            outcomes, reasons = answers.outcomes, answers.reasons
            scores, change, trust = [(None, None)] * len(outcomes), None, judge_trust(answers, asked)
        else:
            before, after = samples.base.judged[judge.name], samples.policy.judged[judge.name]
            outcomes, reasons = outcomes_by_score(before, after), [None] * len(before)
            scores, trust = list(zip(before, after, strict=True)), None
            change = change_by_prompt(before, after, draws, Resampling(seed))
        verdicts[judge.name] = JudgeVerdicts(
            kind="scorer" if trust is None else "llm",
            score=change,
            trust=trust,
            win_rate=win_rate(outcomes, draws),
            length_controlled_win_rate=length_controlled_win_rate(outcomes, longer[: len(outcomes)], draws, seed),
        )
        for i, (outcome, reason, pair) in enumerate(zip(outcomes.tolist(), reasons, scores, strict=True)):
            prompt, texts = samples.prompts[i // draws], samples.pair(i)
            rows.append(
                {
                    "id": digest([judge.name, prompt, i % draws, *texts]),
                    "prompt": prompt,
                    "seed": seed + i % draws,
                    "judge": judge.name,
                    "base_score": pair[0],
                    "policy_score": pair[1],
                    "outcome": None if math.isnan(outcome) else outcome,
                    "reason": reason,
                }
            )
    return verdicts, rows


def ask(run: Run, options: JudgeOptions, samples: EvaluationSamples, draws: int) -> tuple[JudgedPairs, list[bool]]:
    """A language model's judgements of the first pairs, each asked in both orders; and which pairs were asked.

    Two equal texts tie without being asked. Answers are kept in the data directory, by the digest of the question,
    for this evaluation and later ones.
    """
    judge = LLMJudge(options, run.store.root / ".judges" / f"{digest([options.url, options.llm])[:16]}.jsonl")
    count = len(samples.base.completions)
    pairs = [samples.pair(i) for i in range(min(count, options.prompts * draws) if options.prompts else count)]
    differ = [base != policy for base, policy in pairs]
    questions: list[Pair] = []
    for i, (base, policy) in enumerate(pairs):
        if differ[i]:
            # A chat template's marks would be read as such by a judge that has the same ones.
            prompt = shown_prompt(samples.prompts[i // draws], system=True)
            questions += [Pair(prompt, policy, base), Pair(prompt, base, policy)]
    new = judge.unanswered(questions)
    say("evaluate", f"{judge.where}: {new} questions, {len(questions) - new} answered before")
    answers = iter(judge.ask(questions))
    both = [(next(answers), next(answers)) if d else (Answer("tie"), Answer("tie")) for d in differ]
    return combine_orders([a for a, _ in both], [b for _, b in both]), differ
