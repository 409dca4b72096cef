"""Compute the new work key of a stage whose input was replaced, so that its work still counts as done.

A key covers the inputs' contents (:func:`pipeline.workflow.work_key.work_key`). The manifest has all its parts
except the local files that the settings name.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.store.manifest import Manifest
from pipeline.workflow.work_key import manifest_fingerprint, work_key


def key_with(old: Manifest, before: Mapping[str, Manifest], after: Mapping[str, Manifest]) -> str | None:
    """The work key of ``old`` with other inputs.

    Args:
        before: its parents by role.
        after: the same with their replacements.
    Returns:
        None where its present key cannot be computed from its manifest.
    """
    return _key(old, after) if old.key is not None and _key(old, before) == old.key else None


def _key(manifest: Manifest, parents: Mapping[str, Manifest]) -> str:
    # ``comparisons`` is a parent that the stage itself made, not an input.
    inputs = {role: manifest_fingerprint(parent) for role, parent in parents.items() if role != "comparisons"}
    outside = {m["role"]: [m["content"]] for m in manifest.models if "content" in m and m["role"] not in inputs}
    learning = {k: v for k, v in manifest.config.items() if k != "name"}
    return work_key(manifest.stage, inputs | outside, learning, [])
