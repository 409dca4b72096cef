"""Best-of-n's figures of one evaluation, from what was sampled of the base. Leaves out the statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.records import digest
from pipeline.evaluation.policy.best_of_n import best_of, best_of_n
from pipeline.evaluation.policy.diversity_best_of_n import best_of_n_diversity
from pipeline.evaluation.policy.policy_metrics import by_prompt, sequence_kl
from pipeline.stages.evaluate.history import missing_eos_penalty
from pipeline.stages.evaluate.sampled_sides import Found
from pipeline.texts.diversity import closings
from pipeline.workflow.stage import Run


@dataclass(frozen=True)
class Given:
    """What ``evaluate`` was told.

    Attributes:
        ns: the n of best-of-n, ascending.
        draws: completions per prompt and side.
    """

    ns: Sequence[int]
    draws: int
    seed: int
    temperature: float


def best_of_base(run: Run, found: Found, given: Given) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(best-of-n's figures, or the reason why there are none; a row per prompt and n)."""
    if not found.best:
        return {"reason": "off" if given.temperature else "at temperature 0 all samples are the same"}, []
    names = [k for k in found.best[0][0] if k != "closing"]
    numbers = {k: np.array([[row[k] for row in rows] for rows in found.best]) for k in names}
    by, side = numbers.pop("chosen_by"), found.policy
    own: dict[str, Any] = {"score": side.scores, "gold_score": side.gold_scores}
    own |= {f"judge:{name}": scores for name, scores in side.judged.items()}
    own = {name: by_prompt(own[name], given.draws)[: len(by)] for name in numbers}
    kl = by_prompt(sequence_kl(side.logprobs, side.ref_logprobs)[0], given.draws)[: len(by)]
    stats = best_of_n(by, numbers, given.ns, own, kl, given.seed)
    stats |= {"missing_eos_penalty": missing_eos_penalty(run), "reason": None}
    curves = {name: best_of(by, numbers[name], given.ns) for name in ("score", "gold_score") if name in numbers}
    rows = [
        {
            "id": digest([i, found.prompts[i], n]),
            "prompt": found.prompts[i],
            "n": n,
            "gold_score": None,
            **{name: float(curve[i, j]) for name, curve in curves.items()},
        }
        for i in range(len(by))
        for j, n in enumerate(given.ns)
    ]
    return stats, rows


def best_of_n_closings(found: Found, given: Given) -> dict[str, Any] | None:
    """Best-of-n's closing sentences beside the base's and the policy's, on its prompts; None where it is off."""
    if not found.best:
        return None
    by, ends = ([[row[k] for row in rows] for rows in found.best] for k in ("chosen_by", "closing"))
    own = closings(found.policy.completions, found.policy.ended)
    of_prompts = [own[i * given.draws : (i + 1) * given.draws] for i in range(len(ends))]
    return best_of_n_diversity(by, ends, given.ns, of_prompts, given.seed)
