"""The verdict on a policy in a few sentences, as the console says it and the report's first lines do.

That it collapsed comes before that it rose: a score says nothing of whether it is one text again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pipeline.statistics.spelling import dig, interval, number
from pipeline.store.starting_policy import SENTENCE
from pipeline.texts.collapse import Place, having, percent
from pipeline.texts.collapse import number as effective

Mood = Literal["good", "flat", "bad", "unknown"]

PLACES: tuple[tuple[Place, str, str], ...] = (("end", "closing", "closings"), ("begin", "opening", "openings"))


def headline(stats: Mapping[str, Any] | None) -> tuple[Mood, str]:
    """(good | flat | bad | unknown, the sentences of :func:`verdict` as one text)."""
    mood, sentences = verdict(stats)
    return mood, " ".join(sentences)


def verdict(stats: Mapping[str, Any] | None) -> tuple[Mood, list[str]]:
    """That nothing was kept, collapse, gold, diversity. Gold decides; the proxy alone is no evidence."""
    if not stats or not stats.get("n"):
        return "unknown", ["The policy has not been evaluated yet."]
    if stats.get("starting_policy"):
        return "bad", [SENTENCE, *verdict({**stats, "starting_policy": False})[1]]
    mood, sentences = _of_scores(stats)
    collapse, variety = dig(stats, "diversity", "collapse"), diversity(stats)
    if not variety:
        return mood, sentences
    if not collapse:
        return mood, [*sentences, f"Diversity: {variety}."]
    # A policy that gives one answer to everything is no good result, however its score moved.
    return "bad", [f"Collapsed: {diversity(stats, collapse['place'])}.", *sentences]


def diversity(stats: Mapping[str, Any], place: Place = "end") -> str:
    """``4.5 effective closing sentences, base 83 (0.05 [0.04, 0.07]); 52 % end in "..." (base: 6 % ...)``."""
    name, key, numbers = next(row for row in PLACES if row[0] == place)
    found, favourite = dig(stats, "diversity", numbers), dig(stats, "diversity", key, "policy")
    if not _has_value(dig(found, "policy")) or not favourite:
        return ""
    what = "closing" if name == "end" else "first"
    own, other = favourite["share"]["value"], favourite["share_of_other"]["value"]
    now, before = (effective(found[side]["value"]) for side in ("policy", "base"))
    return (
        f"{now} effective {what} sentences, base {before} "
        f"({interval(found['ratio'])}); {percent(own)} {having(favourite['text'], place)} (base: {percent(other)})"
    )


def direction(difference: Mapping[str, Any]) -> int:
    """1 where the interval lies above 0, -1 below, 0 where it holds 0 or there is none.

    The same change on every prompt has no interval. On 6 prompts or more its sign is no chance: p = 2 / 2^6 = .03
    by the sign test.
    """
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None:
        value, n = difference.get("value"), difference.get("n")
        return (value > 0) - (value < 0) if value is not None and n is not None and n >= 6 else 0
    return (low > 0) - (high < 0)


def _of_scores(stats: Mapping[str, Any]) -> tuple[Mood, list[str]]:
    gold, proxy = dig(stats, "gold_score", "difference"), dig(stats, "score", "difference")
    kl = dig(stats, "kl_k1", "value")
    price = "" if kl is None else f" at a KL of {number(kl, 1)} nats per completion"
    n = stats["n"]
    if not _has_value(gold):
        if not _has_value(proxy):
            return "unknown", [f"{n} prompts, no score of either kind: nothing can be said about the policy."]
        return "unknown", [
            f"Not known whether it worked: this task has no gold score. {_moved('Proxy score', stats['score'])}"
            f"{price}, n = {n}, which is what PPO optimised and no evidence.",
            *_second_judge(stats),
        ]
    sentences = [f"{_moved('Gold score', stats['gold_score'])}{price}, n = {n}."]
    mood: Mood = {1: "good", 0: "flat", -1: "bad"}[direction(gold)]  # type: ignore[assignment]
    if mood != "good" and _has_value(proxy) and direction(proxy) > 0:
        sentences.append(
            f"The proxy score rose all the same ({interval(proxy, signed=True)}): "
            "more of what the reward likes, not more of what the task asks for."
        )
    return mood, sentences


def _second_judge(stats: Mapping[str, Any]) -> list[str]:
    """Of a task without gold: what judges say that PPO never saw, or how to ask one."""
    judges = {name: s["win_rate"] for name, s in (dig(stats, "judges") or {}).items() if _has_value(s["win_rate"])}
    if not judges:
        return [
            "Read the samples, and ask a second judge, one that gave none of the labels: evaluate.judges takes "
            "another reward model, a function or a language model (docs/metrics.md#judges)."
        ]
    said = "; ".join(f"{name} prefers the policy on {interval(wins)} of prompts" for name, wins in judges.items())
    return [
        f"Judged by what PPO never saw: {said}. That is evidence only from a judge that gave none of the labels."
    ]


def _has_value(entry: Mapping[str, Any] | None) -> bool:
    return bool(entry) and entry is not None and entry.get("value") is not None


def _moved(name: str, change: Mapping[str, Any]) -> str:
    verb = {1: "rose", 0: "did not rise measurably:", -1: "fell"}[direction(change["difference"])]
    base, policy = (number(change[side]["value"]) for side in ("base", "policy"))
    return f"{name} {verb} from {base} to {policy} ({interval(change['difference'], signed=True)})"
