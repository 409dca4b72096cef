"""What did PPO change? Base against policy on the same prompts. Leaves out generating and scoring."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.intervals import (
    RESAMPLES,
    Interval,
    as_finite,
    bootstrap_mean,
    finite,
    paired_difference,
    wilson,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WORD = re.compile(r"\w+|[^\w\s]")
REPETITION_NGRAM = 4


@dataclass(frozen=True)
class Sampled:
    """One model's completions of the evaluation prompts, in the order of the prompts.

    Attributes:
        completions: (n,) texts.
        lengths: (n,) tokens, the one that ended it included.
        ended: (n,) True where the model stopped by itself, False where the length limit cut it.
        scores: (n,) of the reward model (the proxy), where there is one.
        gold_scores: (n,) of the task's ground truth, where there is one.
        logprobs, ref_logprobs: (n,) lists of (T,) log-probabilities of the sampled tokens, in nats, under the
            model that sampled them and under the reference, at the temperature of the sampling.
    """

    completions: Sequence[str]
    lengths: Sequence[int]
    ended: Sequence[bool]
    scores: Sequence[float] | None = None
    gold_scores: Sequence[float] | None = None
    logprobs: Sequence[Sequence[float]] | None = None
    ref_logprobs: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in vars(self).items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different lengths: {lengths}")
        if (self.logprobs is None) != (self.ref_logprobs is None):
            raise ValueError("log-probabilities need both the policy's and the reference's")


def compare(
    base: Sampled, policy: Sampled, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Base against policy, one completion per prompt each, as plain JSON.

    Every interval treats prompts as the unit, so a prompt that is asked twice should be averaged first.

    Returns:
        gold_score, score, length: base, policy, difference (policy - base, paired), or None where unknown;
        win_rate.gold_score, win_rate.score: see :func:`win_rate`; kl_k1, kl_k3: nats per sequence with
        standard_error; ended, unique, repetition, distinct_1, _2, _3: base and policy, in 0 .. 1.
    Raises:
        ValueError: the two sides differ in length.
        DataError: a score is NaN or infinite.
    """
    if len(base.completions) != len(policy.completions):
        raise ValueError(f"{len(base.completions)} base and {len(policy.completions)} policy completions")

    def change(before: ArrayLike | None, after: ArrayLike | None) -> dict[str, Any] | None:
        if before is None or after is None:
            return None
        return {
            "base": bootstrap_mean(before, seed, level, resamples).as_dict(),
            "policy": bootstrap_mean(after, seed, level, resamples).as_dict(),
            "difference": paired_difference(before, after, seed, level, resamples).as_dict(),
        }

    out: dict[str, Any] = {
        "n": len(policy.completions),
        "level": level,
        "gold_score": change(base.gold_scores, policy.gold_scores),
        "score": change(base.scores, policy.scores),
        "length": change(base.lengths, policy.lengths),
        "win_rate": {
            "gold_score": win_rate(base.gold_scores, policy.gold_scores, level),
            "score": win_rate(base.scores, policy.scores, level),
        },
        "kl_k1": None,
        "kl_k3": None,
        **_text_metrics(base, policy, level),
    }
    if policy.logprobs is not None and policy.ref_logprobs is not None:
        out["kl_k1"], out["kl_k3"] = kl_per_sequence(policy.logprobs, policy.ref_logprobs, seed, level, resamples)
    return out


def win_rate(
    before: Sequence[float] | None, after: Sequence[float] | None, level: float = 0.95
) -> dict[str, Any] | None:
    """Share of prompts on which ``after`` is higher; ties count half. None without scores."""
    if before is None or after is None:
        return None
    difference = as_finite(after, "policy scores") - as_finite(before, "base scores")
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    ties = len(difference) - wins - losses
    share = wilson(wins + ties / 2, len(difference), level)
    return {**share.as_dict(), "wins": wins, "ties": ties, "losses": losses}


def kl_per_sequence(
    logprobs: Sequence[Sequence[float]],
    ref_logprobs: Sequence[Sequence[float]],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """KL(policy || reference) in nats per sequence, from tokens the policy sampled: the estimators k1 and k3.

    With d = logprob - ref_logprob per token, k1 sums d (unbiased, may be negative for a sequence) and k3 sums
    exp(-d) - 1 + d (never negative, less variance while d is small): J. Schulman, "Approximating KL
    divergence", 2020. A sequence of no tokens counts 0.

    Returns:
        (k1, k3), each value, low, high, n, standard_error.
    Raises:
        ValueError: a sequence has different numbers of tokens on the two sides.
    """
    k1, k3 = np.zeros(len(logprobs)), np.zeros(len(logprobs))
    for i, (own, ref) in enumerate(zip(logprobs, ref_logprobs, strict=True)):
        if len(own) != len(ref):
            raise ValueError(f"sequence {i}: {len(own)} log-probabilities, {len(ref)} of the reference")
        d = as_finite(own, "logprobs") - as_finite(ref, "ref_logprobs")
        k1[i] = d.sum()
        k3[i] = (np.expm1(-d) + d).sum()

    def summary(values: NDArray[np.float64]) -> dict[str, Any]:
        interval = bootstrap_mean(values, seed, level, resamples)
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return {**interval.as_dict(), "standard_error": finite(error)}

    return summary(k1), summary(k3)


def distinct(completions: Sequence[str], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all completions (Li et al. 2016, arXiv:1510.03055).

    It falls as text grows: compare it only between sides of similar length and number. None without n-grams.
    """
    grams = [gram for text in completions for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(completions: Sequence[str], n: int = REPETITION_NGRAM) -> float | None:
    """Mean over completions of the share of n-grams that repeat an earlier one; None if all are too short."""
    shares = []
    for text in completions:
        grams = ngrams(text, n)
        if grams:
            shares.append(1 - len(set(grams)) / len(grams))
    return float(np.mean(shares)) if shares else None


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All runs of ``n`` words or punctuation marks, lower-cased."""
    words = WORD.findall(text.lower())
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _text_metrics(base: Sampled, policy: Sampled, level: float) -> dict[str, Any]:
    def ended(side: Sampled) -> Interval:
        return wilson(sum(map(bool, side.ended)), len(side.ended), level)

    def unique(side: Sampled) -> float | None:
        return len(set(side.completions)) / len(side.completions) if side.completions else None

    def both(measure: Any) -> dict[str, Any]:
        return {"base": measure(base), "policy": measure(policy)}

    return {
        "ended": both(lambda side: ended(side).as_dict()),
        "unique": both(unique),
        "repetition": both(lambda side: repetition(side.completions)),
        **{f"distinct_{n}": both(lambda side, n=n: distinct(side.completions, n)) for n in (1, 2, 3)},
    }
