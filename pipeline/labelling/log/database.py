"""The database under a labelling log, whichever it is: what the log asks of one, and the errors that it raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pipeline.base.errors import PipelineError, StoreError

Row = tuple[Any, ...]
Values = Sequence[Any]


class Refused(PipelineError):
    """The log refuses a well-formed event, or an unknown person: nothing was recorded."""


class LogFull(StoreError):
    """The log cannot be written: a full or read-only disk, a lock that others hold, a server that is gone.

    Nothing was recorded. (A disk that fails during the flush, or a server that stops during it, leaves that open;
    a retry with the same key is right in every case.)
    """


class Cursor(Protocol):
    """The result of one statement."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside a transaction.

    The SQL is what SQLite and PostgreSQL share, with ``?`` for values; an index that only SQLite must be told
    (``INDEXED BY``) is left out for PostgreSQL.
    """

    def execute(self, sql: str, parameters: Values = ..., /) -> Cursor: ...
    def executemany(self, sql: str, parameters: Iterable[Values], /) -> object: ...


class Database(Protocol):
    """A transactional store that many processes and threads write concurrently.

    Writing transactions come one after another, so that the numbers of events are in the order of their commits.

    Attributes:
        where: names it in messages, without a password.
    """

    where: str

    @property
    def secret(self) -> bytes:
        """The 32 bytes that sign links and cookies; raises StoreError where they are damaged."""
        ...

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """All rows of a query; inside :meth:`write`, in its transaction."""
        ...

    def row(self, sql: str, values: Values = ()) -> Row | None:
        """The first row of a query."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction: durable when the block has ended, rolled back on an exception."""
        ...

    def vacuum(self) -> None:
        """Rewrite the tables, so that no erased row stays in the database's files. Raises LogFull."""
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """A connection to read by; inside :meth:`write`, that of its transaction."""
        ...

    def close(self) -> None:
        """Close the connections of all threads. A later call opens a new one."""
        ...
