"""What did PPO change? Base against policy on the same prompts. Leaves out generating and scoring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.policy.degenerate import degenerate_rate
from pipeline.evaluation.policy.length_control import length_controlled_win_rate
from pipeline.evaluation.policy.verdicts import outcomes_by_score, win_rate_of
from pipeline.statistics.bootstrap import RESAMPLES, as_finite, bootstrap_mean, finite, paired_difference, wilson
from pipeline.texts.words import ngrams, repetition, words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Sampled:
    """One model's completions of the evaluation prompts, in their order; those of one prompt together.

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
    base: Sampled,
    policy: Sampled,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    per_prompt: int = 1,
) -> dict[str, Any]:
    """Base against policy, as plain JSON.

    Every interval treats prompts as the unit: several completions of one prompt are averaged first.

    Args:
        per_prompt: completions per prompt on each side, drawn with the same randomness on both.
    Returns:
        n (prompts); gold_score, score, length: base, policy, difference (policy - base, paired), or None where
        unknown; win_rate.gold_score, win_rate.score: see :func:`win_rate`; length_controlled_win_rate by the same
        two; kl_k1, kl_k3: nats per sequence with standard_error, and the two per token; entropy: nats per token,
        base, policy, difference; ended, degenerate, unique, repetition, distinct_1, _2, _3: base and policy, in
        0 .. 1.
    Raises:
        ValueError: the two sides differ in length, or hold no whole number of prompts.
        DataError: a score is NaN or infinite.
    """
    if len(base.completions) != len(policy.completions):
        raise ValueError(f"{len(base.completions)} base and {len(policy.completions)} policy completions")
    if len(policy.completions) % per_prompt:
        raise ValueError(f"{len(policy.completions)} completions are not {per_prompt} of each prompt")

    def change(before: ArrayLike | None, after: ArrayLike | None) -> dict[str, Any] | None:
        if before is None or after is None:
            return None
        return change_by_prompt(before, after, per_prompt, seed, level, resamples)

    def controlled(before: Sequence[float] | None, after: Sequence[float] | None) -> dict[str, Any] | None:
        if before is None or after is None:
            return None
        longer = np.subtract(policy.lengths, base.lengths)
        return length_controlled_win_rate(outcomes_by_score(before, after), longer, per_prompt, seed, level)

    out: dict[str, Any] = {
        "n": len(policy.completions) // per_prompt,
        "completions_per_prompt": per_prompt,
        "level": level,
        "gold_score": change(base.gold_scores, policy.gold_scores),
        "score": change(base.scores, policy.scores),
        "length": change(base.lengths, policy.lengths),
        "win_rate": {
            "gold_score": win_rate(base.gold_scores, policy.gold_scores, level, per_prompt),
            "score": win_rate(base.scores, policy.scores, level, per_prompt),
        },
        "length_controlled_win_rate": {
            "gold_score": controlled(base.gold_scores, policy.gold_scores),
            "score": controlled(base.scores, policy.scores),
        },
        **dict.fromkeys(("kl_k1", "kl_k3", "kl_k1_per_token", "kl_k3_per_token", "entropy")),
        **_text_metrics(base, policy, level, per_prompt),
    }
    if policy.logprobs is not None and policy.ref_logprobs is not None:
        given = (policy.logprobs, policy.ref_logprobs, seed, level, resamples, per_prompt)
        out["kl_k1"], out["kl_k3"] = kl_per_sequence(*given)
        out["kl_k1_per_token"], out["kl_k3_per_token"] = kl_per_token(*given)
        if base.logprobs is not None:
            out["entropy"] = entropy_per_token(base.logprobs, policy.logprobs, *given[2:])
    return out


def change_by_prompt(
    before: ArrayLike,
    after: ArrayLike,
    per_prompt: int,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """{base, policy, difference} of (n,) values of both sides' completions, those of one prompt averaged first."""
    first, second = by_prompt(before, per_prompt), by_prompt(after, per_prompt)
    return {
        "base": bootstrap_mean(first, seed, level, resamples).as_dict(),
        "policy": bootstrap_mean(second, seed, level, resamples).as_dict(),
        "difference": paired_difference(first, second, seed, level, resamples).as_dict(),
    }


def by_prompt(values: ArrayLike, per_prompt: int) -> NDArray[np.float64]:
    """(n,) means over each prompt's completions, which stand together."""
    return np.asarray(values, np.float64).reshape(-1, per_prompt).mean(1)


def win_rate(
    before: Sequence[float] | None, after: Sequence[float] | None, level: float = 0.95, per_prompt: int = 1
) -> dict[str, Any] | None:
    """Share of prompts on which ``after`` is higher; ties count half. None without scores."""
    if before is None or after is None:
        return None
    return win_rate_of(outcomes_by_score(before, after), per_prompt, level)


def kl_per_sequence(
    logprobs: Sequence[Sequence[float]],
    ref_logprobs: Sequence[Sequence[float]],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    per_prompt: int = 1,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """KL(policy || reference) in nats per sequence, from tokens the policy sampled: the estimators k1 and k3.

    Returns:
        (k1, k3), each value, low, high, n, standard_error; see :func:`sequence_kl`.
    """

    def summary(each: NDArray[np.float64]) -> dict[str, Any]:
        values = by_prompt(each, per_prompt)
        interval = bootstrap_mean(values, seed, level, resamples)
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return {**interval.as_dict(), "standard_error": finite(error)}

    k1, k3 = sequence_kl(logprobs, ref_logprobs)
    return summary(k1), summary(k3)


def kl_per_token(
    logprobs: Sequence[Sequence[float]],
    ref_logprobs: Sequence[Sequence[float]],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    per_prompt: int = 1,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same two over all tokens: nats per token, (k1, k3)."""
    lengths = by_prompt([len(row) for row in logprobs], per_prompt)
    k1, k3 = (by_prompt(each, per_prompt) for each in sequence_kl(logprobs, ref_logprobs))
    first, second = (
        bootstrap_mean(ratio_parts(total, lengths), seed, level, resamples).as_dict() for total in (k1, k3)
    )
    return first, second


def entropy_per_token(
    base: Sequence[Sequence[float]],
    policy: Sequence[Sequence[float]],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    per_prompt: int = 1,
) -> dict[str, Any]:
    """Entropy of the next token in nats, mean over all tokens: minus the mean log-probability of what was sampled.

    Unbiased for the distribution that was sampled from, so the log-probabilities have to be those of that
    distribution, temperature included, and sampled at a temperature above 0.

    Args:
        base, policy: (n,) lists of (T,) log-probabilities of each side's own tokens under itself.
    Returns:
        base, policy, difference (policy - base, paired by prompt).
    """

    def parts(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        totals = [-float(as_finite(row, "logprobs").sum()) for row in rows]
        return ratio_parts(by_prompt(totals, per_prompt), by_prompt([len(row) for row in rows], per_prompt))

    first, second = parts(base), parts(policy)
    return {
        "base": bootstrap_mean(first, seed, level, resamples).as_dict(),
        "policy": bootstrap_mean(second, seed, level, resamples).as_dict(),
        "difference": paired_difference(first, second, seed, level, resamples).as_dict()
        if len(first) == len(second)
        else None,
    }


def ratio_parts(totals: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) values whose mean is sum(totals) / sum(counts), and whose scatter is that ratio's to first order.

    Long completions weigh more in a mean over tokens, and their number of tokens is random too: r + (t - r c) /
    mean(c), the ratio with its influence function (Cochran 1977, section 6.3). Empty where nothing was counted.
    """
    if counts.sum() == 0:
        return np.zeros(0)
    ratio = totals.sum() / counts.sum()
    return ratio + (totals - ratio * counts) / counts.mean()


def sequence_kl(
    logprobs: Sequence[Sequence[float]], ref_logprobs: Sequence[Sequence[float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) k1 and (n,) k3 of each sequence, in nats.

    With d = logprob - ref_logprob per token, k1 sums d (unbiased, may be negative for a sequence) and k3 sums
    exp(-d) - 1 + d (never negative, less variance while d is small): J. Schulman, "Approximating KL
    divergence", 2020. A sequence of no tokens counts 0.

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
    return k1, k3


def distinct(completions: Sequence[str], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all completions (Li et al. 2016, arXiv:1510.03055).

    It falls as text grows: compare it only between sides of similar length and number. None without n-grams.
    """
    grams = [gram for text in completions for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


def _text_metrics(base: Sampled, policy: Sampled, level: float, per_prompt: int) -> dict[str, Any]:
    def ended(side: Sampled) -> dict[str, Any]:
        share = by_prompt(side.ended, per_prompt)
        return wilson(float(share.sum()), len(share), level).as_dict()

    def unique(side: Sampled) -> float | None:
        return len(set(side.completions)) / len(side.completions) if side.completions else None

    def both(measure: Any) -> dict[str, Any]:
        return {"base": measure(base), "policy": measure(policy)}

    return {
        "ended": both(ended),
        "degenerate": both(lambda side: degenerate_rate(side.completions, side.ended, per_prompt, level)),
        "unique": both(unique),
        "repetition": both(lambda side: repetition(map(words, side.completions))),
        **{f"distinct_{n}": both(lambda side, n=n: distinct(side.completions, n)) for n in (1, 2, 3)},
    }
