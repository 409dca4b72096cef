"""Parse an event's JSON from the page, which addresses completions by position on screen, into a log event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.labelling.items import as_meant, order_of
from pipeline.labelling.log.event_checks import Asked
from pipeline.labelling.log.new_event import Malformed, NewConsent, NewEdit, NewVote, PersonEvent, parse_event
from pipeline.labelling.web.context import Site
from pipeline.labelling.web.request_checks import Refusal

_OURS = ("annotator", "order")
"""Keys that the server adds."""


def event_of(body: Mapping[str, Any], annotator: str, site: Site) -> PersonEvent:
    """The event in a request's body.

    Raises:
        Refusal: 400 an unknown or missing key, a wrong type or value; 404 no such item; 409 an outdated consent
            text; 413 a text that is too long.
    """
    kind, item_id = body.get("type"), body.get("item")
    # SQLite rejects lone surrogates; ids are ASCII.
    item = site.log.batches.item(item_id) if isinstance(item_id, str) and item_id.isascii() else None
    order: tuple[int, ...] = ()
    if item is not None:
        order = order_of(item.id, annotator, site.log.people.salt, len(item.completions))
    if reserved := [key for key in _OURS if key in body]:
        raise Refusal(400, f"An event of type {kind} does not know {', '.join(reserved)}.", "wrong keys")
    ours = {"annotator": annotator} | ({"order": order} if kind == "vote" else {})
    try:
        event = parse_event({**body, **ours}, Asked(item, site.settings))
    except Malformed as err:
        raise Refusal(413 if err.too_long else 400, str(err), err.field) from None
    if isinstance(event, NewConsent):
        if (event.version, event.sha256) != (site.consent.version, site.consent.sha256):
            raise Refusal(409, "The text to agree to has changed. Reload the page.", "consent")
        return event
    if item_id is None:
        return event
    if item is None:
        raise Refusal(404, "There is no such item.")
    if isinstance(event, NewVote):
        return event.model_copy(update={"choice": as_meant(event.choice, item.mode, order)})
    if isinstance(event, NewEdit):
        return event.model_copy(update={"completion": order[event.completion]})
    return event
