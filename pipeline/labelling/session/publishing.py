"""Write people's answers as a ``preferences`` version: training rows and their sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.base.key_numbers import TextSet
from pipeline.base.records import PEOPLES_VOTES, PREFERENCES
from pipeline.labelling.items import ITEMS, item_rows
from pipeline.labelling.row_schemas import EDITS, OUTCOMES, SPLITS, UNPAIRED
from pipeline.labelling.votes_to_rows import Labelled
from pipeline.store.store import Draft, Version

Row = dict[str, Any]
CONFIGS = {"votes": PEOPLES_VOTES, "outcomes": OUTCOMES, "unpaired": UNPAIRED, "edits": EDITS}
"""The configurations beside the training rows: attributes of :class:`Labelled` and their schemas."""
TRAINING = {"default": PREFERENCES, "unpaired": UNPAIRED}
"""The configurations that a reward model learns from."""


def write_rows(draft: Draft, labelled: Labelled, previous: Version | None = None) -> None:
    """Write a ``preferences`` version.

    Args:
        previous: a version whose training rows come before the new ones.
    """
    with_unpaired = any(labelled.unpaired.values()) or has_unpaired(previous)
    for split in SPLITS:
        write_training_rows(draft, split, labelled.preferences[split], previous)
        items = item_rows(item for item in labelled.items if item.split == split)
        draft.write_rows(split, items, config="items", schema=ITEMS)
        for config, schema in CONFIGS.items():
            by_split: dict[str, list[Row]] = getattr(labelled, config)
            if config == "unpaired" and with_unpaired:
                write_training_rows(draft, split, by_split[split], previous, config)
            elif any(by_split.values()):
                draft.write_rows(split, by_split[split], config=config, schema=schema)


def write_training_rows(
    draft: Draft, split: str, rows: Iterable[Row], previous: Version | None, config: str = "default"
) -> None:
    """Write rows to learn from, after those of ``previous``, each id once."""
    carry = previous if previous is not None and previous.has_split(split, config) else None
    carried = TextSet(r["id"] for r in carry.iter_rows(split, config, columns=["id"])) if carry else TextSet()
    new = (row for row in rows if row["id"] not in carried) if carried else rows
    draft.write_rows(split, new, config, schema=TRAINING[config], carry=carry)


def has_unpaired(version: Version | None) -> bool:
    """Whether a version has single completions with a vote each."""
    return version is not None and any(version.has_split(split, "unpaired") for split in SPLITS)
