"""The verdict on a policy in a few sentences, for the console and the report's first lines.

A collapse is reported before the scores, as a score does not show repetition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pipeline.results.diversity import CommonSentence, Diversity, EffectiveNumber
from pipeline.results.policy import Evaluation
from pipeline.results.sides import Change, Side
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import interval, number
from pipeline.store.starting_policy import SENTENCE
from pipeline.texts.collapse import COUNTED, Place, having, percent
from pipeline.texts.collapse import number as effective

Mood = Literal["good", "flat", "bad", "unknown"]


def headline(evaluation: Evaluation | None) -> tuple[Mood, str]:
    """(good | flat | bad | unknown, the sentences of :func:`verdict` as one text)."""
    mood, sentences = verdict(evaluation)
    return mood, " ".join(sentences)


def verdict(evaluation: Evaluation | None) -> tuple[Mood, list[str]]:
    """The mood, and sentences on collapse, gold and diversity. Gold decides; the proxy alone is not evidence."""
    if evaluation is None or not evaluation.n:
        return "unknown", ["The policy has not been evaluated yet."]
    if evaluation.starting_policy:
        return "bad", [SENTENCE, *verdict(replace(evaluation, starting_policy=False))[1]]
    mood, sentences = _of_scores(evaluation)
    variety = diversity(evaluation)
    if not variety:
        return mood, sentences
    collapse = evaluation.diversity and evaluation.diversity.collapse
    if not collapse:
        return mood, [*sentences, f"Diversity: {variety}."]
    # A collapsed policy is a bad result, whatever its score.
    return "bad", [f"Collapsed: {diversity(evaluation, collapse.place)}.", *sentences]


def diversity(evaluation: Evaluation, place: Place = "end") -> str:
    """``4.5 effective closing sentences, base 83 (0.05 [0.04, 0.07]); 52 % end in "..." (base: 6 % ...)``."""
    variety = evaluation.diversity
    if variety is None or not has_value(variety.closings.policy):
        return ""
    counted, common = _of(variety, place)
    favourite = common["policy"]
    share, of_base = favourite.share.value, favourite.share_of_other.value
    most = f"{percent(share)} {having(favourite.text, place)} (base: {percent(of_base)})"
    return (
        f"{effective(counted.policy.value)} effective {COUNTED[place]}, base {effective(counted.base.value)} "
        f"({interval(counted.ratio)}); {most if favourite.count > 1 else 'none is there twice'}"
    )


def _of(variety: Diversity, place: Place) -> tuple[EffectiveNumber, Mapping[Side, CommonSentence]]:
    """What is counted there, and each side's most common one."""
    if place == "pattern" and variety.patterns is not None and variety.pattern is not None:
        return variety.patterns, variety.pattern
    return (variety.closings, variety.closing) if place == "end" else (variety.openings, variety.opening)


def direction(difference: Estimate) -> int:
    """1 where the interval lies above 0, -1 below, 0 where it holds 0 or there is none.

    The same change on every prompt has no interval. On 6 prompts or more its sign is significant by the sign test:
    p = 2 / 2^6 = .03.
    """
    if not difference.has_limits:
        return (difference.value > 0) - (difference.value < 0) if difference.n >= 6 else 0
    return (difference.low > 0) - (difference.high < 0)


def _of_scores(evaluation: Evaluation) -> tuple[Mood, list[str]]:
    gold, proxy, kl = evaluation.gold_score, evaluation.score, evaluation.kl_k1
    price = f" at a KL of {number(kl.value, 1)} nats per completion" if has_value(kl) else ""
    n = evaluation.n
    if gold is None or not has_value(gold.difference):
        if proxy is None or not has_value(proxy.difference):
            return "unknown", [f"{n} prompts, no score of either kind: nothing can be said about the policy."]
        return "unknown", [
            f"Not known whether it worked: this task has no gold score. {_moved('Proxy score', proxy)}"
            f"{price}, n = {n}, which is what PPO optimised and no evidence.",
            _second_judge(evaluation),
        ]
    sentences = [f"{_moved('Gold score', gold)}{price}, n = {n}."]
    moods: dict[int, Mood] = {1: "good", 0: "flat", -1: "bad"}
    mood = moods[direction(gold.difference)]
    if mood != "good" and proxy is not None and direction(proxy.difference) > 0:
        sentences.append(
            f"The proxy score rose all the same ({interval(proxy.difference, signed=True)}): "
            "more of what the reward likes, not more of what the task asks for."
        )
    return mood, sentences


def _second_judge(evaluation: Evaluation) -> str:
    """For a task without gold: the verdict of judges that PPO never saw, or the advice to ask one."""
    preferences: list[str] = []
    for name, judged in evaluation.judges.items():
        doubt = judged.trust and judged.trust.doubt
        if has_value(judged.win_rate) and not doubt:
            preferences.append(f"{name} prefers the policy on {interval(judged.win_rate)} of prompts")
    if not preferences:
        return (
            "Read the samples, and ask a second judge, one that gave none of the labels: evaluate.judges takes "
            "another reward model, a function or a language model (docs/metrics.md#judges)."
        )
    return (
        f"Judged by what PPO never saw: {'; '.join(preferences)}. That is evidence only from a judge that gave "
        "none of the labels."
    )


def _moved(name: str, change: Change) -> str:
    verb = {1: "rose", 0: "did not rise measurably:", -1: "fell"}[direction(change.difference)]
    base, policy = number(change.base.value), number(change.policy.value)
    return f"{name} {verb} from {base} to {policy} ({interval(change.difference, signed=True)})"
