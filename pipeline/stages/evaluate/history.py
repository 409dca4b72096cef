"""What came before an evaluation: the run that made its policy, and other policies evaluated alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.evaluation.policy import overoptimisation
from pipeline.evaluation.policy.policy_metrics import by_prompt
from pipeline.store.ppo_history import read_ppo_history
from pipeline.workflow.experiment import recorded
from pipeline.workflow.stage import Run


def over_optimisation(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the run and the policies before it tell of over-optimisation, as plain JSON.

    Args:
        rows: of this evaluation, those of one prompt together.
    Returns:
        policy (ref, kl_coef, kl_target); overoptimisation.training (over the run) and .sweep (over all policies
        that were evaluated alike), None where nothing is known; best_checkpoint.
    """
    policy = run.version("policy")
    given, history = ppo_settings(run), read_ppo_history(policy.path / "metrics.jsonl")
    summary = {"ref": policy.ref, "kl_coef": given.get("kl_coef"), "kl_target": given.get("kl_target")}
    budget = given.get("kl_budget")
    return {
        "policy": summary,
        "overoptimisation": {
            "training": overoptimisation.over_training(history),
            "sweep": overoptimisation.over_sweep([*alike(run, rows, policy.ref), entry_of(summary, rows)]),
        },
        "best_checkpoint": overoptimisation.best_checkpoint(
            above_floor(history, given.get("diversity_floor")),
            None if budget is None else float(budget),
            policy.manifest.stats.get("kept"),
        ),
    }


def above_floor(history: list[dict[str, Any]], floor: float | None) -> list[dict[str, Any]]:
    """The rows without the evaluations of policies that ``ppo.diversity_floor`` does not publish."""
    return [row for row in history if floor is None or row.get("eval/closings_left", 1.0) >= float(floor)]


def alike(run: Run, rows: list[dict[str, Any]], policy: str) -> list[dict[str, Any]]:
    """Other policies that were evaluated on the same completions of the base with the same proxy, newest first."""
    found: dict[str, dict[str, Any]] = {}
    for version in run.made_before("evaluation"):
        summary = version.manifest.stats.get("policy")
        if not summary or summary["ref"] in (policy, *found) or version.splits.get("test") != len(rows):
            continue
        try:
            others = version.rows("test")
        except StoreError:  # damaged, or its rows are gone
            continue
        same = all(
            all(a.get(k) == b[k] for k in ("prompt", "seed", "base_completion", "base_gold_score"))
            and math.isclose(a["base_score"], b["base_score"], abs_tol=1e-4)
            for a, b in zip(others, rows, strict=True)
        )
        if same:
            found[summary["ref"]] = entry_of(summary, others)
    return list(found.values())


def entry_of(summary: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A policy as :func:`overoptimisation.over_sweep` wants it."""
    draws = len({row["seed"] for row in rows})

    def column(name: str) -> Any:
        known = rows[0][name] is not None
        return by_prompt([row[name] for row in rows], draws) if known else None

    return {
        **summary,
        "kl_k1": float(column("policy_kl_k1").mean()),
        "score": float(column("policy_score").mean()),
        "gold": column("policy_gold_score"),
        "base_gold": column("base_gold_score"),
    }


def ppo_settings(run: Run) -> dict[str, Any]:
    """The ``ppo`` section that made the policy, which may be another experiment's."""
    return recorded("ppo", run.version("policy").manifest.config)


def missing_eos_penalty(run: Run) -> float:
    """What PPO took off the score of a completion that did not end; best-of-n is to choose by the same."""
    return float(ppo_settings(run).get("missing_eos_penalty") or 0.0)
