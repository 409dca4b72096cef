"""Write people's answers as a ``preferences`` version: training rows and their sources."""

from __future__ import annotations

from typing import Any

from pipeline.base.records import PEOPLES_VOTES, PREFERENCES
from pipeline.labelling.items import ITEMS, item_rows
from pipeline.labelling.row_schemas import EDITS, OUTCOMES, SPLITS, UNPAIRED
from pipeline.labelling.votes_to_rows import Labelled
from pipeline.store.store import Draft, Version

CONFIGS = {"votes": PEOPLES_VOTES, "outcomes": OUTCOMES, "unpaired": UNPAIRED, "edits": EDITS}
"""The configurations beside the training rows: attributes of :class:`Labelled` and their schemas."""


def write_rows(draft: Draft, labelled: Labelled, previous: Version | None = None) -> None:
    """Write a ``preferences`` version.

    Args:
        previous: a version whose training rows come before the new ones.
    """
    for split in SPLITS:
        carry = previous if previous is not None and previous.has_split(split) else None
        carried = {r["id"] for r in carry.iter_rows(split, columns=["id"])} if carry else set[str]()
        rows = [r for r in labelled.preferences[split] if r["id"] not in carried]
        draft.write_rows(split, rows, schema=PREFERENCES, carry=carry)
        items = item_rows(item for item in labelled.items if item.split == split)
        draft.write_rows(split, items, config="items", schema=ITEMS)
        for config, schema in CONFIGS.items():
            by_split: dict[str, list[dict[str, Any]]] = getattr(labelled, config)
            if any(by_split.values()):
                draft.write_rows(split, by_split[split], config=config, schema=schema)
