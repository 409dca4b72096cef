"""Compute the metrics of one update, under TRL's names where they exist; docs/metrics.md explains each."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from torch import Tensor

from pipeline.functional.kl import kl_k1, kl_k3
from pipeline.functional.masks import explained_variance, masked_mean, masked_var
from pipeline.results.metrics import Logged
from pipeline.scoring.scorer import Samples
from pipeline.texts.diversity import closings, effective_number
from pipeline.texts.sentences import same
from pipeline.texts.words import repetition
from pipeline.trainers.ppo.held_out import HeldOutEval, OveroptimisationMonitor
from pipeline.trainers.ppo.rollout import Rollout


def rollout_metrics(
    rollout: Rollout, score: Tensor, penalty: Tensor, advantages: Tensor, returns: Tensor
) -> dict[str, float]:
    """Metrics of the rollout; those per token do not count padding.

    Args:
        score: (B,) the final score, as in the reward.
        penalty: (B, T) KL penalty, coefficient included.
        advantages: (B, T) before whitening.
        returns: (B, T).
    """
    mask, lengths = rollout.completion_mask, rollout.lengths.float()
    k1 = (kl_k1(rollout.old_logprobs, rollout.ref_logprobs) * mask).sum(1)
    k3 = (kl_k3(rollout.old_logprobs, rollout.ref_logprobs) * mask).sum(1)
    non_score = -penalty.sum(1).mean()
    figures = {
        Logged.KL: k1.mean(),
        Logged.KL_K3: k3.mean(),
        Logged.KL_PER_TOKEN: k1.sum() / lengths.sum(),
        Logged.LOG_LIKELIHOOD: -(rollout.old_logprobs * mask).sum(1).mean(),
        Logged.NON_SCORE: non_score,
        Logged.RLHF_REWARD: non_score + score.mean(),
        Logged.SCORES: rollout.score.mean(),
        Logged.SCORES_STD: rollout.score.std(correction=0),
        Logged.ENDED_COUNT: rollout.ended.sum(),
        Logged.EXPLAINED: explained_variance(rollout.old_values, returns, mask),
        Logged.RETURNS_MEAN: masked_mean(returns, mask),
        Logged.RETURNS_VAR: masked_var(returns, mask),
        Logged.ADVANTAGES_VAR: masked_var(advantages, mask),
        Logged.LENGTH: lengths.mean(),
        Logged.LONGEST: lengths.max(),
        Logged.ENDED: rollout.ended.float().mean(),
        Logged.REPETITION: repetition(rollout.completions()) or 0.0,
    }
    return {k: float(v) for k, v in figures.items()}


def training_metrics(steps: list[dict[str, float]]) -> dict[str, float]:
    """Means over the update's optimiser steps, each a mean over the tokens of its minibatch."""
    mean = {k: sum(row[k] for row in steps) / len(steps) for k in steps[0]}
    return {
        Logged.APPROX_KL: mean["approxkl"],
        Logged.CLIPPED: mean["pg_clipped"],
        Logged.ENTROPY: mean["entropy"],
        Logged.GRAD_NORM: mean["grad_norm"],
        Logged.STEPS: float(len(steps)),
        Logged.POLICY_LOSS: mean["pg"],
        Logged.VALUE_LOSS: mean["vf"],
        Logged.VALUES_CLIPPED: mean["vf_clipped"],
        Logged.RATIO: mean["ratio"],
        Logged.RATIO_VAR: max(mean["ratio2"] - mean["ratio"] ** 2, 0.0),
        Logged.RATIO_FIRST: steps[0]["ratio"],
    }


def held_out_eval(update: int, rollout: Rollout, samples: Samples, checks: list[float]) -> HeldOutEval:
    """The held-out evaluation of the policy after ``update`` updates.

    Args:
        samples: the rollout's, as scorers read them.
        checks: the judge's score of each; empty without a judge.
    """
    kl = (kl_k1(rollout.old_logprobs, rollout.ref_logprobs) * rollout.completion_mask).sum(1).mean()
    counts = Counter(map(same, closings(samples.completions, rollout.ended.tolist())))
    return HeldOutEval(
        update, float(kl), float(rollout.score.mean()), checks, closings=effective_number(counts.values())
    )


def held_out_metrics(held: HeldOutEval, monitor: OveroptimisationMonitor, rollout: Rollout) -> dict[str, float]:
    """The metrics of an evaluation that ``monitor`` has compared with the earlier ones."""
    figures: dict[str, float] = {
        Logged.HELD_SCORES: held.score,
        Logged.HELD_KL: held.kl,
        Logged.HELD_LENGTH: float(rollout.lengths.float().mean()),
    }
    if held.closings is not None:
        figures[Logged.HELD_CLOSINGS] = held.closings
    if (left := monitor.closings_left(held)) is not None:
        figures[Logged.CLOSINGS_LEFT] = left
    if held.check is not None:
        error = statistics.pstdev(held.checks) / math.sqrt(max(len(held.checks) - 1, 1))
        figures |= {Logged.CHECK: held.check, Logged.CHECK_ERROR: error}
    if held.fall_error is not None:
        figures[Logged.CHECK_FALL_ERROR] = held.fall_error
    return figures
