"""The database of a labelling project: its tables, a connection per thread, and SQLite's errors told in one line.

It leaves out what the tables mean together; that is in :mod:`~pipeline.labelling.log.log`. The truth is
``events``, ``people``, ``items``, ``batches`` and ``places`` without its ``level``; ``answers``, ``levels``,
``tallies``, ``cursors`` and ``reopened`` only make reading fast, and :meth:`Log.rebuild` makes them again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, fsync, hold, make_dirs
from pipeline.base.process import say
from pipeline.base.terminal_text import put
from pipeline.labelling.log.events import Event, LogFull

VERSION = 1
FILE = "labels.sqlite3"

# seq is AUTOINCREMENT so that the number of an erased event is never given again. The index `queue` holds all that
# the search for the next item reads.
SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    at TEXT NOT NULL,
    annotator TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('vote', 'skip', 'flag', 'undo', 'edit', 'consent', 'adjudicate')),
    item INTEGER,
    round INTEGER NOT NULL,
    payload TEXT NOT NULL,
    undoes INTEGER CHECK ((type = 'undo') = (undoes IS NOT NULL)),
    ms INTEGER
);
CREATE UNIQUE INDEX undone ON events (undoes) WHERE undoes IS NOT NULL;
CREATE INDEX by_annotator ON events (annotator, type);
CREATE INDEX by_item ON events (item, annotator);
CREATE INDEX flags ON events (annotator) WHERE type = 'flag';
CREATE INDEX edits ON events (annotator) WHERE type = 'edit';
CREATE INDEX adjudications ON events (item) WHERE type = 'adjudicate';

CREATE TABLE forgetting (annotator TEXT PRIMARY KEY);
CREATE TRIGGER never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END;
CREATE TRIGGER never_erased BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM forgetting WHERE annotator = OLD.annotator)
BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END;
-- INSERT OR REPLACE erases without asking the trigger above.
CREATE TRIGGER never_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE key = NEW.key OR seq = NEW.seq OR undoes = NEW.undoes)
BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END;

CREATE VIEW current_answers AS
SELECT * FROM events e
WHERE type IN ('vote', 'skip') AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.seq);
CREATE VIEW current_votes AS
SELECT *, (
    SELECT json_extract(c.payload, '$.sha256') FROM events c
    WHERE c.annotator = v.annotator AND c.type = 'consent' AND c.seq < v.seq ORDER BY c.seq DESC LIMIT 1
) AS consent
FROM current_answers v WHERE type = 'vote';
CREATE VIEW current_flags AS
SELECT * FROM events e WHERE type = 'flag' AND json_extract(payload, '$.on') AND NOT EXISTS (
    SELECT 1 FROM events f
    WHERE f.type = 'flag' AND f.item = e.item AND f.annotator = e.annotator AND f.seq > e.seq);
CREATE VIEW current_edits AS
SELECT * FROM events e WHERE type = 'edit' AND NOT EXISTS (
    SELECT 1 FROM events f
    WHERE f.type = 'edit' AND f.item = e.item AND f.annotator = e.annotator AND f.seq > e.seq
    AND json_extract(f.payload, '$.completion') = json_extract(e.payload, '$.completion'));
CREATE VIEW current_adjudications AS
SELECT * FROM events e WHERE type = 'adjudicate' AND NOT EXISTS (
    SELECT 1 FROM events f WHERE f.type = 'adjudicate' AND f.item = e.item AND f.seq > e.seq);

CREATE TABLE people (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL DEFAULT 0, active INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE forgotten (annotator TEXT PRIMARY KEY, at TEXT NOT NULL, counts TEXT NOT NULL, sha256 TEXT NOT NULL);

CREATE TABLE items (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mode TEXT NOT NULL, texts TEXT NOT NULL);
CREATE TABLE batches (
    n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, about TEXT NOT NULL,
    whole INTEGER NOT NULL DEFAULT 0, current INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE places (
    batch INTEGER NOT NULL, item INTEGER NOT NULL, coming INTEGER NOT NULL, priority REAL NOT NULL,
    split TEXT NOT NULL, gold TEXT, level INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, item)
) WITHOUT ROWID;
CREATE INDEX queue ON places (batch, priority, coming, level, item) WHERE gold IS NULL;
CREATE INDEX gold ON places (batch, priority, coming) WHERE gold IS NOT NULL;
CREATE INDEX coming ON places (batch, coming);
CREATE INDEX placed ON places (item);

CREATE TABLE answers (
    annotator TEXT NOT NULL, item INTEGER NOT NULL, round INTEGER NOT NULL, seq INTEGER NOT NULL,
    vote INTEGER NOT NULL, PRIMARY KEY (annotator, item, round)
) WITHOUT ROWID;
CREATE INDEX answered ON answers (annotator, vote, seq);
CREATE INDEX answers_to ON answers (item);
CREATE TABLE levels (
    annotator TEXT NOT NULL, level INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (annotator, level)
) WITHOUT ROWID;
CREATE TABLE tallies (annotator TEXT PRIMARY KEY, answered INTEGER NOT NULL, skipped INTEGER NOT NULL);
CREATE TABLE cursors (
    annotator TEXT PRIMARY KEY, votes INTEGER NOT NULL, priority REAL NOT NULL, coming INTEGER NOT NULL
);
CREATE TABLE reopened (item INTEGER PRIMARY KEY);
CREATE TABLE leases (
    n INTEGER PRIMARY KEY, annotator TEXT NOT NULL, item INTEGER NOT NULL, round INTEGER NOT NULL,
    until REAL NOT NULL, UNIQUE (annotator, item, round)
);
"""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CANNOT_WRITE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Free some space and try again."),
    sqlite3.SQLITE_IOERR: ("the disk refuses", "Check the disk and its limits (df, ulimit -f) and try again."),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "Mend its permissions, or choose another data directory."),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Mend its permissions, or choose another data directory."),
    sqlite3.SQLITE_BUSY: ("another process has been writing for too long", "Try again, or stop that process."),
    sqlite3.SQLITE_PROTOCOL: ("another process has been writing for too long", "Try again, or stop that process."),
}


def select_events(source: str = "events") -> str:
    """The start of a query whose rows :func:`event_of` reads; ``e`` are the events."""
    return (
        "SELECT e.seq, e.key, e.type, e.annotator, i.id, e.payload, e.undoes, e.ms, e.at, e.round"
        f" FROM {source} e LEFT JOIN items i ON i.n = e.item"
    )


IN_BATCH = "JOIN places p ON p.item = e.item JOIN batches b ON b.n = p.batch AND b.current"
"""Added to :func:`select_events`: only events on items of the current batch."""


def event_of(row: Sequence[Any]) -> Event:
    """One row of :func:`select_events`."""
    seq, key, kind, annotator, item, payload, undoes, ms, at, round_ = row
    known = {"undoes": undoes} if kind == "undo" else json.loads(payload)
    return Event(seq, key, kind, annotator, item, known, ms, at, round_)


class _Held:
    """The connection of one thread, closed when the thread ends.

    A connection has a reference to itself, and would otherwise stay open until the collector comes by.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __del__(self) -> None:
        self.db.close()


class Database:
    """One SQLite file that many processes and threads write at once.

    WAL with ``synchronous=FULL``: a committed transaction survives kill -9 and a power cut.
    """

    def __init__(self, directory: Path, *, busy_ms: int = 10_000) -> None:
        """Creates what is missing.

        Raises:
            StoreError: the file is damaged, of another program or of a newer version of this one.
            LogFull: the directory or the file cannot be written.
        """
        self.directory = directory
        self._path = directory / FILE
        self._busy_ms = busy_ms
        self._pid = os.getpid()
        self._local = threading.local()
        self._turn = threading.Lock()
        self._opening = threading.Lock()
        self._open: weakref.WeakSet[_Held] = weakref.WeakSet()
        with disk_errors(str(directory)):
            if not directory.exists():
                make_dirs(directory.parent)
                with contextlib.suppress(FileExistsError):
                    directory.mkdir(0o700)
                fsync(directory.parent)
            # SQLite does not wait for its turn while a file becomes a WAL one, so that is done one at a time.
            held = hold(directory)
            try:
                close_to_others(directory)
                self._create()
            finally:
                os.close(held)

    def close(self) -> None:
        """Close the connections of all threads. Whoever uses the log later opens a new one."""
        with self._opening:
            for held in list(self._open):
                held.db.close()
        self._local = threading.local()

    def _create(self) -> None:
        with self._told():
            db = self._connection()
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                what = f"has schema {version}, and this program knows {VERSION} at most."
                raise StoreError(str(self._path), what, "Update the program.")
            if version == VERSION:
                return
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(
                    str(self._path), "is no log of labelling.", "Move it away, or choose another name."
                )
            db.execute("PRAGMA journal_mode=WAL")
            with self._write() as db:
                # Not executescript, which commits first.
                for statement in _statements(SCHEMA):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
            fsync(self.directory)

    def _connection(self) -> sqlite3.Connection:
        if os.getpid() != self._pid:
            raise RuntimeError("an open log does not cross a fork; open it again in the new process")
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            db = sqlite3.connect(
                self._path,
                timeout=self._busy_ms / 1000,
                isolation_level=None,
                check_same_thread=False,  # close() is called by one thread for all
            )
            held = self._local.held = _Held(db)
            with self._opening:
                self._open.add(held)
            db.execute("PRAGMA synchronous=FULL")
        return held.db

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except sqlite3.Error as err:
            # The low byte is the code, the others say more.
            code = getattr(err, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGED:
                raise StoreError(str(self._path), f"is damaged ({err}).", "Restore it from a copy.") from err
            if code in _CANNOT_WRITE:
                what, mend = _CANNOT_WRITE[code]
                raise LogFull(str(self._path), f"{what} ({err}); nothing was recorded.", mend) from err
            raise

    @contextlib.contextmanager
    def _write(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction. It is durable when the block has ended; an exception undoes all of it."""
        with self._turn, self._told():
            db = self._connection()
            self._begin(db)
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A full disk may have ended it already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _begin(self, db: sqlite3.Connection) -> None:
        """Wait for the other processes.

        SQLite's own waiting sleeps up to 100 ms between two looks: beside processes that write without a pause, it
        was seen to wait for four seconds.
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

    def _rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._told():
            return self._connection().execute(sql, values).fetchall()

    def _row(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> tuple[Any, ...] | None:
        with self._told():
            return self._connection().execute(sql, values).fetchone()


def close_to_others(directory: Path) -> None:
    """Let nobody but the owner read a log: it has names, keys and answers. What was open is mended, and told."""
    directory_mode, file_mode = 0o700, 0o600
    # SQLite gives the files beside it the database's mode, so that one is made here.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, file_mode))
    opened = [p for p in (directory, *directory.iterdir()) if not p.is_symlink() and _others_may(p)]
    for path in opened:
        with contextlib.suppress(OSError):  # of another owner, or on a disk without modes
            path.chmod(directory_mode if path.is_dir() else file_mode)
    left = [path for path in opened if _others_may(path)]
    if left and directory not in _told_open:
        _told_open.add(directory)
        put(f"warning: {left[0]} can be read by others, and its modes cannot be changed", sys.stderr)
    elif opened and not left:
        say("label", f"{directory} could be read by others: it is for its owner alone now")


_told_open: set[Path] = set()


def _others_may(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except FileNotFoundError:  # another process has just ended with it
        return False


def _statements(script: str) -> Generator[str, None, None]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
