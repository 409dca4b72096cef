"""Select the answers of a log that may be published. Publishing writes them; the operator's page counts them."""

from __future__ import annotations

from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import PERSONAL_DATA, LabelSection
from pipeline.labelling.votes_to_rows import Labelled, Labelling, labelled


def publishable_rows(log: Log, settings: LabelSection) -> Labelled:
    """The rows of the current batch, except of items flagged as personal data (``counts["personal_data"]``).

    Such an item stays in the log; without the flag, the next version publishes it.
    """
    answers, flags = log.answers, log.answers.flags()
    items = list(log.batches.items())
    flagged = {e.item for e in flags if e.payload["reason"] == PERSONAL_DATA}
    kept = {item.id for item in items} - flagged
    consents = {p.id: answers.consent_of(p.id) for p in log.people.all()}
    rows = labelled(
        Labelling(
            items=[item for item in items if item.id in kept],
            settings=settings,
            votes=[v for v in answers.votes() if v.item in kept],
            skips=[e for e in answers.skips() if e.item in kept],
            edits=[e for e in answers.edits() if e.item in kept],
            flags=flags,
            adjudications=answers.adjudications(),
            consents={who: sha256 for who, sha256 in consents.items() if sha256 is not None},
        )
    )
    rows.counts["personal_data"] = len(items) - len(kept)
    return rows
