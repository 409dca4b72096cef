"""The figures of one update, under TRL's names where it has one. docs/metrics.md explains each."""

from __future__ import annotations

import math
import statistics
from collections import Counter

from torch import Tensor

from pipeline.functional.kl import kl_k1, kl_k3
from pipeline.functional.masks import explained_variance, masked_mean, masked_var
from pipeline.scoring.scorer import Samples
from pipeline.texts.diversity import closings, effective_number
from pipeline.texts.sentences import same
from pipeline.texts.words import repetition
from pipeline.trainers.ppo.held_out import HeldOutEval, OveroptimisationMonitor
from pipeline.trainers.ppo.rollout import Rollout


def rollout_metrics(
    rollout: Rollout, score: Tensor, penalty: Tensor, advantages: Tensor, returns: Tensor
) -> dict[str, float]:
    """Figures of what was sampled; those per token count real tokens only.

    Args:
        score: (B,) as it entered the reward.
        penalty: (B, T) KL penalty, coefficient included.
        advantages: (B, T) before whitening.
        returns: (B, T).
    """
    mask, lengths = rollout.completion_mask, rollout.lengths.float()
    k1 = (kl_k1(rollout.old_logprobs, rollout.ref_logprobs) * mask).sum(1)
    k3 = (kl_k3(rollout.old_logprobs, rollout.ref_logprobs) * mask).sum(1)
    non_score = -penalty.sum(1).mean()
    figures = {
        "objective/kl": k1.mean(),
        "objective/kl_k3": k3.mean(),
        "objective/kl_per_token": k1.sum() / lengths.sum(),
        "objective/entropy": -(rollout.old_logprobs * mask).sum(1).mean(),
        "objective/non_score_reward": non_score,
        "objective/rlhf_reward": non_score + score.mean(),
        "objective/scores": rollout.score.mean(),
        "objective/scores_std": rollout.score.std(correction=0),
        "val/num_eos_tokens": rollout.ended.sum(),
        "val/explained_variance": explained_variance(rollout.old_values, returns, mask),
        "val/returns_mean": masked_mean(returns, mask),
        "val/returns_var": masked_var(returns, mask),
        "val/advantages_var": masked_var(advantages, mask),
        "length/mean": lengths.mean(),
        "length/max": lengths.max(),
        "eos_rate": rollout.ended.float().mean(),
        "text/repetition": repetition(rollout.completions()) or 0.0,
    }
    return {k: float(v) for k, v in figures.items()}


def training_metrics(steps: list[dict[str, float]]) -> dict[str, float]:
    """Means over the update's optimiser steps, each a mean over the tokens of its minibatch."""
    mean = {k: sum(row[k] for row in steps) / len(steps) for k in steps[0]}
    return {
        "policy/approxkl_avg": mean["approxkl"],
        "policy/clipfrac_avg": mean["pg_clipped"],
        "policy/entropy_avg": mean["entropy"],
        "policy/grad_norm": mean["grad_norm"],
        "policy/steps": float(len(steps)),
        "loss/policy_avg": mean["pg"],
        "loss/value_avg": mean["vf"],
        "val/clipfrac_avg": mean["vf_clipped"],
        "val/ratio": mean["ratio"],
        "val/ratio_var": max(mean["ratio2"] - mean["ratio"] ** 2, 0.0),
        "val/ratio_first": steps[0]["ratio"],
    }


def held_out_eval(update: int, rollout: Rollout, samples: Samples, checks: list[float]) -> HeldOutEval:
    """The held-out figures of the policy after ``update`` updates.

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
    """The figures of an evaluation that ``monitor`` has compared with those before."""
    figures = {
        "eval/scores": held.score,
        "eval/kl": held.kl,
        "eval/length": float(rollout.lengths.float().mean()),
    }
    if held.closings is not None:
        figures["eval/closings"] = held.closings
    if (left := monitor.closings_left(held)) is not None:
        figures["eval/closings_left"] = left
    if held.check is not None:
        error = statistics.pstdev(held.checks) / math.sqrt(max(len(held.checks) - 1, 1))
        figures |= {"eval/check": held.check, "eval/check_error": error}
    if held.fall_error is not None:
        figures["eval/check_fall_error"] = held.fall_error
    return figures
