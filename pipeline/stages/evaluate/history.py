"""Read the history behind an evaluation: the run that made its policy, and other policies evaluated alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import StoreError
from pipeline.base.json_values import JsonObject
from pipeline.evaluation.policy.overoptimisation_laws import (
    EvaluatedPolicy,
    best_checkpoint,
    over_sweep,
    over_training,
)
from pipeline.evaluation.policy.policy_metrics import by_prompt
from pipeline.results.metrics import Logged
from pipeline.results.overoptimisation import BestCheckpoint, OverOptimisation, PolicySettings
from pipeline.results.stats import from_json
from pipeline.store.ppo_history import read_ppo_history
from pipeline.workflow.experiment import recorded
from pipeline.workflow.stage import Run

Row = dict[str, Any]


def policy_settings(run: Run) -> PolicySettings:
    """The evaluated policy, and what held it to its base."""
    ppo = ppo_settings(run)
    return PolicySettings(run.version("policy").ref, ppo.get("kl_coef"), ppo.get("kl_target"))


def over_optimisation(run: Run, rows: Sequence[Row]) -> OverOptimisation:
    """Gold and proxy over the run that made the policy, and over all policies that were evaluated alike.

    Args:
        rows: of this evaluation, those of one prompt together.
    """
    settings = policy_settings(run)
    policies = [*evaluated_alike(run, rows, settings.ref), of_rows(settings, rows)]
    history = read_ppo_history(run.version("policy").path / "metrics.jsonl")
    return OverOptimisation(over_training(history), over_sweep(policies))


def best_of_run(run: Run) -> BestCheckpoint | None:
    """The best held-out policy of the run, among those that PPO would publish."""
    policy, ppo = run.version("policy"), ppo_settings(run)
    budget, history = ppo.get("kl_budget"), read_ppo_history(policy.path / "metrics.jsonl")
    return best_checkpoint(
        above_floor(history, ppo.get("diversity_floor")),
        None if budget is None else float(budget),
        policy.manifest.stats.get("kept"),
    )


def above_floor(history: list[Row], floor: float | None) -> list[Row]:
    """The rows without the evaluations of policies that ``ppo.diversity_floor`` does not publish."""
    return [row for row in history if floor is None or row.get(Logged.CLOSINGS_LEFT, 1.0) >= float(floor)]


def evaluated_alike(run: Run, rows: Sequence[Row], policy: str) -> list[EvaluatedPolicy]:
    """Other policies that were evaluated on the same completions of the base with the same proxy, newest first."""
    policies: dict[str, EvaluatedPolicy] = {}
    for version in run.earlier_outputs("evaluation"):
        stats = version.manifest.stats.get("policy")
        settings = from_json(PolicySettings, stats, version.ref) if stats else None
        if settings is None or settings.ref in (policy, *policies) or version.splits.get("test") != len(rows):
            continue
        try:
            earlier_rows = version.rows("test")
        except StoreError:  # damaged, or its rows are gone
            continue
        same = all(
            all(a.get(k) == b[k] for k in ("prompt", "seed", "base_completion", "base_gold_score"))
            and math.isclose(a["base_score"], b["base_score"], abs_tol=1e-4)
            for a, b in zip(earlier_rows, rows, strict=True)
        )
        if same:
            policies[settings.ref] = of_rows(settings, earlier_rows)
    return list(policies.values())


def of_rows(settings: PolicySettings, rows: Sequence[Row]) -> EvaluatedPolicy:
    """A policy's means over prompts, from the rows of its evaluation."""
    draws = len({row["seed"] for row in rows})

    def column(name: str) -> NDArray[np.float64]:
        return by_prompt([row[name] for row in rows], draws)

    has_gold = rows[0]["policy_gold_score"] is not None
    return EvaluatedPolicy(
        settings,
        kl_k1=float(column("policy_kl_k1").mean()),
        score=float(column("policy_score").mean()),
        gold=column("policy_gold_score") if has_gold else None,
        base_gold=column("base_gold_score") if has_gold else None,
    )


def ppo_settings(run: Run) -> JsonObject:
    """The ``ppo`` section that made the policy, which may be another experiment's."""
    return recorded("ppo", run.version("policy").manifest.config)


def missing_eos_penalty(run: Run) -> float:
    """What PPO took off the score of a completion that did not end; best-of-n is to choose by the same."""
    return float(ppo_settings(run).get("missing_eos_penalty") or 0.0)
