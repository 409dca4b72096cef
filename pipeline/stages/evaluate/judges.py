"""The judges of an evaluation: from the config's entries to what each says. Leaves out the statistics.

A judge is any scorer, or a language model that is shown both completions; none of them is ever trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from pipeline.base.errors import ConfigError
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.evaluation.policy.length_control import length_controlled_win_rate
from pipeline.evaluation.policy.policy_metrics import change_by_prompt
from pipeline.evaluation.policy.verdicts import both_orders, outcomes_by_score, verdict_stats, win_rate_of
from pipeline.scoring.build_scorer import build
from pipeline.scoring.llm_judge import Answer, JudgeOptions, LLMJudge, Pair
from pipeline.scoring.scorer import Scorer
from pipeline.stages.evaluate.sampled_sides import Found
from pipeline.workflow.config import parse_options
from pipeline.workflow.reward_sources import RewardSource, parse_sources
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


@dataclass(frozen=True)
class Judge:
    """An entry of ``judges``.

    Attributes:
        entry: as it stands in the config.
        source: how it is read, a scorer or a language model.
    """

    name: str
    entry: Any
    source: RewardSource | JudgeOptions


def parse_judges(entries: Sequence[Any], where: str) -> list[Judge]:
    """What ``evaluate.judges`` says; nothing is loaded yet.

    Raises:
        ConfigError: an entry that is neither a scorer nor a language model, a weight, the same name twice.
    """
    found: list[Judge] = []
    for i, entry in enumerate(entries):
        key = f"evaluate.judges[{i}]"
        if isinstance(entry, dict) and "llm" in entry:
            if "url" not in entry:
                raise ConfigError(where, f"{key}: url is missing.", "Such as http://localhost:8000/v1")
            options = parse_options(JudgeOptions, cast("dict[str, Any]", entry), where, f"{key}.")
            found.append(Judge(options.llm, entry, options))
            continue
        if entry is None or isinstance(entry, list):
            raise ConfigError(where, f"{key} = {entry!r} is no judge.", "Write a scorer, or {llm: ..., url: ...}")
        source = parse_sources(entry, where, key)[0]
        if source.weight is not None:
            raise ConfigError(where, f"{key}.weight: a judge has none.", "Remove it.")
        found.append(Judge("adapter" if source.kind == "adapter" else source.value, entry, source))
    names = [judge.name for judge in found]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(where, f'evaluate.judges[{i}]: "{name}" is there twice.', "Give it once.")
    return found


def build_scorers(run: Run, judges: Sequence[Judge], model: Any, tokenizer: Any, device: Any) -> dict[str, Scorer]:
    """The scorers among the judges, by name.

    Args:
        model, tokenizer: the base's; reward adapters over it become roles of it.
    """
    return {
        judge.name: build(
            judge.entry,
            model=model,
            tokenizer=tokenizer,
            adapter_dir=run.version("reward").path if "reward" in run.inputs else None,
            where=str(run.config.path),
            key=judge.source.key,
            device=device,
            resolve=run.store.find_version,
            base=run.base,
        )
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
