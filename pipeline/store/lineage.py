"""The ancestors of a version, back to the first ones, through versions that were collected since."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.base.errors import StoreError
from pipeline.store import refs
from pipeline.store.manifest import Manifest, Parent
from pipeline.store.version import Version

State = Literal["present", "collected", "missing", "damaged"]

_MAX_LINES = 40


@dataclass
class Node:
    """One version of a lineage. ``manifest`` is None where nothing readable is left of it."""

    ref: str
    state: State
    manifest: Manifest | None
    parents: list[tuple[str, Node]] = field(default_factory=list["tuple[str, Node]"])

    def ancestors(self) -> list[Node]:
        """Every node above this one, once, nearest first."""
        nodes: dict[str, Node] = {}
        layer = [node for _, node in self.parents]
        while layer:
            new = {n.ref: n for n in layer if n.ref not in nodes}
            nodes.update(new)
            layer = [node for n in new.values() for _, node in n.parents]
        return list(nodes.values())

    def draw(self) -> list[str]:
        """The tree as lines. What was drawn once is only named again."""
        lines = [_label(self)]
        drawn = {self.ref}
        stack = [(role, node, "", i == 0) for i, (role, node) in enumerate(reversed(self.parents))]
        while stack:
            role, node, indent, last = stack.pop()
            again = node.ref in drawn and bool(node.parents)
            lines.append(
                f"{indent}{'└── ' if last else '├── '}{role}: {_label(node)}{' (above)' if again else ''}"
            )
            if len(lines) >= _MAX_LINES and stack:
                return [*lines, "..."]
            if again:
                continue
            drawn.add(node.ref)
            below = indent + ("    " if last else "│   ")
            stack += [(r, n, below, i == 0) for i, (r, n) in enumerate(reversed(node.parents))]
        return lines


def lineage(root: Path, version: Version) -> Node:
    """The tree above ``version``; a version met twice is one shared node, so that long histories stay small."""
    top = Node(version.ref, "present", version.manifest)
    nodes = {version.ref: top}
    todo = [top]
    while todo:
        node = todo.pop()
        for parent in node.manifest.parents if node.manifest else []:
            if parent.ref not in nodes:
                nodes[parent.ref] = _read(root, parent)
                todo.append(nodes[parent.ref])
            node.parents.append((parent.role, nodes[parent.ref]))
    return top


def _read(root: Path, parent: Parent) -> Node:
    home = root / parent.name
    tombstone = refs.tombstone_path(home, parent.version)
    path = refs.version_path(home, parent.version)
    try:
        if path.exists():
            manifest = Version.open(path).manifest
            # What was pulled from the Hub names versions of another store; here the number may be another's.
            return Node(parent.ref, *(("present", manifest) if manifest.id == parent.id else ("missing", None)))
        if tombstone.exists():
            return Node(parent.ref, "collected", Manifest.from_json(tombstone.read_text("utf-8"), str(tombstone)))
    except (StoreError, OSError, UnicodeDecodeError):
        return Node(parent.ref, "damaged", None)
    return Node(parent.ref, "missing", None)


def _label(node: Node) -> str:
    made = f"  {node.manifest.kind} by {node.manifest.stage}" if node.manifest else ""
    return f"{node.ref}{made}{'' if node.state == 'present' else f' ({node.state})'}"
