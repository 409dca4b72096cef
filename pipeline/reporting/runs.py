"""Find runs in a store with their settings: each is a policy with its newest evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.reporting.run_tables import Table
from pipeline.results.policy import Evaluation
from pipeline.results.reward import RewardMetrics, reward_metrics
from pipeline.results.stats import from_json
from pipeline.store.diff import changes
from pipeline.store.evaluations import newest_evaluation
from pipeline.store.lineage import Node
from pipeline.store.ppo_history import read_ppo_history
from pipeline.store.refs import there_is
from pipeline.store.store import Store, Version

SECTIONS = {"base": "sft", "preferences": "collect", "reward": "reward"}
INPUTS = ("base", "prompts", "preferences", "reward")
DEFAULT = "default"


@dataclass(frozen=True)
class PolicyRun:
    """A policy, its newest evaluation, and the settings and inputs that made it."""

    policy: Version
    evaluation: Version
    settings: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]]
    """(reference, content id) of the policy's inputs, by role."""
    reward: RewardMetrics | None = None
    """The metrics of its reward model; None without one."""

    @cached_property
    def results(self) -> Evaluation:
        return results_of(self.evaluation)

    @property
    def history(self) -> list[dict[str, Any]]:
        return read_ppo_history(self.policy.path / "metrics.jsonl")


def find_run(store: Store, text: str) -> PolicyRun:
    """Find the run of an experiment, or of a version of its policy, evaluation or report.

    Raises:
        StoreError: there is no such version, it has another kind, or the policy has not been evaluated.
    """
    names = store.names()
    is_path = os.sep in text or text.startswith((".", "~"))
    named = text if is_path or text.partition("@")[0] in names else f"{text}-policy"
    if named not in names and not is_path and "@" not in text:
        mend = there_is([n.removesuffix("-policy") for n in names if n.endswith("-policy")], text)
        raise StoreError(str(store.root), f'no experiment or version is called "{text}".', mend)
    version = store.resolve(named)
    roles = {p.role: p.ref for p in version.manifest.parents}
    if version.manifest.stage == "report":
        version = store.resolve(roles["evaluation"])
        roles = {p.role: p.ref for p in version.manifest.parents}
    if version.manifest.stage == "evaluate":
        policy, evaluation = store.resolve(roles["policy"]), version
    elif is_policy(version):
        policy, evaluation = version, _evaluation_of(store, version)
    else:
        what = f"is {version.made_as}, not a run."
        raise StoreError(version.where, what, "Name an experiment, or a policy, an evaluation or a report.")
    ancestors = store.lineage(policy).ancestors()
    rewards = [n.manifest for n in ancestors if n.manifest is not None and n.manifest.stage == "reward"]
    reward = next((metrics for m in rewards if (metrics := reward_metrics(m.stats, m.ref))), None)
    made_with = settings(policy, ancestors, evaluation)
    return PolicyRun(policy, evaluation, made_with, inputs_of(policy, ancestors), reward)


def results_of(evaluation: Version) -> Evaluation:
    """The results of an evaluation.

    Raises:
        DataError: its stats cannot be read.
    """
    return from_json(Evaluation, evaluation.manifest.stats, evaluation.ref)


def reward_of(reward: Version | None) -> RewardMetrics | None:
    """The metrics of a reward model; None without one.

    Raises:
        DataError: its stats cannot be read.
    """
    return None if reward is None else reward_metrics(reward.manifest.stats, reward.ref)


def is_policy(version: Version) -> bool:
    """Whether a version is a policy; PPO also makes rollouts."""
    return version.manifest.stage == "ppo" and version.manifest.kind in ("adapter", "model")


def _evaluation_of(store: Store, policy: Version) -> Version:
    """Its newest evaluation. Raises StoreError: there is none."""
    evaluation = newest_evaluation(store, policy)
    if evaluation is None:
        mend = "Run: make evaluate, with the settings that made it."
        raise StoreError(policy.where, "has not been evaluated.", mend)
    return evaluation


def settings(policy: Version, ancestors: Sequence[Node], evaluation: Version | None = None) -> dict[str, object]:
    """The settings of a run, from the manifest of the nearest version of each stage."""
    sections: dict[str, Any] = {k: policy.manifest.config.get(k) for k in ("task", "task_args", "seed")}
    configs: dict[str, Mapping[str, Any]] = {}
    for node in ancestors:
        if node.manifest is not None and node.manifest.stage in SECTIONS.values():
            configs.setdefault(node.manifest.stage, node.manifest.config)
    for stage in ("sft", "collect", "reward"):
        config = configs.get(stage, {})
        sections |= {section: config[section] for section in (stage, "label") if config.get(section)}
    sections["ppo"] = policy.manifest.config.get("ppo") or {}
    if evaluation is not None:
        sections["evaluate"] = evaluation.manifest.config.get("evaluate") or {}
    return sections


def inputs_of(policy: Version, ancestors: Sequence[Node]) -> dict[str, tuple[str, str]]:
    """(reference, content id) of the nearest version in each role of :data:`INPUTS`."""
    inputs: dict[str, tuple[str, str]] = {}
    manifests = [policy.manifest, *(n.manifest for n in ancestors if n.manifest is not None)]
    for parent in [p for manifest in manifests for p in manifest.parents]:
        if parent.role in INPUTS:
            inputs.setdefault(parent.role, (parent.ref, parent.id))
    for model in policy.manifest.models:
        if model.get("role") in INPUTS:
            inputs.setdefault(model["role"], (str(model["id"]), str(model.get("content"))))
    return inputs


def parent_run(store: Store, policy: Version) -> tuple[Version, str] | None:
    """(the policy before this one, the reason); None for the first.

    The policy that PPO started from, else one among the ancestors, else the version before.
    """
    started = [p.ref for p in policy.manifest.parents if p.role == "start"]
    ancestors = [
        n.ref
        for n in store.ancestors(policy)
        if n.state == "present" and n.manifest is not None and is_policy(Version(Path(), n.manifest))
    ]
    for refs, why in ((started, "PPO started from it"), (ancestors, "comparisons were sampled from it")):
        if present := [ref for ref in refs if ref in ancestors]:
            return store.resolve(present[0]), why
    earlier = [v for v in store.versions(policy.name) if v.number < policy.number]
    return (earlier[-1], "the version before") if earlier else None


def parent_differences(store: Store, policy: Version) -> Table | None:
    """The settings and inputs that differ from the parent run; None for the first run."""
    parent_and_reason = parent_run(store, policy)
    if parent_and_reason is None:
        return None
    parent, why = parent_and_reason
    ancestors = [store.ancestors(v) for v in (parent, policy)]
    settings_of_both = [settings(v, a) for v, a in zip((parent, policy), ancestors, strict=True)]
    inputs = [inputs_of(v, a) for v, a in zip((parent, policy), ancestors, strict=True)]
    rows = differing(settings_of_both, inputs)
    same = "" if rows else "No setting differs. "
    note = (
        f'{same}Parent run: {parent.ref} ({why}). Only what differs is shown; "{DEFAULT}" is not set. '
        f'Their figures side by side: make report RUNS="{parent.ref} {policy.ref}"'
    )
    return Table("Differences", ("setting", parent.ref, policy.ref), rows, note)


def differing(
    runs: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, tuple[str, str]]]
) -> list[tuple[str, ...]]:
    """(setting, its value in each run) where values differ, then the inputs whose content differs."""
    first, *rest = runs
    changed = [{key: (before, after) for key, before, after in changes(first, run)} for run in rest]
    rows: list[tuple[str, ...]] = []
    for key in dict.fromkeys(key for own in changed for key in own):
        before = next(own[key][0] for own in changed if key in own)
        values = [before, *(own[key][1] if key in own else before for own in changed)]
        rows.append((key, *map(_spelled, values)))
    for role in INPUTS:
        entries = [run.get(role) for run in inputs]
        if len({None if entry is None else entry[1] for entry in entries}) > 1:
            rows.append((f"made from: {role}", *("none" if entry is None else entry[0] for entry in entries)))
    return rows


def _spelled(value: object) -> str:
    if value is None:
        return DEFAULT
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
