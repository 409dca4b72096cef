"""Which approvals stand behind a stage's inputs, for the manifest and the card of what is made from them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.governance.approvals import Approval, approval_of
from pipeline.store.store import Version
from pipeline.workflow.stage import Run

APPROVED = "approved"
"""The governance key: a list of approvals, each with the bytes (``seal``) that it is about."""
OF_POLICIES = ("policy", "start", "reference")


def with_approvals(run: Run) -> dict[str, Any]:
    """The governance entry of all that a person approved on the way to this work; empty where nobody did."""
    inputs = {role: version for role, version in run.inputs.items() if isinstance(version, Version)}
    recorded: dict[str, dict[str, Any]] = {}
    for version in inputs.values():
        nodes = run.store.lineage(version).ancestors()
        manifests = [version.manifest, *(n.manifest for n in nodes if n.manifest is not None)]
        recorded |= {a["hash"]: a for manifest in manifests for a in manifest.governance.get(APPROVED) or ()}
    for role in OF_POLICIES:
        if role in inputs and (approval := approval_of(run.store, inputs[role])) is not None:
            recorded |= {approval.hash: spelled(approval)}
    in_order = sorted(recorded.values(), key=lambda approval: (approval["time"], approval["ref"]))
    return {APPROVED: in_order} if in_order else {}


def spelled(approval: Approval) -> dict[str, Any]:
    """An approval as a manifest has it."""
    return {key: value for key, value in asdict(approval).items() if key != "is_yes"}
