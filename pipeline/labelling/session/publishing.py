"""What people answered as a ``preferences`` version: training rows, and beside them everything they come from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.base.records import PEOPLES_VOTES, PREFERENCES
from pipeline.labelling.items import ITEMS, Item, item_rows
from pipeline.labelling.votes_to_rows import EDITS, OUTCOMES, SPLITS, UNPAIRED, Labelled
from pipeline.store.store import Draft, Version

CONFIGS = {"votes": PEOPLES_VOTES, "outcomes": OUTCOMES, "unpaired": UNPAIRED, "edits": EDITS}
"""What is published beside the training rows: :class:`Labelled`'s parts and their columns."""


def write_rows(draft: Draft, found: Labelled, items: Collection[Item], previous: Version | None = None) -> None:
    """Write a ``preferences`` version of what people answered.

    Args:
        items: what they were asked, known answers included.
        previous: a version whose training rows stand before the new ones.
    """
    for split in SPLITS:
        carry = previous if previous is not None and previous.has_split(split) else None
        known = {r["id"] for r in carry.iter_rows(split, columns=["id"])} if carry else set[str]()
        rows = [r for r in found.preferences[split] if r["id"] not in known]
        draft.write_rows(split, rows, schema=PREFERENCES, carry=carry)
        own = item_rows(item for item in items if item.split == split)
        draft.write_rows(split, own, config="items", schema=ITEMS)
        for config, schema in CONFIGS.items():
            by_split: dict[str, list[dict[str, Any]]] = getattr(found, config)
            if any(by_split.values()):
                draft.write_rows(split, by_split[split], config=config, schema=schema)
