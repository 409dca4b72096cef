"""Open the database of a labelling project: SQLite in its directory, or the PostgreSQL that it names."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.files import disk_errors, fsync, make_dirs
from pipeline.labelling.log.database import Database
from pipeline.labelling.log.postgres import PostgresDatabase
from pipeline.labelling.log.postgres_url import PostgresUrl
from pipeline.labelling.log.sqlite import SECRET, SqliteDatabase, directory_lock
from pipeline.labelling.log.sqlite_schema import FILE

URL_FILE = "database.url"
"""Names the PostgreSQL database, so that who opens the directory later (``forget``, a chat) finds the answers."""


def is_project(directory: Path) -> bool:
    """Whether this directory is a labelling project's."""
    return (directory / FILE).exists() or (directory / URL_FILE).exists()


def open_database(directory: Path, url: str | None = None, *, busy_ms: int = 10_000) -> Database:
    """Open or create the database of a project.

    Args:
        directory: of the project; its name is the schema's in PostgreSQL.
        url: of PostgreSQL; by default the one that the directory names, else SQLite.

    Raises:
        ConfigError: the URL is malformed, another than the directory's, or the server refuses it.
        StoreError, LogFull: as :class:`SqliteDatabase` and :class:`PostgresDatabase`.
    """
    recorded = recorded_url(directory)
    if url is None and recorded is None:
        return SqliteDatabase(directory, busy_ms=busy_ms)
    if url is not None and recorded not in (None, url):
        what = f"is {url}, but the answers are in {recorded} ({directory / URL_FILE})."
        raise ConfigError("label.database", what, "Give that one, or choose another name.")
    if recorded is None and (directory / FILE).exists():
        what = f"is {url}, but there are answers in {directory / FILE} already."
        mend = f"Move them: rlhf-pipeline label --move label.database={url}; or leave the key out."
        raise ConfigError("label.database", what, mend)
    if recorded is not None:
        remove_moved(directory)
    database = PostgresDatabase(PostgresUrl.checked(url or recorded or ""), directory.name, busy_ms=busy_ms)
    if recorded is None:
        record_url(directory, url or "")
    return database


def remove_moved(directory: Path) -> None:
    """Erase the file and the secret of a log that has moved to PostgreSQL, so that ``data forget`` leaves no copy.

    A move that was killed leaves them. A file that has not moved stays.
    """
    if not (directory / FILE).exists():
        return
    with contextlib.closing(SqliteDatabase(directory)) as old:
        if old.moving_to is None:
            return
    with disk_errors(str(directory)):
        for name in (f"{FILE}-wal", f"{FILE}-shm", SECRET, FILE):  # the file last: it says what is left to do
            (directory / name).unlink(missing_ok=True)
        fsync(directory)


def recorded_url(directory: Path) -> str | None:
    """The PostgreSQL database that the directory names; None where its log is a file."""
    with disk_errors(str(directory)), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        text = (directory / URL_FILE).read_text(encoding="utf-8").strip()
        if not text:
            raise StoreError(str(directory / URL_FILE), "is empty.", "Write the URL of the database into it.")
        return text
    return None


def record_url(directory: Path, url: str) -> None:
    """Name the PostgreSQL database of the log in its directory, atomically."""
    with disk_errors(str(directory)):
        make_dirs(directory)
        with directory_lock(directory):
            directory.chmod(0o700)
            temporary = directory / f".{URL_FILE}"
            temporary.write_text(url + "\n", encoding="utf-8")
            fsync(temporary)
            os.replace(temporary, directory / URL_FILE)
            fsync(directory)
