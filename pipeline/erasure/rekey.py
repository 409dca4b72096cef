"""Compute the key of work whose input was replaced, by which it still counts as done.

A key covers the inputs' contents (:func:`pipeline.workflow.work_key.work_key`). All that it is made of is in the
manifest, local files apart that the settings name.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.store.manifest import Manifest
from pipeline.workflow.work_key import manifest_fingerprint, work_key


def key_with(old: Manifest, before: Mapping[str, Manifest], after: Mapping[str, Manifest]) -> str | None:
    """The key of ``old``'s work with other inputs.

    Args:
        before: its parents by role, as it was made from them.
        after: the same with those that take their places.
    Returns:
        None where its own key does not follow from its manifest, so that another one would not either.
    """
    return _key(old, after) if old.key is not None and _key(old, before) == old.key else None


def _key(manifest: Manifest, parents: Mapping[str, Manifest]) -> str:
    # What the stage made itself just before is a parent too, and no input.
    inputs = {role: manifest_fingerprint(parent) for role, parent in parents.items() if role != "comparisons"}
    outside = {m["role"]: [m["content"]] for m in manifest.models if "content" in m and m["role"] not in inputs}
    learning = {k: v for k, v in manifest.config.items() if k != "name"}
    return work_key(manifest.stage, inputs | outside, learning, [])
