"""Routes of the page: ask, with the answers streamed as lines of JSON, and say what one thinks of them.

Answers are addressed by place on the page, so that a page with hidden names cannot tell which is whose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipeline.base.errors import PipelineError
from pipeline.chat import votes
from pipeline.chat.asking import Talk
from pipeline.chat.conversation import NO_TEMPLATE
from pipeline.chat.exchange import Shown, ticket
from pipeline.chat.explanations import Explanation
from pipeline.chat.questions import Update
from pipeline.chat.why import ask_why, drawn
from pipeline.formats.messages import Message
from pipeline.labelling.log.people import Person
from pipeline.labelling.web.api import events_route
from pipeline.labelling.web.context import Site, json_response, page
from pipeline.labelling.web.parse_event import event_of
from pipeline.labelling.web.request_checks import Refusal, read_json

TEMPLATES = Path(__file__).parent / "templates"
MOST_MESSAGES = 200
MESSAGE_BYTES = 32 * 1024
NAMES = ("base", "policy")
HIDDEN = ("A", "B")


def routes() -> list[Route]:
    return [
        Route("/a/{annotator}/", _page),
        Route("/a/{annotator}/api/state", _state),
        Route("/a/{annotator}/api/ask", _ask, methods=["POST"]),
        Route("/a/{annotator}/api/why", _why, methods=["POST"]),
        events_route(_record),
    ]


def _page(request: Request) -> Response:
    site: Site = request.app.state.site
    site.person(request)
    return page("try.html.jinja", {"title": site.title}, templates=TEMPLATES)


def _state(request: Request) -> Response:
    site, talk = _of(request)
    person, consent, engine = site.person(request), site.consent, talk.engine
    about = {
        "title": site.title,
        "consent": {
            "needed": site.log.answers.consent_of(person.id) != consent.sha256,
            "text": consent.text,
            "version": consent.version,
            "sha256": consent.sha256,
        },
        "blind": talk.blind,
        "names": list(HIDDEN if talk.blind else NAMES),
        "refs": None if talk.blind else [answerer.ref for answerer in talk.served.answerers],
        "scored": engine.scorer is not None,
        "explained": engine.followed is not None,
        "attributed": engine.attributes,
        "system": engine.settings.system if engine.prompting.has_template else None,
        "has_template": engine.prompting.has_template,
        "notes": [
            note for note in (talk.served.note, None if engine.prompting.has_template else NO_TEMPLATE) if note
        ],
        "temperature": engine.settings.temperature,
        "completion_tokens": engine.settings.completion_tokens,
    }
    return json_response(about)


def _of(request: Request) -> tuple[Site, Talk]:
    return request.app.state.site, request.app.state.talk


# Asking


async def _ask(request: Request) -> Response:
    site, talk = _of(request)
    person = await run_in_threadpool(site.person, request)
    site.rate.check(person.id)
    messages = conversation(await read_json(request))
    await run_in_threadpool(_require_consent, site, person)
    loop, updates = asyncio.get_running_loop(), asyncio.Queue[Update]()

    def tell(update: Update) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(updates.put_nowait, update)

    asked = await run_in_threadpool(talk.ask, person.id, messages, tell, site.log.people)

    def sealed(done: dict[int, Update]) -> dict[str, Any]:
        exchange = asked.exchange(done)
        text, signature = ticket(exchange, site.log.people)
        return {"exchange": text, "signature": signature, "differs": exchange.differs}

    return _Answers(_lines(updates, asked.order, sealed), asked.stop)


class _Answers(StreamingResponse):
    """The answers as lines of JSON; ``stop`` is called when they have ended, or the asker has gone."""

    def __init__(self, lines: AsyncIterator[bytes], stop: Callable[[], object]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self.stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stop()


async def _lines(
    updates: asyncio.Queue[Update], order: tuple[int, ...], sealed: Callable[[dict[int, Update]], dict[str, Any]]
) -> AsyncIterator[bytes]:
    """One line for each update: only what is new of a text, where it continues what was sent."""
    sent, done = ["", ""], dict[int, Update]()
    while True:
        update = await updates.get()
        place = order.index(update.side)
        line: dict[str, Any] = {"kind": update.kind}
        if update.kind == "waits":
            line["before"] = update.number
        elif update.kind == "text":
            follows = update.text.startswith(sent[place])
            line |= {"place": place, "from": len(sent[place]) if follows else 0}
            line["text"] = update.text[line["from"] :]
            sent[place] = update.text
        elif update.kind == "done":
            done[update.side] = update
            line |= {"place": place, "text": update.text, "tokens": update.number}
            line |= {"score": update.score, "ended": update.ended}
        elif update.kind == "over":
            line |= sealed(done)
        else:
            line["error"] = update.text
        yield json.dumps(line, ensure_ascii=True).encode() + b"\n"
        if update.kind in ("over", "failed"):
            return


def conversation(body: dict[str, Any]) -> list[Message]:
    """The messages that a page sends: of user and assistant by turns, the last one the user's.

    Raises:
        Refusal: 400 they are not; 413 one is too long.
    """
    if set(body) != {"messages"} or not isinstance(body["messages"], list):
        raise Refusal(400, "The body must have messages, a list.", "wrong keys")
    messages: list[Message] = []
    for place, message in enumerate(cast("list[Any]", body["messages"])):
        role = ("user", "assistant")[place % 2]
        if not isinstance(message, dict) or set(cast("dict[str, Any]", message)) != {"role", "content"}:
            raise Refusal(400, "A message has a role and a content.", "wrong keys")
        content = message["content"]
        if message["role"] != role or not isinstance(content, str):
            raise Refusal(400, "Messages are texts of user and assistant by turns.", "wrong roles")
        try:
            size = len(content.encode())
        except UnicodeEncodeError:
            raise Refusal(400, "A message is not valid Unicode.", "surrogates") from None
        if "\0" in content:
            raise Refusal(400, "A message contains a NUL character.", "NUL")
        if size > MESSAGE_BYTES:
            raise Refusal(413, f"A message is longer than {MESSAGE_BYTES // 1024} kB.", "too long")
        messages.append({"role": role, "content": content})
    if len(messages) % 2 == 0:
        raise Refusal(400, "The last message must be the user's.", "wrong roles")
    if len(messages) > MOST_MESSAGES:
        raise Refusal(413, "The conversation is too long. Start a new one.", "too long")
    if not messages[-1]["content"].strip():
        raise Refusal(400, "The message is empty: write something.", "empty")
    return messages


# Why a score


async def _why(request: Request) -> Response:
    site, talk = _of(request)
    person = await run_in_threadpool(site.person, request)
    site.rate.check(person.id)
    body = await read_json(request)
    await run_in_threadpool(_require_consent, site, person)
    explanation = await run_in_threadpool(ask_why, talk, site.log, person.id, body)
    return _Answers(_explained(explanation), explanation.stop)


async def _explained(explanation: Explanation) -> AsyncIterator[bytes]:
    """One line, when it is there."""
    try:
        result = await asyncio.wrap_future(explanation.result)
        line = {"kind": "over", **drawn(result)}
    except PipelineError as err:
        line = {"kind": "failed", "error": str(err)}
    yield json.dumps(line, ensure_ascii=True).encode() + b"\n"


# Opinions


def _record(site: Site, person: Person, body: dict[str, Any]) -> Response:
    """Record an opinion or the consent. It is durable even if the response is lost; a retry returns it."""
    if body.get("type") == "consent":
        receipt = site.log.events.append(event_of(body, person.id, site))
        return json_response({"seq": receipt.seq, "duplicate": receipt.duplicate})
    _require_consent(site, person)
    recorded = votes.record(site.log, person.id, body)
    answer: dict[str, Any] = {"seq": recorded.receipt.seq, "duplicate": recorded.receipt.duplicate}
    if votes.has_chosen(site.log, person.id, recorded.shown):
        answer |= revealed(recorded.shown)
    return json_response(answer)


def revealed(shown: Shown) -> dict[str, Any]:
    """Who wrote which, by place."""
    answerers = [shown.exchange.answerers[side] for side in shown.order]
    return {"names": [a.role for a in answerers], "refs": [a.ref for a in answerers]}


def _require_consent(site: Site, person: Person) -> None:
    if site.log.answers.consent_of(person.id) != site.consent.sha256:
        raise Refusal(403, "Agree to the text first.", "no consent", "consent")
