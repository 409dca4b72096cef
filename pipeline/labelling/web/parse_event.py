"""Parse the JSON of an event from the page, where completions have positions on screen, into canonical words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.labelling.items import as_meant, order_of
from pipeline.labelling.log.new_event import (
    Asked,
    Malformed,
    NewConsent,
    NewEdit,
    NewVote,
    PersonEvent,
    parse_event,
)
from pipeline.labelling.web.context import Site
from pipeline.labelling.web.request_checks import Refusal

_OURS = ("annotator", "order")
"""Keys that this side adds."""


def event_of(body: Mapping[str, Any], annotator: str, site: Site) -> PersonEvent:
    """The event that a body describes.

    Raises:
        Refusal: 400 an unknown or missing key, a wrong type, none of the possible values; 404 no such item; 409
            another consent text by now; 413 a text is too long.
    """
    kind, item_id = body.get("type"), body.get("item")
    # An id is ASCII: SQLite takes no half of a surrogate pair.
    item = site.log.batches.item(item_id) if isinstance(item_id, str) and item_id.isascii() else None
    order: tuple[int, ...] = ()
    if item is not None:
        order = order_of(item.id, annotator, site.log.people.salt, len(item.completions))
    if theirs := [key for key in _OURS if key in body]:
        raise Refusal(400, f"An event of type {kind} does not know {', '.join(theirs)}.", "wrong keys")
    ours = {"annotator": annotator} | ({"order": order} if kind == "vote" else {})
    try:
        event = parse_event({**body, **ours}, Asked(item, site.settings))
    except Malformed as err:
        raise Refusal(413 if err.too_long else 400, str(err), err.field) from None
    if isinstance(event, NewConsent):
        if (event.version, event.sha256) != (site.consent.version, site.consent.sha256):
            raise Refusal(409, "The text to agree to is another one by now. Reload the page.", "consent")
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
