"""What makes a report be written anew: what came after it, and concerns it."""

from __future__ import annotations

from pipeline.governance.approvals import approve, withdraw
from pipeline.governance.audit_log import AuditLog
from pipeline.store.store import Store, Version
from pipeline.workflow.beside_report import AUDIT_LOG, made_since
from tests.helpers.versions import publish


def run(store: Store) -> dict[str, Version]:
    policy = publish(store, name="x-policy", kind="adapter", stage="ppo")
    parents = [(policy, "policy")]
    return {
        "policy": policy,
        "evaluation": publish(store, name="x-evaluation", kind="evaluation", parents=parents),
    }


def test_nothing_came():
    assert made_since(Store("none"), {}) == []


# Mutations caught: a screening of another evaluation; events on other versions; a withdrawal that goes unseen.
def test_what_came_and_concerns_it(store: Store):
    inputs = run(store)
    other = publish(store, name="y-evaluation", kind="evaluation", parents=[(inputs["policy"], "other")])
    publish(store, name="y-screening", kind="screening", parents=[(other, "evaluation")])
    approve(store, other, "Ann", "")
    assert made_since(store, inputs) == []

    screening = publish(
        store, name="x-screening", kind="screening", parents=[(inputs["evaluation"], "evaluation")]
    )
    swaps = publish(store, name="x-fairness", kind="fairness", parents=[(inputs["policy"], "policy")])
    assert made_since(store, inputs) == [f"{v.ref} {v.id}" for v in (screening, swaps)]
    log = AuditLog(store.root)
    assert store.root / AUDIT_LOG == log.path
    approval, _ = approve(store, inputs["policy"], "Ann", "")
    assert made_since(store, inputs)[2:] == [approval.hash]
    withdraw(store, inputs["policy"], "Ann", "")
    log.append("erased", "", {"versions": "z@v1", "logs": 0})
    with log.path.open("a") as file:
        file.write("cut of")
    assert len(made_since(store, inputs)) == 5
