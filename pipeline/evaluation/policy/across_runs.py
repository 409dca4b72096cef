"""Two policies on the prompts that both were evaluated on, paired. Leaves out reading them: rows come in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.statistics.bootstrap import bootstrap_mean, paired_difference

MEASURES = {
    "gold_score": "policy_gold_score",
    "score": "policy_score",
    "kl_k1": "policy_kl_k1",
    "length": "policy_length",
}


def on_shared_prompts(
    first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]], seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """Second less first, over the prompts of both; several completions of one prompt are averaged first.

    Args:
        first, second: rows of two evaluations.
    Returns:
        prompts (how many are shared); gold_score, score, kl_k1 and length: first, second, difference (paired by
        prompt), each value, low, high, n; None without shared prompts, or where a side does not know it.
    """
    sides = [_by_prompt(rows) for rows in (first, second)]
    shared = [prompt for prompt in sides[0] if prompt in sides[1]]
    out: dict[str, Any] = {"prompts": len(shared)}
    for name in MEASURES:
        values = [[side[prompt][name] for prompt in shared] for side in sides]
        known = [[v for v in side if v is not None] for side in values]
        if not shared or known != values:
            out[name] = None
            continue
        before, after = known
        out[name] = {
            "first": bootstrap_mean(before, seed, level).as_dict(),
            "second": bootstrap_mean(after, seed, level).as_dict(),
            "difference": paired_difference(before, after, seed, level).as_dict(),
        }
    return out


def _by_prompt(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Means of each prompt's completions, in the order of the prompts; None where one is unknown."""
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: {name: [] for name in MEASURES})
    for row in rows:
        for name, column in MEASURES.items():
            found[row["prompt"]][name].append(row.get(column))
    return {
        prompt: {name: None if None in values else float(np.mean(values)) for name, values in columns.items()}
        for prompt, columns in found.items()
    }
