"""The rows that a log amounts to now: what publishing writes and what the operator's page announces."""

from __future__ import annotations

from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import PERSONAL_DATA, LabelSection
from pipeline.labelling.votes_to_rows import Labelled, labelled


def publishable_items(log: Log) -> list[Item]:
    """The items of the current batch, less those that somebody flagged as personal data.

    Such an item stays in the log; once the flag is taken off, it is published with the next version.
    """
    flagged = {e.item for e in log.answers.flags() if e.payload["reason"] == PERSONAL_DATA}
    return [item for item in log.batches.items() if item.id not in flagged]


def publishable_rows(log: Log, settings: LabelSection) -> Labelled:
    """What the answers to :func:`publishable_items` come to; ``counts["personal_data"]`` items are left out."""
    items = publishable_items(log)
    kept = {item.id for item in items}
    agreed = {p.id: log.answers.consent_of(p.id) for p in log.people.all()}
    rows = labelled(
        items,
        [v for v in log.answers.votes() if v.item in kept],
        [e for e in log.answers.edits() if e.item in kept],
        log.answers.adjudications(),
        settings,
        skips=[e for e in log.answers.skips() if e.item in kept],
        flags=log.answers.flags(),
        consents={who: sha256 for who, sha256 in agreed.items() if sha256 is not None},
    )
    rows.counts["personal_data"] = sum(1 for _ in log.batches.items()) - len(items)
    return rows
