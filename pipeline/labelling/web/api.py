"""JSON routes of the annotator's page.

Completions are addressed by position on screen, so the client cannot tell which is which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.base.json_values import JsonObject
from pipeline.labelling.conversation import turns
from pipeline.labelling.items import Item, as_shown, order_of
from pipeline.labelling.log.event_checks import STRENGTHS
from pipeline.labelling.log.events import Event
from pipeline.labelling.log.people import Person
from pipeline.labelling.settings import FLAG_REASONS, SKIP_REASONS
from pipeline.labelling.web.context import Site, json_response, page
from pipeline.labelling.web.parse_event import event_of
from pipeline.labelling.web.request_checks import Refusal, read_json


def routes() -> list[Route]:
    return [
        Route("/a/{annotator}/", _page),
        Route("/a/{annotator}/api/state", _state),
        Route("/a/{annotator}/api/next", _next),
        events_route(_record),
    ]


def _page(request: Request) -> Response:
    site: Site = request.app.state.site
    person = site.person(request)
    return page("annotate.html.jinja", {"title": site.title, "base": f"/a/{person.id}/", "project": site.project})


def _state(request: Request) -> Response:
    site: Site = request.app.state.site
    person = site.person(request)
    settings, consent = site.settings, site.consent
    return json_response(
        {
            "title": site.title,
            "mode": settings.mode,
            "renderer": site.renderer,
            "consent": {
                "needed": site.log.answers.consent_of(person.id) != consent.sha256,
                "text": consent.text,
                "version": consent.version,
                "sha256": consent.sha256,
            },
            "guidelines": site.guidelines,
            "ask": list(settings.ask),
            "tags": list(settings.tags) if "tags" in settings.ask else [],
            "skip_reasons": list(SKIP_REASONS),
            "flag_reasons": list(FLAG_REASONS),
            "strengths": list(STRENGTHS),
            **_progress(site, person),
        }
    )


def _next(request: Request) -> Response:
    site: Site = request.app.state.site
    return json_response(next_for(site, site.person(request)))


def events_route(record: Callable[[Site, Person, JsonObject], Response]) -> Route:
    """The route to which a person's events are posted; ``record`` answers each, on a thread of its own."""

    async def events(request: Request) -> Response:
        site: Site = request.app.state.site
        person = await run_in_threadpool(site.person, request)
        site.rate.check(person.id)
        return await run_in_threadpool(record, site, person, await read_json(request))

    return Route("/a/{annotator}/api/events", events, methods=["POST"])


def _record(site: Site, person: Person, body: dict[str, Any]) -> Response:
    """Record an event. It is durable even if the response is lost; a retry with its key returns it."""
    event = event_of(body, person.id, site)
    if event.type != "consent" and site.log.answers.consent_of(person.id) != site.consent.sha256:
        raise Refusal(403, "Agree to the text first.", "no consent", "consent")
    receipt = site.log.events.append(event)
    return json_response({"seq": receipt.seq, "duplicate": receipt.duplicate, "next": next_for(site, person)})


def next_for(site: Site, person: Person) -> dict[str, object]:
    """The person's open item for the page, which cannot tell gold items and repeats from others."""
    assignment = site.log.queue.next(person.id, site.plan)
    if assignment is None:
        why = "done" if site.log.batches.whole else "waiting"
        return {"item": None, "why": why, **_progress(site, person)}
    item = assignment.item
    order = order_of(item.id, person.id, site.log.people.salt, len(item.completions))
    page_item = {
        "id": item.id,
        "mode": item.mode,
        "turns": [{"role": role, "text": text} for role, text in turns(item.prompt)],
        "completions": [item.completions[i] for i in order],
        **({"prompt": item.prompt} if site.renderer else {}),
        "flagged": site.log.answers.flagged(person.id, item.id),
        "undone": None if assignment.undone is None else _undone(assignment.undone, item),
    }
    return {"item": page_item, "why": None, **_progress(site, person, open_item=True)}


def _undone(event: Event, item: Item) -> dict[str, object]:
    """The answer before the undo, to restore the form. Of a skip: its reason and note."""
    payload = event.payload
    if event.type == "skip":
        return {"reason": payload["reason"], "note": payload["note"]}
    choice = as_shown(payload["choice"], item.mode, payload["order"])
    return {"choice": choice, **{key: payload[key] for key in ("strength", "tags", "note")}}


def _progress(site: Site, person: Person, open_item: bool = False) -> dict[str, object]:
    answered, left = site.log.queue.answered_and_left(person.id, site.plan.votes)
    left = site.remaining.left(person.id, answered, left)
    if open_item:
        left = max(left, 1)
    seconds_left = site.log.queue.seconds_left(person.id, answered, left)
    return {
        "progress": {
            "answered": answered,
            "left": left,
            "total": answered + left,
            "seconds_left": None if seconds_left is None else round(seconds_left),
        },
        "can_undo": site.log.answers.last(person.id) is not None,
    }
