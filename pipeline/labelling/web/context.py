"""The routes' shared state, authentication by cookie, and rendering of pages."""

from __future__ import annotations

import hmac
import json
import math
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipeline.base.records import digest
from pipeline.labelling.log.people import Person
from pipeline.labelling.log.queue import Plan
from pipeline.labelling.public_url import PublicAddress
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.request_checks import Rate, Refusal

if TYPE_CHECKING:
    from pipeline.labelling.log.log import Log

T = TypeVar("T")

HERE = Path(__file__).parent
RENDERERS = tuple(sorted(path.stem for path in (HERE / "static" / "renderers").glob("*.js")))
"""What a task may name as its renderer."""
COOKIE_DAYS = 30
MESSAGES = 50
STATISTICS_SECONDS = 5.0
_TOKEN = re.compile(r"[0-9a-f]{16,128}")

# Control characters, except white space of HTML, as their visible symbols (from U+2400).
_CONTROLS = {c: 0x2400 + c for c in range(32) if chr(c) not in "\n\t\r"} | {0x7F: 0x2421}


@dataclass(frozen=True)
class Consent:
    """The text that people agree to before their first vote. ``sha256`` is that of its UTF-8 bytes."""

    text: str
    version: str
    sha256: str


class RemainingEstimate:
    """An upper estimate of a person's remaining items that decreases by one per answer, whatever the item.

    Gold items and repeats come on top of the items left: an estimate without them would not decrease at one, and
    reveal it. This one adds their expected number plus two standard deviations. It is never below the number left;
    other people's answers make it fall faster.

    Args:
        extra: share of the items shown that are gold or repeats.
    """

    def __init__(self, extra: float) -> None:
        self.extra = extra
        self._total: dict[str, int] = {}

    def left(self, who: str, answered: int, left: int) -> int:
        if not self.extra or not left:
            return left
        expected = left * self.extra / (1 - self.extra)
        most = left + math.ceil(expected + 2 * math.sqrt(expected))
        estimate = min(max(self._total.get(who, answered + most) - answered, left), most)
        self._total[who] = answered + estimate
        return estimate


@dataclass(frozen=True)
class Message:
    """The result of an operator's action. ``place``: the section of the page that shows it."""

    text: str
    good: bool
    place: str


class OperatorState:
    """The operator's page's state between requests.

    Attributes:
        publishing: lock held while a version is being published.
        last: (time, message, success) of the last publishing.
    """

    def __init__(self) -> None:
        self.publishing = threading.Lock()
        self.last: tuple[str, str, bool] | None = None
        self._messages: OrderedDict[str, Message] = OrderedDict()
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._statistics: object = None
        self._next = 0.0

    def add_message(self, message: Message) -> str:
        """Keep a message for the page after a redirect; returns its number. (Anybody could forge one in a URL.)"""
        with self._lock:
            number = secrets.token_hex(4)
            self._messages[number] = message
            while len(self._messages) > MESSAGES:
                self._messages.popitem(last=False)
            return number

    def message(self, number: str | None) -> Message | None:
        """The message of this number, if it is among the newest."""
        with self._lock:
            return self._messages.get(number or "")

    def statistics(self, make: Callable[[], T], stale: Callable[[T], bool]) -> T:
        """The result of ``make``, cached until ``stale`` holds.

        ``make`` runs every few seconds at most, and takes a tenth of the time at most.
        """
        with self._counting:
            now = time.monotonic()
            kept = cast("T | None", self._statistics)
            if kept is None or (now >= self._next and stale(kept)):
                self._statistics = kept = make()
                took = time.monotonic() - now
                self._next = now + took + max(STATISTICS_SECONDS, 9 * took)
            return kept


@dataclass
class Site:
    """One labelling project being served.

    Attributes:
        publish: see :func:`app.build_app`.
        public: the address of a proxy in front of this page.
        stage: the command that serves it.
        renderer: the name of a module of static/renderers/ that draws the texts; None shows them as texts.
    """

    log: Log
    settings: LabelSection
    title: str
    guidelines: str | None
    consent: Consent
    publish: Callable[[], str] | None
    public: PublicAddress | None = None
    stage: str = "label"
    renderer: str | None = None
    rate: Rate = field(default_factory=Rate)
    state: OperatorState = field(default_factory=OperatorState)

    @cached_property
    def project(self) -> str:
        """Distinguishes this project's cookies from others': cookies ignore ports."""
        return digest(["project", self.log.people.salt])[:12]

    @cached_property
    def plan(self) -> Plan:
        return Plan.of(self.settings)

    @cached_property
    def remaining(self) -> RemainingEstimate:
        plan = self.plan
        return RemainingEstimate(min(plan.repeat_share + (plan.gold_share if self.settings.gold else 0), 0.9))

    def encrypted(self, request: Request) -> bool:
        """Whether the browser speaks HTTPS, as far as the request shows; only then can the cookie be Secure."""
        if request.scope["scheme"] == "https" or request.headers.get("x-forwarded-proto", "").lower() == "https":
            return True
        return self.public is not None and self.public.secure and self.public.is_asked(request.headers["host"])

    def address(self, request: Request) -> str:
        """Scheme and host for links: the public ones, or those of this request."""
        if self.public is not None:
            return self.public.origin
        return f"{request.scope['scheme']}://{request.headers['host']}"

    def cookie(self, who: str) -> str:
        return f"rlhf_{self.project}_{who}"

    def person(self, request: Request) -> Person:
        """The person of this page. Raises Refusal 403 without their cookie, or after a withdrawal."""
        annotator = request.path_params["annotator"]
        token = request.cookies.get(self.cookie(annotator), "")
        person = self.person_of(token)
        if person is None or person.id != annotator:
            raise Refusal(403, "This page needs your own link. Open it again.", "no valid cookie", "link")
        return person

    def person_of(self, token: str) -> Person | None:
        """The active person with this token."""
        return self.log.people.by_token(token) if _TOKEN.fullmatch(token) else None

    def is_operator(self, token: str) -> bool:
        return _TOKEN.fullmatch(token) is not None and hmac.compare_digest(token, self.log.people.operator_token)

    def operator(self, request: Request) -> None:
        """Raise Refusal 403 without the operator's cookie."""
        if not self.is_operator(request.cookies.get(self.cookie("operator"), "")):
            raise Refusal(403, "This page needs the operator's link. Open it again.", "no valid cookie", "link")


def set_cookie(response: Response, name: str, token: str, path: str, secure: bool) -> None:
    response.set_cookie(
        name, token, max_age=COOKIE_DAYS * 86400, path=path, httponly=True, samesite="strict", secure=secure
    )


def json_response(value: object, status: int = 200) -> Response:
    # A lone surrogate, as a byte-level model can write, has no UTF-8; JSON spells it \udXXX.
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Response(body, status, media_type="application/json")


def refuse(request: Request, refusal: Refusal) -> Response:
    """A refusal as JSON for the page's script, or as a page for a person."""
    if "/api/" in request.scope["path"]:
        body = {"error": " ".join(refusal.text.split())[:300]} | ({"code": refusal.code} if refusal.code else {})
        return json_response(body, refusal.status)
    again = request.scope["path"] if refusal.code == "link" and request.scope["method"] == "GET" else None
    title = "This page needs your link" if refusal.code == "link" else "This did not work"
    return page("message.html.jinja", {"title": title, "text": refusal.text, "again": again}, refusal.status)


def page(
    template: str, values: Mapping[str, Any], status: int = 200, templates: Path = HERE / "templates"
) -> Response:
    """A rendered template. Lone surrogates become question marks."""
    rendered = _environment(templates).get_template(template).render(values)
    return HTMLResponse(rendered.encode("utf-8", "replace"), status)


def show_controls(text: str) -> str:
    """``text`` with control characters as visible symbols (NUL is ␀)."""
    return text.translate(_CONTROLS)


@cache
def _environment(templates: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show_controls"] = show_controls
    return environment
