"""How many connections the page keeps, and for how long: whoever only holds some open keeps nobody else out.

uvicorn answers 503 when there are too many connections, idle ones included, and its own timer runs only between an
answer and the next byte: a byte now and then holds a connection for ever. Here the one that has been idle for
longest makes room for a new one, a request has to be whole in time, and an answer has to be taken.
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
    """As many as the limit of open files leaves to a page that needs some for itself."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MOST_CONNECTIONS, soft // 2))


def connection_class() -> type[Connection]:
    """The connections of one server, which make room for each other."""

    class Own(Connection):
        most = most_connections()
        idle: ClassVar[dict[Connection, None]] = {}

    return Own


class Connection(H11Protocol):
    """One connection: idle until a request is whole, and again when it is answered.

    Attributes:
        most: how many there may be.
        idle: those without a request under way, that which has been so for longest first.
    """

    most: ClassVar[int]
    idle: ClassVar[dict[Connection, None]]
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look(expecting=True)
        there = [c for c in cast("set[Connection]", self.connections) if not c.transport.is_closing()]
        if len(there) > self.most:
            self._make_room(there, len(there) - self.most)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look(expecting=True)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # One that was refused before it was whole never makes room for the next.
        self._look(expecting=self.conn.their_state is h11.SEND_BODY)

    def _look(self, expecting: bool) -> None:
        """See whether a request is under way.

        Args:
            expecting: the next one has begun, or is the first; after an answer uvicorn's keep-alive timer runs.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.idle.pop(self, None)
            self._stop("_deadline")
        elif not self.transport.is_closing():
            self.idle.setdefault(self)
            if expecting and self._deadline is None:
                self._deadline = self.loop.call_later(HEADERS_SECONDS, self.transport.abort)

    def _make_room(self, there: list[Connection], count: int) -> None:
        """End those that have been idle for longest; where there are too few, those that are sending a body."""
        idle = [c for c in self.idle if c is not self and not c.transport.is_closing()]
        sending = [c for c in there if c not in self.idle and c.cycle.more_body]
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
        if self.transport.get_write_buffer_size():  # closing would wait for a client that takes nothing
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
