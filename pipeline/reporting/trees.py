"""A lineage as a tree for a page, each version drawn out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.store.lineage import Node

MOST = 60
"""Versions drawn out; a policy that went round many times has a long past."""


@dataclass(frozen=True)
class Branch:
    """One version: its role for the one above, its reference, what is known of it, what it was made from."""

    role: str
    ref: str
    about: str = ""
    children: Sequence[Branch] = field(default_factory=list["Branch"])


def branches(role: str, node: Node, drawn: set[str] | None = None) -> Branch:
    """The tree below ``node``. What was drawn before is named again, without its own tree."""
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
        made = node.manifest
        parts = [f"{made.kind} by {made.stage}", made.created_at[:16].replace("T", " ")]
        rows = {key: split.rows for key, split in made.splits.items() if "/" not in key}
        parts += [f"{sum(rows.values()):,} rows"] if rows else []
    return ", ".join([*parts, *([] if node.state == "present" else [node.state])])
