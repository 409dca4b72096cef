"""Compare the policy with a task's references on the same prompts, and count the events that a task reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.evaluation.policy.policy_metrics import change_by_prompt, share
from pipeline.results.policy import Evaluation, Reference
from pipeline.results.sides import Side, on_both_sides
from pipeline.stages.evaluate.sampled_sides import EvaluationSamples
from pipeline.statistics.bootstrap import Resampling
from pipeline.statistics.intervals import Estimate
from pipeline.statistics.spelling import interval
from pipeline.tasks import Simulated, Task


def events_by_side(
    task: Task, samples: EvaluationSamples, draws: int, level: float
) -> dict[str, dict[Side, Estimate]]:
    """The share of each event on either side; empty where the task carries nothing out."""
    if not isinstance(task, Simulated):
        return {}
    each = [prompt for prompt in samples.prompts for _ in range(draws)]
    sides = on_both_sides(
        lambda side: _shares(task.events(each, side.completions), draws, level), samples.base, samples.policy
    )
    return {event: {side: shares[event] for side, shares in sides.items()} for event in sides["policy"]}


def compare_references(
    task: Task, samples: EvaluationSamples, draws: int, resampling: Resampling
) -> dict[str, Reference]:
    """Each reference of the task beside the policy; empty where it has none, or no gold score."""
    gold = samples.policy.gold_scores
    if not isinstance(task, Simulated) or gold is None:
        return {}
    prompts, references = samples.prompts, dict[str, Reference]()
    for name, completions in task.references(prompts).items():
        scores = task.gold_scores(prompts, completions)
        assert scores is not None, "a task has a gold score of every completion or of none"
        repeated = [score for score in scores for _ in range(draws)]
        references[name] = Reference(
            gold_score=change_by_prompt(repeated, gold, draws, resampling),
            events=_shares(task.events(prompts, completions), 1, resampling.level),
        )
    return references


def _shares(events: Mapping[str, Sequence[bool]], per_prompt: int, level: float) -> dict[str, Estimate]:
    return {event: share(happened, per_prompt, level) for event, happened in events.items()}


def reference_sentences(evaluation: Evaluation) -> list[str]:
    """How the policy does beside the best reference, and what happens more or less often than with the base."""
    sentences: list[str] = []
    if evaluation.references:
        name, best = max(evaluation.references.items(), key=lambda named: named[1].gold_score.base.value)
        sentences.append(
            f'The best of {len(evaluation.references)} references is "{name}": gold '
            f"{interval(best.gold_score.base)}; "
            f"the policy's less that {interval(best.gold_score.difference, signed=True)}."
        )
    for event, sides in evaluation.events.items():
        sentences.append(f"{event}: {interval(sides['base'])} (base), {interval(sides['policy'])} (policy).")
    return sentences
