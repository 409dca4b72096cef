"""Sample both sides after the history of another conversation, and judge by the own one: is the history used?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base.errors import ConfigError, DataError
from pipeline.evaluation.policy.policy_metrics import by_prompt, change_by_prompt
from pipeline.labelling.conversation import turns
from pipeline.results.policy import OtherHistory
from pipeline.stages.evaluate.sampled_sides import EvaluationSamples, ScoredCompletion
from pipeline.statistics.bootstrap import Resampling
from pipeline.statistics.spelling import interval
from pipeline.tasks import Task
from pipeline.workflow.experiment import Experiment


@dataclass(frozen=True)
class Exchanged:
    """Prompts whose last turn follows the history of another prompt.

    Attributes:
        own: their places among the prompts that they were made of.
        prompts: the last turn of each after the history of the next one.
    """

    own: list[int]
    prompts: list[str]


def exchanged_histories(task: Task, prompts: Sequence[str], config: Experiment) -> Exchanged:
    """The last turn of each conversation after the turns before the last of the next conversation.

    A prompt of one turn has no history, and is left out. The marks of a chat template stay as they are.

    Raises:
        ConfigError: the task has no gold score to judge by.
        DataError: there are no two conversations with different histories.
    """
    where = f"{config.path}: evaluate.other_history"
    if task.gold_name is None:
        raise ConfigError(where, "needs a gold score, and the task has none.", "Leave it out.")
    parts = {place: part for place, prompt in enumerate(prompts) if (part := _parted(prompt)) is not None}
    own, texts = list(parts), list[str]()
    for number, place in enumerate(own):
        history, last = parts[place]
        others = (parts[other][0] for other in own[number + 1 :] + own[:number])
        other = next((text for text in others if text != history), None)
        if other is None:
            break
        texts.append(other + last)
    if not own or len(texts) < len(own):
        what = "needs conversations of several turns, with different histories, and the prompts are none."
        raise DataError(where, what, "Leave it out.")
    return Exchanged(own, texts)


def _parted(prompt: str) -> tuple[str, str] | None:
    """A conversation cut before what its last turn says; None where there is no turn before that."""
    said = [text for role, text in turns(prompt) if role != "system"]
    if len(said) < 2:
        return None
    at = prompt.rindex(said[-1])
    return prompt[:at], prompt[at:]


def measure_other_history(
    task: Task,
    samples: EvaluationSamples,
    exchanged: Exchanged,
    after_other: Sequence[Sequence[ScoredCompletion]],
    draws: int,
    resampling: Resampling,
) -> OtherHistory:
    """Gold scores after other histories, and what the own ones bring.

    Args:
        after_other: the completions of base and policy, ``draws`` after each of the exchanged prompts.
    """
    asked = [samples.prompts[place] for place in exchanged.own for _ in range(draws)]
    base, policy = (task.gold_scores(asked, [row.completion for row in rows]) or [] for rows in after_other)
    gains = [
        by_prompt(side.gold_scores or [], draws)[exchanged.own] - by_prompt(after, draws)
        for side, after in ((samples.base, base), (samples.policy, policy))
    ]
    return OtherHistory(
        change_by_prompt(base, policy, draws, resampling), change_by_prompt(gains[0], gains[1], 1, resampling)
    )


def history_sentence(measured: OtherHistory) -> str:
    """How much of the policy's gold score comes from the history."""
    return (
        f"After another conversation's history the policy's gold score is {interval(measured.gold_score.policy)}: "
        f"its own brings {interval(measured.gain.policy, signed=True)} (base: {interval(measured.gain.base)})."
    )
