"""Limit the page's connections and their time, so that idle connections cannot lock others out.

uvicorn answers 503 at too many connections, idle ones included, and its timer runs only between a response and the
next byte, so a slow client can hold a connection forever. Here the longest idle connection is closed for a new
one, and requests and responses have deadlines.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 512
HEADERS_SECONDS = 10
KEEP_ALIVE_SECONDS = 30
STALLED_SECONDS = 60
BACKLOG = 128


def most_connections() -> int:
    """:data:`MOST_CONNECTIONS`, or half of the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MOST_CONNECTIONS, soft // 2))


def connection_class() -> type[Connection]:
    """The connection class of one server, with its own idle list."""

    class Own(Connection):
        most = most_connections()
        idle: ClassVar[dict[Connection, None]] = {}

    return Own


class Connection(H11Protocol):
    """A connection, idle until a request is complete, and again after the response.

    Attributes:
        most: the limit of connections.
        idle: connections without a request in progress, the longest idle first.
    """

    most: ClassVar[int]
    idle: ClassVar[dict[Connection, None]]
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._update(expecting=True)
        connected = [c for c in cast("set[Connection]", self.connections) if not c.transport.is_closing()]
        if len(connected) > self.most:
            self._make_room(connected, len(connected) - self.most)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update(expecting=True)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A request refused before its body was complete must still end in time.
        self._update(expecting=self.conn.their_state is h11.SEND_BODY)

    def _update(self, expecting: bool) -> None:
        """Update the idle list and the request's deadline.

        Args:
            expecting: a request has begun, or is the first; after a response uvicorn's keep-alive timer runs.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.idle.pop(self, None)
            self._stop("_deadline")
        elif not self.transport.is_closing():
            self.idle.setdefault(self)
            if expecting and self._deadline is None:
                self._deadline = self.loop.call_later(HEADERS_SECONDS, self.transport.abort)

    def _make_room(self, connected: list[Connection], count: int) -> None:
        """Close the longest idle connections; if too few, also ones that are sending a body."""
        idle = [c for c in self.idle if c is not self and not c.transport.is_closing()]
        sending = [c for c in connected if c not in self.idle and c.cycle.more_body]
        for connection in [*idle, *sending][:count]:
            connection.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop("_stalled")
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("_stalled")

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # closing would wait for a client that does not read
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.idle.pop(self, None)
        self._stop("_deadline")
        self._stop("_stalled")
        self._unset_keepalive_if_required()

    def _stop(self, timer: str) -> None:
        handle: asyncio.TimerHandle | None = getattr(self, timer)
        if handle is not None:
            handle.cancel()
            setattr(self, timer, None)
