"""Which versions are the same work done again: equal name, seed and settings, back to the first parents.

A chain is known by its settings and not by what they gave, so a model trained again on corrected votes, or by a
newer revision of this package, stands in the place of the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.base.records import digest
from pipeline.store.manifest import Manifest

Key = tuple[str, int]
"""A version's name and number."""

FINISHED = frozenset({"evaluation", "report", "screening", "fairness"})
"""Kinds that a chain ends in."""


def chains(known: Mapping[Key, Manifest]) -> dict[Key, str]:
    """The chain that each version ends. Not recursive: histories may be long.

    Args:
        known: versions, and tombstones of collected ones, as chains go through these.
    """
    chains_by_end: dict[Key, str] = {}
    for start in known:
        stack = [start]
        while stack:
            key = stack[-1]
            if key in chains_by_end:
                stack.pop()
                continue
            waiting = [p for p in parents(known[key]) if p in known and p not in chains_by_end and p not in stack]
            if waiting:
                stack += waiting
                continue
            chains_by_end[key] = _identity(known[key], chains_by_end)
            stack.pop()
    return chains_by_end


def ends(known: Mapping[Key, Manifest]) -> set[Key]:
    """The versions that stand for themselves: evaluations, reports, and whatever nothing was made from yet."""
    used = {parent for manifest in known.values() for parent in parents(manifest)}
    return {k for k, m in known.items() if m.kind in FINISHED or k not in used}


def parents(manifest: Manifest) -> list[Key]:
    """The parents of a version."""
    return [(p.name, p.version) for p in manifest.parents]


def _identity(manifest: Manifest, found: Mapping[Key, str]) -> str:
    roles = {p.role for p in manifest.parents}
    # Models from outside the store are no parents; those in it are, and their reference changes each time.
    outside = [m for m in manifest.models if m.get("role") not in roles]
    models = sorted(([m.get("role"), m.get("content", m.get("id"))] for m in outside), key=str)
    # The hash and not the settings: a tombstone of erased rows keeps no more than that.
    own = [manifest.name, manifest.kind, manifest.stage, manifest.seed, manifest.config_hash, models]
    above = [[p.role, found.get((p.name, p.version), [p.name, p.id])] for p in manifest.parents]
    return digest([own, sorted(above, key=str)])
