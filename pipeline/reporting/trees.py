"""A lineage as a tree for a page, each version expanded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.store.lineage import Node

MOST = 60
"""Most versions that are expanded; a policy of many rounds has a long lineage."""


@dataclass(frozen=True)
class Branch:
    """One version: its role for the one above, its reference, its description and its parents."""

    role: str
    ref: str
    about: str = ""
    children: Sequence[Branch] = field(default_factory=list["Branch"])


def branches(role: str, node: Node, drawn: set[str] | None = None) -> Branch:
    """The tree below ``node``; a version that occurs again is not expanded again."""
    drawn = set() if drawn is None else drawn
    if node.ref in drawn:
        return Branch(role, node.ref, "as above")
    if len(drawn) >= MOST and node.parents:
        return Branch(role, node.ref, f"{_about(node)}; its own past is left out")
    drawn.add(node.ref)
    return Branch(role, node.ref, _about(node), [branches(r, n, drawn) for r, n in node.parents])


def _about(node: Node) -> str:
    parts: list[str] = []
    if node.manifest is not None:
        manifest = node.manifest
        parts = [f"{manifest.kind} by {manifest.stage}", manifest.created_at[:16].replace("T", " ")]
        rows = {key: split.rows for key, split in manifest.splits.items() if "/" not in key}
        parts += [f"{sum(rows.values()):,} rows"] if rows else []
    return ", ".join([*parts, *([] if node.state == "present" else [node.state])])
