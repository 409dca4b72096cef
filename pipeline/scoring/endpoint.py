"""Client of a server that speaks OpenAI's API: it tries again what may pass, waits its turn and tells no key.

Proxies and certificates are those of httpx: ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE`` ... Needs no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from pipeline.base.errors import ModelError
from pipeline.base.json_values import JsonObject

T = TypeVar("T")

LARGEST_REPLY = 2**20
"""Bytes of a reply that are read."""
LONGEST_WAIT = 60.0
"""Seconds between two attempts, also where the server asks for more."""
# Words in the error of a request that the server's filter refused, or that is too long for the model.
_REFUSED = ("content_filter", "content_policy", "content management policy")
_TOO_LONG = ("context_length", "context length", "maximum context", "too many tokens", "context size")


class Served(Protocol):
    """The options that say how a server is talked to."""

    @property
    def url(self) -> str: ...
    @property
    def key_env(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def attempts(self) -> int: ...


class Transient(Exception):
    """A failure worth another attempt, ``after`` so many seconds where the server gives a number."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class Stopped(Exception):
    """A request that was not sent, or not waited for, as another one has failed."""


class RequestRefused(Exception):
    """The server refuses this one request, and may answer others."""

    def __init__(self, reason: Literal["content_filter", "too_long"]) -> None:
        super().__init__(reason)
        self.reason: Literal["content_filter", "too_long"] = reason


class Endpoint:
    """Sends requests from several threads.

    Args:
        model: its name at the server.
        who: what it is here, such as ``judge``; with the server's host it begins every message.
        check: the keys to look at where the server refuses all requests.
        rate: most requests a second; None sets no limit.
        backoff: seconds before the second attempt; doubled for every further one.
    Raises:
        ModelError: the key cannot stand in an HTTP header.
    """

    def __init__(
        self, options: Served, model: str, who: str, check: str, rate: float | None = None, backoff: float = 0.5
    ) -> None:
        self.options, self.model, self.check, self.rate, self.backoff = options, model, check, rate, backoff
        self.where = f"{who} {model} at {urlsplit(options.url).netloc}"
        self.stopping = threading.Event()
        self.retries = 0
        self._key = os.environ.get(options.key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ModelError(self.where, f"the key in {options.key_env} holds characters that no key has.")
        self._client: httpx.Client | None = None
        self._turns = threading.Lock()
        self._next_turn = 0.0

    @contextlib.contextmanager
    def open(self) -> Generator[None]:
        """Keep connections for the block; at its end all requests under way are given up.

        Raises:
            ModelError: a proxy or certificate of the environment cannot be used.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "rlhf-pipeline"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx.Limits(
            max_connections=self.options.concurrency, max_keepalive_connections=self.options.concurrency
        )
        self.stopping.clear()
        try:
            # It follows no redirect, which would carry the key to another host, so http stays http: there are no
            # certificates to load, which takes a fifth of a second.
            secure = urlsplit(self.options.url).scheme == "https"
            self._client = httpx.Client(
                headers=headers, timeout=self.options.timeout, limits=limits, verify=secure
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as err:
            problem = f"httpx cannot use a proxy or certificate of the environment: {err}."
            fix = "Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE."
            raise ModelError(self.where, problem, fix) from err
        try:
            yield
        finally:
            self.stopping.set()
            self._client.close()

    def post(self, path: str, body: JsonObject, parse: Callable[[bytes], T]) -> T:
        """The server's reply to ``body``, after as many attempts as it takes.

        Args:
            path: appended to the URL; one that begins with // replaces the URL's own path.
            parse: raises ``Transient`` where the reply is not what was asked for.
        Raises:
            ModelError: the server does not answer, or refuses all requests.
            RequestRefused: it refuses this one.
            Stopped: :attr:`stopping` is set.
        """
        # httpx's `json=` cannot encode half a surrogate pair, which a text may hold.
        return self._attempt(lambda: self._send("POST", path, json.dumps(body).encode(), parse))

    def get(self, path: str, parse: Callable[[bytes], T], without: T) -> T:
        """As :meth:`post`, without a body.

        Args:
            without: returned where the server has no such route, or one that does not work.
        """
        return self._attempt(lambda: self._send("GET", path, None, parse, without))

    def _attempt(self, send: Callable[[], T]) -> T:
        problem = ""
        for attempt in range(self.options.attempts):
            self._await_turn()
            try:
                return send()
            except Transient as err:
                problem = str(err)
                if self.stopping.is_set():
                    raise Stopped from err
                wait = err.after if err.after is not None else self.backoff * 2**attempt * (1 + random.random())
                wait = min(wait, LONGEST_WAIT)
            with self._turns:
                self.retries += 1
                if "HTTP 429" in problem:  # the limit is on all requests: nobody sends one before it is over
                    self._next_turn = max(self._next_turn, time.monotonic() + wait)
            if attempt + 1 < self.options.attempts and self.stopping.wait(wait):
                raise Stopped
        mend = "Run again when it answers; its answers so far are kept."
        if "HTTP 5" in problem:  # as `transformers serve` says of a model that it cannot load
            mend = f"Check that it has a model {self.model}. {mend}"
        raise ModelError(self.where, f"no answer in {self.options.attempts} attempts: {problem}.", mend)

    def _await_turn(self) -> None:
        """Wait until the rate, and the server's own limit, allow a request."""
        if self.stopping.is_set():
            raise Stopped
        with self._turns:
            now = time.monotonic()
            turn = max(now, self._next_turn)
            if self.rate is not None:
                self._next_turn = turn + 1 / self.rate
        if turn > now and self.stopping.wait(turn - now):
            raise Stopped

    def _send(
        self, method: str, path: str, content: bytes | None, parse: Callable[[bytes], T], without: T | None = None
    ) -> T:
        raw = b""
        assert self._client is not None, "send within open()"
        try:
            with self._client.stream(method, self._address(path), content=content) as response:
                for chunk in response.iter_bytes():
                    raw += chunk
                    if len(raw) > LARGEST_REPLY:
                        raise Transient("the reply is too long")
        except (httpx.HTTPError, httpx.StreamError) as err:  # refused, reset, timed out, no such host, cut short
            raise Transient(self._redact(str(err) or type(err).__name__)) from err
        except RuntimeError as err:  # the client was closed
            if self.stopping.is_set():
                raise Stopped from err
            raise
        if without is not None and response.status_code in (404, 405, 500, 501):
            return without
        if not response.is_success:
            raise self._refusal(response, raw.decode("utf-8", "replace"))
        return parse(raw)

    def _address(self, path: str) -> str:
        url = self.options.url.rstrip("/")
        if path.startswith("//"):
            parts = urlsplit(url)
            return f"{parts.scheme}://{parts.netloc}{path[1:]}"
        return url + path

    def _refusal(self, response: httpx.Response, text: str) -> Exception:
        """What to raise where the server answers with an error."""
        status, after = response.status_code, response.headers.get("Retry-After", "")
        if status in (408, 409, 425, 429) or status >= 500:
            return Transient(f"HTTP {status}", float(after) if after.replace(".", "", 1).isdigit() else None)
        low = text.lower()
        if any(word in low for word in _REFUSED):
            return RequestRefused("content_filter")
        if status == 413 or any(word in low for word in _TOO_LONG):
            return RequestRefused("too_long")
        fix = ""
        if status in (401, 403):
            # A server may repeat the key it refuses, so its text is not shown.
            state = "is not accepted" if self._key else "is not set"
            problem = f"HTTP {status}: the key in {self.options.key_env} {state}."
        elif 300 <= status < 400:
            problem, fix = f"The server redirected (HTTP {status}).", "Set `url` to the final address."
        else:
            reason = " ".join(self._redact(text).split())[:200] or "no reason given"
            problem, fix = f"HTTP {status}: {reason}.", self.check
        return ModelError(self.where, problem, fix)

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text
