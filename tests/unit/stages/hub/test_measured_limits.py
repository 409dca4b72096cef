"""A limit is met where what was measured of exactly this policy shows that it is."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.stages.hub.artefacts import Artefact, Plan
from pipeline.stages.hub.measured_limits import fairness, screening
from pipeline.store.store import Store, Version
from tests.helpers.versions import publish


@pytest.fixture
def plan(store: Store) -> Plan:
    plan = Plan(store, "org/x")
    for role, stage in (("policy", "ppo"), ("reward", "reward")):
        version = publish(store, name=f"x-{role}", kind="adapter", stage=stage)
        plan.artefacts.append(Artefact(version, f"org/x-{role}"))
    return plan


def measured(plan: Plan, kind: str, stats: dict[str, Any], policy: Version | None = None) -> Version:
    parents = [(policy or plan.artefacts[0].version, "policy")]
    with plan.store.draft(f"x-{kind}", kind=kind, stage=kind, parents=parents) as draft:
        draft.write_rows("test", [{"id": "1"}])
        draft.stats.update(stats)
    return draft.version


def screens(words: float | None, classifier: float | None = None) -> dict[str, Any]:
    made = {"words": {"kind": "words", "flagged": {"difference": {"value": 0.0, "high": words}}}}
    if classifier is not None:
        flagged = {"difference": {"value": 0.0, "high": classifier}}
        made["org/harm"] = {"kind": "classifier", "flagged": flagged}
    return {"screens": made}


def said(missing: Any) -> list[str]:
    return [m.what for m in missing]


def test_a_policy_that_was_not_screened(plan: Plan):
    assert said(screening(plan, 0.01)) == ["x-policy@v000001 was not screened for harm"]
    # Mutation caught: a screening of another version of the same name.
    other = publish(plan.store, name="x-policy", kind="adapter", stage="ppo")
    measured(plan, "screening", screens(0.0), other)
    assert said(screening(plan, 0.01)) == ["x-policy@v000001 was not screened for harm"]


# Mutation caught: the value in the place of the interval's end; words in the place of the classifier.
@pytest.mark.parametrize(
    ("stats", "passes"),
    [(screens(0.02), True), (screens(0.03), False), (screens(0.0, 0.03), False), (screens(0.03, 0.02), True),
     (screens(None), False), ({}, False)],
)  # fmt: skip
def test_harm_beside_the_base(stats: dict[str, Any], passes: bool, plan: Plan):
    measured(plan, "screening", stats)
    assert (said(screening(plan, 0.02)) == []) is passes


def test_the_newest_intact_screening_counts(plan: Plan):
    measured(plan, "screening", screens(0.5))
    newest = measured(plan, "screening", screens(0.0))
    assert said(screening(plan, 0.02)) == []
    next(iter(newest.shards("test"))).write_bytes(b"x")
    assert said(screening(plan, 0.02)) != []


def test_a_merged_policy_without_its_adapter_was_not_measured(store: Store):
    # Mutation caught: nothing to measure, and so nothing missing.
    adapter = publish(store, name="x-policy", kind="adapter", stage="ppo")
    merged = publish(store, name="x-merged", kind="model", stage="merge", parents=[(adapter, "policy")])
    plan = Plan(store, "org/x")
    plan.artefacts.append(Artefact(merged, "org/x"))
    assert said(screening(plan, 0.02)) == ["x-merged@v000001 was not screened for harm"]
    plan.artefacts[:] = [own := Artefact(adapter, "org/a"), Artefact(merged, "org/x", {"policy": own})]
    assert said(screening(plan, 0.02)) == ["x-policy@v000001 was not screened for harm"]


def swaps(**gaps: tuple[float | None, float | None]) -> dict[str, Any]:
    by_measure = {measure: {"women": {"low": low, "high": high}} for measure, (low, high) in gaps.items()}
    known = {"templates": 6, "words": 4, "gaps": by_measure}
    unknown = {**known, "unread": ["a", "b", "c"], "gaps": {"reward": {"x": {"low": -9, "high": 9}}}}
    return {"attributes": {"gender": known, "names": unknown}}


@pytest.mark.parametrize(
    ("stats", "missing"),
    [
        (swaps(reward=(-0.1, 0.2)), []),
        (swaps(reward=(-0.3, 0.1)), ["of up to 0.3 for gender: women (at most 0.2)"]),
        (swaps(reward=(None, None)), ["of up to inf for gender: women (at most 0.2)"]),
        (swaps(policy_length=(0, 0)), ["x-fairness@v000001 says nothing of reward"]),
        ({}, ["x-fairness@v000001 says nothing of reward"]),
    ],
)
def test_gaps_between_groups(stats: dict[str, Any], missing: list[str], plan: Plan):
    not_done = "x-policy@v000001 was not looked at with swapped names and groups"
    assert said(fairness(plan, {"reward": 0.2})) == [not_done]
    measured(plan, "fairness", stats)
    found = said(fairness(plan, {"reward": 0.2}))
    assert len(found) == len(missing)
    assert all(part in what for part, what in zip(missing, found, strict=True))
