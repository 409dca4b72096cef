"""Checks before every route: host, origin, size, time, rate; security headers; one log line per refusal."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.base.json_values import JsonObject
from pipeline.labelling.public_url import PublicAddress

BODY_BYTES = 256 * 1024
BODY_SECONDS = 10.0
EVENTS_PER_SECOND = 20

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
WILDCARDS = ("0.0.0.0", "::")
SAFE_METHODS = ("GET", "HEAD")


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: the HTTP status.
        text: one line for the client; may contain text of the request.
        logged: for stderr; never contains text of the request.
        code: for the page's script, where it handles this refusal specially.
    """

    def __init__(self, status: int, text: str, logged: str = "", code: str = "") -> None:
        self.status, self.text, self.logged, self.code = status, text, logged or text, code
        super().__init__(text)


def host_name(host: str) -> str:
    """A Host header's name without port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.lower() if host.count(":") > 1 else host.partition(":")[0].lower()


def host_allowed(host: str, names: Sequence[str]) -> bool:
    """Whether a Host header names this page. The port may differ, as behind an SSH tunnel.

    A foreign page whose name was pointed here (DNS rebinding) sends its own name. When listening on every address,
    any literal address is allowed too: it has no name to rebind.
    """
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", host):
        return False
    name = host_name(host)
    if name in names:
        return True
    if not any(wildcard in names for wildcard in WILDCARDS):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware: refuses wrong hosts and origins, adds the security headers, keeps content off stderr.

    Args:
        hosts: allowed host names.
        refuse: renders a Refusal as a page or JSON.
        public: the address of a proxy in front of this page, whose name and origin are allowed too.
        stage: the command that serves, for lines on stderr.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        refuse: Callable[[Request, Refusal], Response],
        public: PublicAddress | None = None,
        stage: str = "label",
    ) -> None:
        self.app, self.refuse, self.public, self.stage = app, refuse, public, stage
        self.hosts = tuple(host_name(host) for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        try:
            self._check(scope)
            await self.app(scope, receive, send_guarded)
        except Refusal as refusal:
            note(scope, refusal.status, refusal.logged, self.stage)
            await self.refuse(request, refusal)(scope, receive, send_guarded)
        except ClientDisconnect:
            note(scope, 400, "the client disconnected", self.stage)
        except Exception as err:
            # Frames only: the error's message may contain somebody's text.
            frames = "".join(traceback.format_tb(err.__traceback__)[-6:])
            note(scope, 500, f"{type(err).__name__}, a bug:\n{frames.rstrip()}", self.stage)
            if not started:
                refusal = Refusal(500, "An internal error occurred; see the server's terminal.")
                await self.refuse(request, refusal)(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        public = self.public is not None and len(hosts) == 1 and self.public.is_asked(hosts[0])
        if len(hosts) != 1 or not (public or host_allowed(hosts[0], self.hosts)):
            raise Refusal(421, "This page is not served under that name.", "unknown Host")
        if scope["method"] in SAFE_METHODS:
            return
        if scope["method"] != "POST":
            raise Refusal(405, "Only GET and POST are served.")
        origins = [origin.lower() for origin in headers.getlist("origin")]
        # Behind a proxy the connection is plain, and the host may have been replaced by this page's own.
        ours = [] if self.public is None else [self.public.origin]
        if not public:
            ours.append(f"{scope['scheme']}://{hosts[0]}".lower())
        if len(origins) != 1 or origins[0] not in ours:
            reason = "other Origin" if origins else "no Origin"
            raise Refusal(403, "A change must come from this page itself.", reason)


def note(scope: Scope, status: int, reason: str, stage: str = "label") -> None:
    """Log time, method, path without tokens, status and reason on stderr; never a query, a body or a header."""
    path = re.sub(r"[0-9a-fA-F]{16,}|(?<=/join/).+", "…", scope["path"])[:120]
    path = "".join(c if c.isprintable() else "?" for c in path).encode("ascii", "replace").decode()
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"[{stage}] {when} {scope['method'][:10]} {path} {status} {reason}", file=sys.stderr, flush=True)


async def read_body(request: Request, media: str, limit: int = BODY_BYTES, seconds: float = BODY_SECONDS) -> bytes:
    """The body of a POST, at most ``limit`` bytes and arriving within ``seconds``.

    Raises:
        Refusal: 415 another media type, 413 too long, 408 too slow, 400 a wrong Content-Length.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media:
        raise Refusal(415, f"The body must be {media}.")
    declared = request.headers.get("content-length")
    if declared is not None and not re.fullmatch(r"[0-9]{1,18}", declared):
        raise Refusal(400, "Content-Length is not a number.")
    if declared is not None and int(declared) > limit:
        raise Refusal(413, f"The body is longer than {limit // 1024} kB.")
    try:
        return await asyncio.wait_for(_read(request, limit), seconds)
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {seconds:g} s.") from None


async def _read(request: Request, limit: int) -> bytes:
    # Counted here as well: a chunked body declares no length.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Refusal(413, f"The body is longer than {limit // 1024} kB.")
    return bytes(body)


async def read_json(request: Request) -> JsonObject:
    """The JSON object in a body. Raises Refusal 400 for anything else, and as :func:`read_body`."""
    return parse_object(await read_body(request, "application/json"))


def parse_object(body: bytes) -> JsonObject:
    """Parse a JSON object in UTF-8 without duplicate keys. Raises Refusal 400 for anything else."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError):  # RecursionError: [[[[... nested deeper than Python's stack
        raise Refusal(400, "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise Refusal(400, "The body is not a JSON object.")
    return cast("JsonObject", value)


def _no_twins(pairs: list[tuple[str, Any]]) -> JsonObject:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


async def read_form(request: Request, names: Sequence[str]) -> dict[str, str]:
    """The fields of a form, exactly ``names``. Raises Refusal 400 for others, and as :func:`read_body`."""
    body = await read_body(request, "application/x-www-form-urlencoded")
    strict = bool(body)
    try:
        pairs = parse_qsl(body.decode("ascii"), True, strict, errors="strict", max_num_fields=20)
    except ValueError:
        raise Refusal(400, "The form cannot be read.") from None
    if sorted(name for name, _ in pairs) != sorted(names):
        raise Refusal(400, f"The form must have the fields {', '.join(names) or '(none)'}.")
    return dict(pairs)


class Rate:
    """A token bucket per person: ``per_second`` on average, as many at once. Used on the event loop only."""

    def __init__(self, per_second: float = EVENTS_PER_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.clock = per_second, clock
        self._level: dict[str, tuple[float, float]] = {}

    def check(self, who: str) -> None:
        """Count a request of ``who``. Raises Refusal 429 where the bucket is empty."""
        now = self.clock()
        level, then = self._level.get(who, (self.per_second, now))
        level = min(self.per_second, level + (now - then) * self.per_second)
        if level < 1:
            self._level[who] = (level, now)
            raise Refusal(429, f"More than {self.per_second:g} answers in a second. Wait a moment.", "too many")
        self._level[who] = (level - 1, now)
