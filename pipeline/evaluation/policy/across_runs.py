"""Two policies on the prompts that both were evaluated on, paired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.statistics.bootstrap import RESAMPLING, Resampling
from pipeline.statistics.intervals import Estimate

PairedMeasure = Literal["gold_score", "score", "kl_k1", "length"]
COLUMNS: dict[PairedMeasure, str] = {
    "gold_score": "policy_gold_score",
    "score": "policy_score",
    "kl_k1": "policy_kl_k1",
    "length": "policy_length",
}


@dataclass(frozen=True)
class PairedRuns:
    """A measure of two policies, and second less first, paired by prompt."""

    first: Estimate
    second: Estimate
    difference: Estimate


@dataclass(frozen=True)
class SharedPrompts:
    """Two policies on ``prompts`` shared prompts.

    Attributes:
        measures: those that both sides know of every shared prompt.
    """

    prompts: int
    measures: Mapping[PairedMeasure, PairedRuns]


def on_shared_prompts(
    first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]], resampling: Resampling = RESAMPLING
) -> SharedPrompts:
    """Compare the rows of two evaluations; several completions of one prompt are averaged first."""
    sides = _by_prompt(first), _by_prompt(second)
    shared = [prompt for prompt in sides[0] if prompt in sides[1]]
    measures: dict[PairedMeasure, PairedRuns] = {}
    for name in COLUMNS if shared else ():
        before, after = ([side[prompt][name] for prompt in shared] for side in sides)
        if not np.isnan([*before, *after]).any():
            difference = resampling.difference(before, after)
            measures[name] = PairedRuns(resampling.mean(before), resampling.mean(after), difference)
    return SharedPrompts(len(shared), measures)


def _by_prompt(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[PairedMeasure, float]]:
    """Means of each prompt's completions, in the order of the prompts; NaN where one is unknown."""
    by_prompt: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_prompt[row["prompt"]].append(row)
    return {
        prompt: {
            name: float(np.mean([np.nan if row.get(column) is None else row[column] for row in own]))
            for name, column in COLUMNS.items()
        }
        for prompt, own in by_prompt.items()
    }
