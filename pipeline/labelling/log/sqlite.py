"""The SQLite file of a labelling project: connections per thread, transactions, errors as StoreError."""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, fsync, hold, make_dirs
from pipeline.base.process import say
from pipeline.base.terminal_text import put
from pipeline.labelling.log.database import Connection, LogFull, Values
from pipeline.labelling.log.sqlite_schema import FILE, FREEZE, FROZEN, SCHEMA, THAW, VERSION

SECRET = "secret"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CANNOT_WRITE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Free some space and try again."),
    sqlite3.SQLITE_IOERR: ("the disk refuses", "Check the disk and its limits (df, ulimit -f) and try again."),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "Fix its permissions, or choose another data directory."),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Fix its permissions, or choose another data directory."),
    sqlite3.SQLITE_BUSY: ("another process has been writing for too long", "Try again, or stop that process."),
    sqlite3.SQLITE_PROTOCOL: ("another process has been writing for too long", "Try again, or stop that process."),
}


class _Connection:
    """The connection of one thread, closed when the thread ends.

    sqlite3's connection is in a reference cycle, and would otherwise stay open until the next garbage collection.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __del__(self) -> None:
        self.db.close()


class SqliteDatabase:
    """One SQLite file that many processes and threads write concurrently.

    WAL with ``synchronous=FULL``: a committed transaction survives kill -9 and a power cut.
    """

    def __init__(self, directory: Path, *, busy_ms: int = 10_000) -> None:
        """Create the directory and the file if missing.

        Raises:
            StoreError: the file is damaged, of another program, or of a newer version of this one.
            LogFull: the directory or the file cannot be written.
        """
        self.path = directory / FILE
        self.where = str(self.path)
        self._busy_ms = busy_ms
        self._pid = os.getpid()
        self._local = threading.local()
        self._turn = threading.Lock()
        self._opening = threading.Lock()
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        with disk_errors(str(directory)):
            if not directory.exists():
                make_dirs(directory.parent)
                with contextlib.suppress(FileExistsError):
                    directory.mkdir(0o700)
                fsync(directory.parent)
            # Switching to WAL ignores busy_timeout; a directory lock serialises it.
            with directory_lock(directory):
                make_private(directory)
                self._create_tables()

    def close(self) -> None:
        """Close the connections of all threads. A later call opens a new one."""
        with self._opening:
            for connection in list(self._open):
                connection.db.close()
        self._local = threading.local()

    @property
    def secret(self) -> bytes:
        """The project's secret, from the file beside the database; it is created if missing."""
        return _read_or_create_secret(self.path.parent / SECRET)

    def rows(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; inside :meth:`write`, in its transaction."""
        with self.errors():
            return self.connection().execute(sql, values).fetchall()

    def row(self, sql: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self.errors():
            return self.connection().execute(sql, values).fetchone()

    @contextlib.contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """This thread's connection; inside :meth:`write`, it is that of its transaction."""
        with self.errors():
            yield self.connection()

    @contextlib.contextmanager
    def write(self) -> Generator[Connection, None, None]:
        """A transaction: durable when the block has ended, rolled back on an exception."""
        with self._turn, self.errors():
            db = self.connection()
            self._begin(db)
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled it back already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def vacuum(self) -> None:
        """Rewrite the file, so that no erased row stays on its free pages.

        Raises:
            LogFull: a disk error, or another process is reading; call it again.
        """
        with self.errors():
            db = self.connection()
            db.execute("VACUUM")
            # The old pages are in the WAL too until it is truncated.
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            what = "is being read by another process, so erased rows could not be removed from the file."
            raise LogFull(str(self.path), what, "Run it again.")

    @property
    def moving_to(self) -> str | None:
        """The URL of the database that the log moves to; None where it stays, and takes writes."""
        if self.row("SELECT 1 FROM sqlite_master WHERE name = 'moving'") is None:
            return None
        row = self.row("SELECT url FROM moving")
        return None if row is None else row[0]

    def freeze(self, url: str) -> None:
        """Refuse all writes from now on, as the log moves to the database of ``url``; durable on return."""
        with self.write() as db:
            for statement in FREEZE:
                db.execute(statement)
            db.execute("INSERT INTO moving VALUES (?)", (url,))

    def thaw(self) -> None:
        """Take writes again."""
        with self.write() as db:
            for statement in THAW:
                db.execute(statement)

    @contextlib.contextmanager
    def errors(self) -> Generator[None, None, None]:
        """Convert SQLite's errors to StoreError or LogFull."""
        try:
            yield
        except sqlite3.Error as err:
            # The low byte is the primary result code.
            code = getattr(err, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGED:
                raise StoreError(str(self.path), f"is damaged ({err}).", "Restore it from a copy.") from err
            if code in _CANNOT_WRITE:
                what, remedy = _CANNOT_WRITE[code]
                raise LogFull(str(self.path), f"{what} ({err}); nothing was recorded.", remedy) from err
            if str(err) == FROZEN:
                remedy = "Start the server again with label.database; finish an interrupted move by label --move."
                raise LogFull(str(self.path), f"is closed: {FROZEN}; nothing was recorded.", remedy) from err
            raise

    def _create_tables(self) -> None:
        with self.errors():
            db = self.connection()
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                what = f"has schema {version}; this program reads up to {VERSION}."
                raise StoreError(str(self.path), what, "Update the program.")
            if version == VERSION:
                return
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(str(self.path), "is not a labelling log.", "Move it, or choose another name.")
            db.execute("PRAGMA journal_mode=WAL")
            with self.write() as db:
                # Not executescript, which commits first.
                for statement in _statements(SCHEMA):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
            fsync(self.path.parent)

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, opened on first use."""
        if os.getpid() != self._pid:
            raise RuntimeError("an open log does not cross a fork; open it again in the new process")
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # mode=rw: a server that outlives a move should not make an empty file where the log was.
            db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_ms / 1000,
                isolation_level=None,
                check_same_thread=False,  # close() is called by one thread for all
            )
            connection = self._local.connection = _Connection(db)
            with self._opening:
                self._open.add(connection)
            db.execute("PRAGMA synchronous=FULL")
        return connection.db

    def _begin(self, db: sqlite3.Connection) -> None:
        """Start a transaction; wait for other writers.

        SQLite's own busy handler sleeps up to 100 ms between tries, and was seen to wait four seconds beside
        processes that write continuously.
        """
        deadline = time.monotonic() + self._busy_ms / 1000
        while True:
            db.execute("PRAGMA busy_timeout=0")
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as err:
                if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            finally:
                db.execute(f"PRAGMA busy_timeout={self._busy_ms}")
            time.sleep(random.uniform(0.0005, 0.005))


@contextlib.contextmanager
def directory_lock(directory: Path) -> Generator[None, None, None]:
    """Hold the lock of a directory, which guards the creation of files in it."""
    fd = hold(directory)
    try:
        yield
    finally:
        os.close(fd)


def make_private(directory: Path) -> None:
    """Leave permissions to the owner alone, as a log has names, keys and answers; report changes."""
    directory_mode, file_mode = 0o700, 0o600
    # SQLite gives its WAL files the database's mode, so the database is created here.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, file_mode))
    open_paths = [p for p in (directory, *directory.iterdir()) if not p.is_symlink() and _others_may(p)]
    for path in open_paths:
        with contextlib.suppress(OSError):  # of another owner, or on a disk without modes
            path.chmod(directory_mode if path.is_dir() else file_mode)
    still_open = [path for path in open_paths if _others_may(path)]
    if still_open and directory not in _warned:
        _warned.add(directory)
        put(f"warning: {still_open[0]} can be read by others, and its permissions cannot be changed", sys.stderr)
    elif open_paths and not still_open:
        say("label", f"{directory} could be read by others: only its owner has access now")


_warned: set[Path] = set()


def _others_may(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except FileNotFoundError:  # just removed by another process
        return False


def _statements(script: str) -> Generator[str, None, None]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _read_or_create_secret(path: Path) -> bytes:
    with disk_errors(str(path)):
        if not path.exists():
            with directory_lock(path.parent):
                _create_secret(path)
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        what = "is damaged: not 64 hexadecimal digits."
        raise StoreError(str(path), what, "Restore it; or delete it, and send new links.")
    return bytes.fromhex(text)


def _create_secret(path: Path) -> None:
    """Create it atomically: a truncated secret would invalidate every link."""
    if path.exists():  # another process was first
        return
    temporary = path.with_name(f".{SECRET}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(secrets.token_hex(32))
    fsync(temporary)
    os.replace(temporary, path)
    fsync(path.parent)
