"""Compare two policies, paired by the prompts on which both were evaluated."""

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
        before, after = ([v for prompt in shared if (v := side[prompt][name]) is not None] for side in sides)
        if len(before) == len(after) == len(shared):
            difference = resampling.difference(before, after)
            measures[name] = PairedRuns(resampling.mean(before), resampling.mean(after), difference)
    return SharedPrompts(len(shared), measures)


def _by_prompt(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[PairedMeasure, float | None]]:
    """Means of each prompt's completions, in the order of the prompts; None where one is unknown."""
    columns: dict[str, dict[PairedMeasure, list[Any]]] = defaultdict(lambda: {name: [] for name in COLUMNS})
    for row in rows:
        for name, column in COLUMNS.items():
            columns[row["prompt"]][name].append(row.get(column))
    return {
        prompt: {name: None if None in values else float(np.mean(values)) for name, values in own.items()}
        for prompt, own in columns.items()
    }
