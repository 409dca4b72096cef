"""Select the answers of a log that may be published. Publishing writes them; the operator's page counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.events import Event
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import PERSONAL_DATA, LabelSection
from pipeline.labelling.votes_to_rows import Labelled, Labelling, labelled

Scrub = Callable[[str], str]
"""A text that a person wrote, without what is not to be in a version."""


def publishable_rows(log: Log, settings: LabelSection, scrub: Scrub | None = None) -> Labelled:
    """The rows of the current batch, except of items flagged as personal data (``counts["personal_data"]``).

    Such an item stays in the log; without the flag, the next version publishes it.

    Args:
        scrub: of notes and better answers; the log keeps them as they were written.
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
            votes=[_vote(v, scrub) for v in answers.votes() if v.item in kept],
            skips=[_event(e, scrub) for e in answers.skips() if e.item in kept],
            edits=[_event(e, scrub) for e in answers.edits() if e.item in kept],
            flags=flags,
            adjudications=answers.adjudications(),
            consents={who: sha256 for who, sha256 in consents.items() if sha256 is not None},
        )
    )
    rows.counts["personal_data"] = len(items) - len(kept)
    return rows


def _vote(vote: Vote, scrub: Scrub | None) -> Vote:
    return vote if scrub is None or not vote.note else replace(vote, note=scrub(vote.note))


def _event(event: Event, scrub: Scrub | None) -> Event:
    if scrub is None:
        return event
    written = {key: scrub(event.payload[key]) for key in ("note", "text") if event.payload.get(key)}
    return replace(event, payload={**event.payload, **written})
