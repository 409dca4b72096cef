"""Compare completions of base and policy on the same prompts: scores, lengths, KL, entropy, text statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline.evaluation.policy.degenerate import degenerate_rate
from pipeline.evaluation.policy.length_control import length_controlled_win_rate
from pipeline.evaluation.policy.win_rates import outcomes_by_score, win_rate
from pipeline.results.policy import LengthControlledWinRate, PolicyComparison, SequenceKL, WinRate
from pipeline.results.sides import Change, Side, on_both_sides
from pipeline.statistics.bootstrap import RESAMPLING, Resampling, as_finite, wilson
from pipeline.statistics.intervals import Estimate
from pipeline.texts.words import ngrams, repetition, words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class Sampled:
    """One model's completions of the evaluation prompts, in their order; those of one prompt together.

    Attributes:
        completions: (n,) texts.
        lengths: (n,) tokens, the end token included.
        ended: (n,) False where the length limit cut the completion.
        scores: (n,) of the reward model (the proxy), if there is one.
        gold_scores: (n,) of the task's ground truth, if there is one.
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
        columns = {name: c for name, c in vars(self).items() if c is not None and not isinstance(c, Mapping)}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different lengths: {lengths}")
        if (self.logprobs is None) != (self.ref_logprobs is None):
            raise ValueError("log-probabilities need both the policy's and the reference's")


def compare(
    base: Sampled, policy: Sampled, per_prompt: int = 1, resampling: Resampling = RESAMPLING
) -> PolicyComparison:
    """Base against policy.

    Args:
        per_prompt: completions per prompt on each side, drawn with the same randomness on both.
    Raises:
        ValueError: the two sides differ in length, or hold no whole number of prompts.
        DataError: a score is NaN or infinite.
    """
    _require_pairs(base, policy, per_prompt)
    settings = (np.subtract(policy.lengths, base.lengths), per_prompt, resampling)
    gold, gold_wins, gold_controlled = _by_score(base.gold_scores, policy.gold_scores, *settings)
    proxy, proxy_wins, proxy_controlled = _by_score(base.scores, policy.scores, *settings)
    k1 = k3 = k1_per_token = k3_per_token = entropy = None
    if policy.logprobs is not None and policy.ref_logprobs is not None:
        k1, k3 = kl_per_sequence(policy.logprobs, policy.ref_logprobs, per_prompt, resampling)
        k1_per_token, k3_per_token = kl_per_token(policy.logprobs, policy.ref_logprobs, per_prompt, resampling)
        if base.logprobs is not None:
            entropy = entropy_per_token(base.logprobs, policy.logprobs, per_prompt, resampling)

    def both(measure: Callable[[Sampled], T]) -> dict[Side, T]:
        return on_both_sides(measure, base, policy)

    level = resampling.level
    return PolicyComparison(
        n=len(policy.completions) // per_prompt,
        completions_per_prompt=per_prompt,
        level=level,
        gold_score=gold,
        score=proxy,
        length=change_by_prompt(base.lengths, policy.lengths, per_prompt, resampling),
        win_rate={"gold_score": gold_wins, "score": proxy_wins},
        length_controlled_win_rate={"gold_score": gold_controlled, "score": proxy_controlled},
        kl_k1=k1,
        kl_k3=k3,
        kl_k1_per_token=k1_per_token,
        kl_k3_per_token=k3_per_token,
        entropy=entropy,
        ended=both(lambda side: share(side.ended, per_prompt, level)),
        degenerate=both(lambda side: degenerate_rate(side.completions, side.ended, per_prompt, level)),
        unique=both(lambda side: unique(side.completions)),
        repetition=both(lambda side: repetition(map(words, side.completions))),
        distinct_1=both(lambda side: distinct(side.completions, 1)),
        distinct_2=both(lambda side: distinct(side.completions, 2)),
        distinct_3=both(lambda side: distinct(side.completions, 3)),
    )


def _require_pairs(base: Sampled, policy: Sampled, per_prompt: int) -> None:
    if len(base.completions) != len(policy.completions):
        raise ValueError(f"{len(base.completions)} base and {len(policy.completions)} policy completions")
    if len(policy.completions) % per_prompt:
        raise ValueError(f"{len(policy.completions)} completions are not {per_prompt} of each prompt")


def _by_score(
    before: Sequence[float] | None,
    after: Sequence[float] | None,
    longer: NDArray[np.int64],
    per_prompt: int,
    resampling: Resampling,
) -> tuple[Change, WinRate, LengthControlledWinRate] | tuple[None, None, None]:
    """How a score changed, and how often the policy's is higher; None where a side has no scores."""
    if before is None or after is None:
        return None, None, None
    outcomes = outcomes_by_score(before, after)
    return (
        change_by_prompt(before, after, per_prompt, resampling),
        win_rate(outcomes, per_prompt, resampling.level),
        length_controlled_win_rate(outcomes, longer, per_prompt, resampling.seed, resampling.level),
    )


def change_by_prompt(
    before: ArrayLike, after: ArrayLike, per_prompt: int, resampling: Resampling = RESAMPLING
) -> Change:
    """The change of (n,) values of both sides' completions, those of one prompt averaged first."""
    first, second = by_prompt(before, per_prompt), by_prompt(after, per_prompt)
    return Change(resampling.mean(first), resampling.mean(second), resampling.difference(first, second))


def by_prompt(values: ArrayLike, per_prompt: int) -> NDArray[np.float64]:
    """(n,) means over each prompt's completions, which stand together."""
    return np.asarray(values, np.float64).reshape(-1, per_prompt).mean(1)


def share(happened: Sequence[bool], per_prompt: int = 1, level: float = 0.95) -> Estimate:
    """Share of completions of which something is true, with Wilson's interval over prompts."""
    shares = by_prompt(happened, per_prompt)
    return wilson(float(shares.sum()), len(shares), level)


def kl_per_sequence(
    logprobs: Sequence[Sequence[float]],
    ref_logprobs: Sequence[Sequence[float]],
    per_prompt: int = 1,
    resampling: Resampling = RESAMPLING,
) -> tuple[SequenceKL, SequenceKL]:
    """KL(policy || reference) in nats per sequence, from tokens the policy sampled, by k1 and by k3.

    The estimators are :func:`sequence_kl`'s.
    """

    def summary(each: NDArray[np.float64]) -> SequenceKL:
        values = by_prompt(each, per_prompt)
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return SequenceKL(**vars(resampling.mean(values)), standard_error=error)

    k1, k3 = sequence_kl(logprobs, ref_logprobs)
    return summary(k1), summary(k3)


def kl_per_token(
    logprobs: Sequence[Sequence[float]],
    ref_logprobs: Sequence[Sequence[float]],
    per_prompt: int = 1,
    resampling: Resampling = RESAMPLING,
) -> tuple[Estimate, Estimate]:
    """The same two over all tokens: nats per token, (k1, k3)."""
    lengths = by_prompt([len(row) for row in logprobs], per_prompt)
    k1, k3 = (by_prompt(each, per_prompt) for each in sequence_kl(logprobs, ref_logprobs))
    return resampling.mean(ratio_parts(k1, lengths)), resampling.mean(ratio_parts(k3, lengths))


def entropy_per_token(
    base: Sequence[Sequence[float]],
    policy: Sequence[Sequence[float]],
    per_prompt: int = 1,
    resampling: Resampling = RESAMPLING,
) -> Change:
    """Entropy of the next token in nats, mean over all tokens: minus the mean log-probability of what was sampled.

    Unbiased for the distribution that was sampled from, so the log-probabilities have to be those of that
    distribution, temperature included, and sampled at a temperature above 0.

    Args:
        base, policy: (n,) lists of (T,) log-probabilities of each side's own tokens under itself.
    """

    def parts(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        totals = [-float(as_finite(row, "logprobs").sum()) for row in rows]
        return ratio_parts(by_prompt(totals, per_prompt), by_prompt([len(row) for row in rows], per_prompt))

    first, second = parts(base), parts(policy)
    # A side without tokens has no entropy.
    pairs = (first, second) if len(first) == len(second) else ((), ())
    return Change(resampling.mean(first), resampling.mean(second), resampling.difference(*pairs))


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


def unique(completions: Sequence[str]) -> float | None:
    """Share of completions that are different texts; None of no completion."""
    return len(set(completions)) / len(completions) if completions else None
