"""A labelling project in PostgreSQL, for servers on several hosts: a schema of its own, pooled connections.

The driver is pg8000 (BSD), which the extra ``postgres`` installs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import re
import secrets
import ssl
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ConfigError, StoreError
from pipeline.labelling.log.database import Connection, LogFull, Row, Values
from pipeline.labelling.log.postgres_schema import STATEMENTS, TABLES, VERSION
from pipeline.labelling.log.postgres_url import PostgresUrl

if TYPE_CHECKING:
    from pg8000.native import Connection as Driver

_MOST_CONNECTIONS = 8
_ASK_AFTER_SECONDS = 1.0
"""An idle connection is asked for a sign of life after this time, which costs a way to the server and back."""

_BUSY = ("another process has been writing for too long", "Try again, or stop that process.")
_GONE = ("the database server has stopped or cannot be reached", "Start it, and try again.")
_GONE_WORDS = ("network error", "communication error", "connection is closed", "Can't create a connection")
"""How the driver begins the errors of a connection that it cannot make or has lost."""
_CANNOT_WRITE = {
    "55P03": _BUSY,
    "57014": _BUSY,
    "57P": _GONE,
    "08": _GONE,
    "53100": ("the server's disk is full", "Free some space and try again."),
    "53": ("the server has too few resources left", "Raise its limits (max_connections, memory) and try again."),
    "25006": ("the server takes no writes", "Connect to the primary."),
    "58": ("the server's disk refuses", "Look into the server's log."),
}
"""SQLSTATE codes, or their first characters: https://www.postgresql.org/docs/15/errcodes-appendix.html"""


class _Result:
    def __init__(self, rows: list[Row]) -> None:
        self._rows = iter(rows)

    def fetchone(self) -> Row | None:
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return self._rows


class PostgresConnection:
    """A connection that prepares each statement once."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.used = 0.0
        self._prepared: dict[str, Any] = {}

    def execute(self, sql: str, parameters: Values = (), /) -> _Result:
        if sql not in self._prepared:
            self._prepared[sql] = self.driver.prepare(_named(sql))
        rows = self._prepared[sql].run(**{f"v{i}": value for i, value in enumerate(parameters)})
        return _Result([tuple(row) for row in rows or ()])

    def executemany(self, sql: str, parameters: Iterable[Values], /) -> None:
        for each in parameters:
            self.execute(sql, each)

    def copy_in(self, table: str, columns: Sequence[str], rows: Iterator[Row]) -> None:
        """Append many rows by one COPY."""
        chunks = iter(lambda: "".join(map(_csv, itertools.islice(rows, 1000))), "")
        self.driver.run(f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)", stream=chunks)

    def answers(self) -> bool:
        try:
            self.driver.run("SELECT 1")
        except Exception:
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(Exception):  # it may be broken, which is why it is closed
            self.driver.close()


@functools.cache
def _named(sql: str) -> str:
    """The driver's names in place of ``?``, and no hint that only SQLite has."""
    numbers = itertools.count()
    return re.sub(r"\?", lambda _: f":v{next(numbers)}", re.sub(r" INDEXED BY \w+", "", sql))


def _csv(row: Row) -> str:
    """A line for COPY: what is quoted is text, what is empty is NULL."""
    return ",".join("" if v is None else '"' + str(v).replace('"', '""') + '"' for v in row) + "\n"


class PostgresDatabase:
    """One schema of a PostgreSQL database that servers on several hosts write concurrently.

    A committed transaction is on the server's disk (``synchronous_commit`` is never off). Writing transactions
    take a lock in turn, as SQLite's do, so that events are numbered in the order of their commits.
    """

    def __init__(self, url: PostgresUrl, project: str, *, busy_ms: int = 10_000) -> None:
        """Connect, and create the schema if missing.

        Raises:
            ConfigError: the driver is not installed, or the server refuses the user, the password or the database.
            StoreError: the schema is of another program, or of a newer version of this one.
            LogFull: the server cannot be reached or written.
        """
        if importlib.util.find_spec("pg8000") is None:
            raise ConfigError(
                str(url),
                "needs the package pg8000.",
                "Install it: python -m pip install 'rlhf-pipeline[postgres]'",
            )
        self.where = f"{url}, schema {project}"
        self._url, self._busy_ms, self._pid = url, busy_ms, os.getpid()
        self._schema = '"' + project.replace('"', '""') + '"'
        self._limit = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._idle: list[PostgresConnection] = []
        self._guard = threading.Lock()
        self._local = threading.local()
        self._create_tables(project)

    @property
    def secret(self) -> bytes:
        """The project's secret, drawn with the tables: all servers sign alike."""
        row = self.row("SELECT secret FROM project")
        if row is None or not re.fullmatch(r"[0-9a-f]{64}", row[0]):
            raise StoreError(
                self.where, "has a damaged secret: not 64 hexadecimal digits.", "Restore it from a copy."
            )
        return bytes.fromhex(row[0])

    def close(self) -> None:
        """Close the idle connections. A later call opens a new one."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """All rows of a query; inside :meth:`write`, in its transaction."""
        with self.read() as db:
            return db.execute(sql, values).fetchall()

    def row(self, sql: str, values: Values = ()) -> Row | None:
        """The first row of a query."""
        with self.read() as db:
            return db.execute(sql, values).fetchone()

    @contextlib.contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """A connection to read by; inside :meth:`write`, that of its transaction."""
        writing: PostgresConnection | None = getattr(self._local, "writing", None)
        if writing is not None:
            yield writing
        else:
            with self._borrowed() as connection:
                yield connection

    @contextlib.contextmanager
    def write(self) -> Generator[PostgresConnection, None, None]:
        """A transaction: durable when the block has ended, rolled back on an exception."""
        with self._borrowed() as connection:
            connection.driver.run(f"BEGIN; LOCK TABLE {self._schema}.project IN EXCLUSIVE MODE")
            self._local.writing = connection
            try:
                yield connection
                connection.driver.run("COMMIT")
            except BaseException:
                with contextlib.suppress(Exception):  # the server ends the transaction of a broken connection
                    connection.driver.run("ROLLBACK")
                raise
            finally:
                self._local.writing = None

    def vacuum(self) -> None:
        """Rewrite the tables, so that no erased row stays in the files of the database.

        The server's archived write-ahead log and its backups are not reached. Raises LogFull.
        """
        with self._errors():
            connection = self._connect(seconds=None)
            try:
                for table in TABLES:
                    connection.driver.run(f"VACUUM (FULL, ANALYZE) {self._schema}.{table}")
            finally:
                connection.close()

    @contextlib.contextmanager
    def _borrowed(self) -> Generator[PostgresConnection, None, None]:
        """A connection of the pool. One that failed is closed; the next call opens another."""
        if os.getpid() != self._pid:
            raise RuntimeError("an open log does not cross a fork; open it again in the new process")
        with self._limit, self._errors():
            connection = self._idle_one() or self._connect(seconds=3 * self._busy_ms / 1000)
            try:
                yield connection
            except BaseException as err:
                if _is_the_servers(err):
                    connection.close()
                    raise
                self._put_back(connection)
                raise
            self._put_back(connection)

    def _idle_one(self) -> PostgresConnection | None:
        """An idle connection that answers: the server may have been restarted since its last use."""
        while True:
            with self._guard:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if time.monotonic() - connection.used < _ASK_AFTER_SECONDS or connection.answers():
                return connection
            connection.close()

    def _put_back(self, connection: PostgresConnection) -> None:
        connection.used = time.monotonic()
        with self._guard:
            self._idle.append(connection)

    def _connect(self, seconds: float | None) -> PostgresConnection:
        """Open a connection whose statements wait ``seconds`` for the server at most."""
        from pg8000.native import NUMERIC
        from pg8000.native import Connection as Driver

        driver = Driver(**self._url.arguments(), timeout=seconds, application_name="rlhf-pipeline label")
        driver.register_in_adapter(NUMERIC, int)  # sums of whole numbers, which JSON should show as such
        # A plan that was made once, for tables that were small, would read the whole of large ones.
        settings = (
            f"search_path = {self._schema}",
            f"lock_timeout = {self._busy_ms}",
            "plan_cache_mode = force_custom_plan",
        )
        for setting in settings:
            driver.run(f"SET {setting}")
        if driver.run("SHOW synchronous_commit") in ([["off"]], [["local"]]):
            driver.run("SET synchronous_commit = on")
        return PostgresConnection(driver)

    @contextlib.contextmanager
    def _errors(self) -> Generator[None, None, None]:
        """Convert the driver's errors to ConfigError, StoreError or LogFull."""
        try:
            yield
        except Exception as err:
            if not _is_the_servers(err):
                raise
            if isinstance(certificate := err.__cause__ or err, ssl.SSLCertVerificationError):
                what = f"has a certificate that cannot be verified ({certificate.verify_message})."
                mend = (
                    "Name the file of its authority in SSL_CERT_FILE, or add ?sslmode=require to verify nothing."
                )
                raise ConfigError(self.where, what, mend) from err
            code, message = ("08", str(err)) if isinstance(err, OSError) else _code_and_message(err)
            if code.startswith("XX"):
                raise StoreError(self.where, f"is damaged ({message}).", "Restore it from a copy.") from err
            if code.startswith(("28", "3D", "42501")):
                what = f"refuses us ({message})."
                raise ConfigError(self.where, what, "Check the URL, PGPASSWORD, and the user's rights.") from err
            reason = next((v for k, v in _CANNOT_WRITE.items() if code.startswith(k)), None)
            if reason is None:
                raise
            raise LogFull(self.where, f"{reason[0]} ({message}); nothing was recorded.", reason[1]) from err

    def _create_tables(self, project: str) -> None:
        with self._borrowed() as connection:
            run = connection.driver.run
            run("BEGIN")
            try:
                # Two servers may start at once; the lock ends with the transaction.
                run("SELECT pg_advisory_xact_lock(hashtext(:name))", name=f"rlhf-pipeline {project}")
                if not run("SELECT 1 FROM pg_namespace WHERE nspname = :name", name=project):
                    run(f"CREATE SCHEMA {self._schema}")
                    for statement in STATEMENTS:
                        run(statement)
                    run("INSERT INTO project VALUES (:v, :s)", v=VERSION, s=secrets.token_hex(32))
                tables = run("SELECT 1 FROM pg_tables WHERE (schemaname, tablename) = (:n, 'project')", n=project)
                self._require_version(run("SELECT version FROM project") if tables else [])
                run("COMMIT")
            except BaseException:
                with contextlib.suppress(Exception):
                    run("ROLLBACK")
                raise

    def _require_version(self, rows: list[Any] | None) -> None:
        if not rows:
            raise StoreError(self.where, "is not a labelling log.", "Choose another database, or another name.")
        if rows[0][0] > VERSION:
            what = f"has schema {rows[0][0]}; this program reads up to {VERSION}."
            raise StoreError(self.where, what, "Update the program.")


def _is_the_servers(err: BaseException) -> bool:
    """Whether the driver or the network raised it."""
    from pg8000.exceptions import Error

    return isinstance(err, Error | OSError)


def _code_and_message(err: Exception) -> tuple[str, str]:
    """SQLSTATE and message of the server, or of the driver."""
    from pg8000.exceptions import DatabaseError

    # When a server refuses a connection, the driver fails again in closing it, if the server was faster.
    context: BaseException | None = err
    while context is not None and not isinstance(context, DatabaseError):
        context = context.__context__
    arguments = (context or err).args
    fields = arguments[0] if arguments else ""
    if isinstance(fields, dict):
        return fields.get("C", ""), fields.get("M", "")
    return ("08" if str(fields).startswith(_GONE_WORDS) else "", str(fields))
