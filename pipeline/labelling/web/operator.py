"""Routes of the operator's page (no script): progress, people, disputes, publishing, export."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from pipeline.base.errors import DataError, PipelineError
from pipeline.labelling.log.database import Refused
from pipeline.labelling.log.event_checks import Asked
from pipeline.labelling.log.new_event import parse_adjudication
from pipeline.labelling.web import dashboard, votes_download
from pipeline.labelling.web.context import Message, Site, page
from pipeline.labelling.web.request_checks import Refusal, read_form
from pipeline.labelling.wording import choice_words, from_letters


def routes() -> list[Route]:
    return [
        Route("/operator/", _page),
        Route("/operator/export", _export),
        Route("/operator/annotators", _add, methods=["POST"]),
        Route("/operator/withdraw", _withdraw, methods=["POST"]),
        Route("/operator/adjudicate", _adjudicate, methods=["POST"]),
        Route("/operator/publish", _publish, methods=["POST"]),
    ]


def _page(request: Request) -> Response:
    site: Site = request.app.state.site
    site.operator(request)
    values = dashboard.values(site, site.address(request))
    message = site.state.message(request.query_params.get("m"))
    return _own_referrer(page("operator.html.jinja", values | {"message": message, "key": secrets.token_hex}))


def _own_referrer(answer: Response) -> Response:
    # With no-referrer a browser sends "Origin: null" with a form (Fetch, "append a request Origin header"), which
    # looks like another site's. These addresses contain no token, and other sites still get no referrer.
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer


def _export(request: Request) -> Response:
    site: Site = request.app.state.site
    site.operator(request)
    kind = request.query_params.get("format", "")
    if kind not in votes_download.FORMATS:
        raise Refusal(400, f"format must be one of: {', '.join(votes_download.FORMATS)}.", "format")
    try:
        rows = votes_download.rows(site.log)
    except DataError as err:
        raise Refusal(409, str(err), "nothing to export") from err
    media, write = votes_download.FORMATS[kind]
    name = f"votes-{(site.log.batches.current or '')[:12]}.{kind}"
    return StreamingResponse(
        write(rows), media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


async def _add(request: Request) -> Response:
    site, form = await _form(request, "name")
    return await run_in_threadpool(_act, site, _person_added, form, "people")


async def _withdraw(request: Request) -> Response:
    site, form = await _form(request, "annotator")
    return await run_in_threadpool(_act, site, _person_withdrawn, form, "people")


async def _adjudicate(request: Request) -> Response:
    site, form = await _form(request, "key", "item", "choice")
    return await run_in_threadpool(_act, site, _adjudicated, form, "queue")


async def _publish(request: Request) -> Response:
    site, form = await _form(request)
    return await run_in_threadpool(_act, site, _published, form, "publish")


async def _form(request: Request, *names: str) -> tuple[Site, dict[str, str]]:
    site: Site = request.app.state.site
    await run_in_threadpool(site.operator, request)
    return site, await read_form(request, names)


def _act(site: Site, action: Callable[[Site, dict[str, str]], str], form: dict[str, str], place: str) -> Response:
    """Run an action and redirect to the page, which shows its message."""
    try:
        text, good = action(site, form), True
    except PipelineError as err:
        text, good = str(err), False
    number = site.state.add_message(Message(text, good, place))
    return _own_referrer(RedirectResponse(f"/operator/?m={number}#{place}", 303))


def _person_added(site: Site, form: dict[str, str]) -> str:
    person = site.log.people.add(form["name"])
    return f"{person.name} has a link now. It is in the list: give it only to them."


def _person_withdrawn(site: Site, form: dict[str, str]) -> str:
    person = next((p for p in site.log.people.all() if p.id == form["annotator"]), None)
    if person is None:
        raise Refused("people", "nobody has this id.")
    site.log.people.withdraw(person.id)
    return f"The link of {person.name} is withdrawn. Their answers stay; add the name again for a new link."


def _adjudicated(site: Site, form: dict[str, str]) -> str:
    item = site.log.batches.item(form["item"])
    if item is None:
        raise Refused("adjudicate", "there is no such item.")
    try:
        choice = from_letters(form["choice"]) if item.mode == "ranking" else form["choice"]
        content = {"key": form["key"], "item": item.id, "choice": choice}
        event = parse_adjudication(content, Asked(item, site.settings))
    except ValueError as err:
        raise Refused("adjudicate", f"{str(err).rstrip('.')}.") from err
    site.log.events.append(event)
    return f"Settled: {choice_words(event.choice, item.mode)}."


def _published(site: Site, form: dict[str, str]) -> str:
    state = site.state
    if site.publish is None:
        raise Refused("publish", "this page publishes nothing.", "Run: make collect")
    if not state.publishing.acquire(blocking=False):
        raise Refused("publish", "it is being published already.", "Reload in a moment.")
    good = False
    text = "It failed because of a bug; see the server's terminal."
    try:
        text, good = site.publish(), True
        return text
    except PipelineError as err:
        text = str(err)
        raise
    finally:
        state.last = (time.strftime("%Y-%m-%d %H:%M"), text, good)
        state.publishing.release()
