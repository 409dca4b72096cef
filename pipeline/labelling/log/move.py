"""Move a labelling project's log from its SQLite file into PostgreSQL, for servers on several hosts."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.labelling.log.opening import record_url, recorded_url, remove_moved
from pipeline.labelling.log.postgres import PostgresConnection, PostgresDatabase
from pipeline.labelling.log.postgres_schema import TABLES
from pipeline.labelling.log.postgres_url import PostgresUrl
from pipeline.labelling.log.sqlite import SqliteDatabase
from pipeline.labelling.log.sqlite_schema import FILE

_NUMBERED = {"events": "seq", "people": "n", "items": "n", "batches": "n", "leases": "n"}
"""The tables whose rows the database numbers, and the column of the number."""


def move_to_postgres(directory: Path, url: str) -> int | None:
    """Copy the log into the database's empty schema, name the database in the directory, erase the file.

    The file takes no writes from the first step on, also from a server that has it open. Each step is durable
    before the next, and a second call goes on where a killed one stopped, or one whose commit failed; any other
    error leaves the log as it was.
    Numbers, keys and times of the events, and the secret that signs links, stay as they are.

    Args:
        directory: of the project.
        url: of the database, as ``label.database`` has it.

    Returns:
        The number of events in the log; None if it has been moved there before.
    Raises:
        ConfigError: the URL is malformed or the server refuses it; the directory has no log, or names another
            database; the database has other answers of this project's name.
        StoreError: the file is damaged.
        LogFull: the file or the database cannot be written; call it again.
    """
    target = PostgresUrl.checked(url)
    recorded = recorded_url(directory)
    if recorded not in (None, url):
        what = f"is {url}, but the answers are in {recorded} already."
        raise ConfigError("label.database", what, "To move from there use pg_dump and psql.")
    if recorded is not None:
        remove_moved(directory)
        return None
    if not (directory / FILE).exists():
        raise ConfigError(str(directory), "has no answers to move.", "Leave --move out.")
    source, database = SqliteDatabase(directory), PostgresDatabase(target, directory.name)
    with contextlib.closing(source), contextlib.closing(database):
        with database.write() as db:
            if not _holds_a_copy(db, source):
                source.freeze(url)
                try:
                    _copy(source, db)
                except BaseException:
                    source.thaw()
                    raise
        row = source.row("SELECT count(*) FROM events")
    record_url(directory, url)
    remove_moved(directory)
    return row[0] if row else 0


def _holds_a_copy(db: PostgresConnection, source: SqliteDatabase) -> bool:
    """Whether a killed call has copied everything; raises ConfigError where the tables hold anything else."""
    if db.execute("SELECT secret FROM project").fetchone() == (source.secret.hex(),):
        return True
    for table in TABLES:
        if db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            what = "has other answers of a project of this name already."
            raise ConfigError("label.database", what, "Choose another database.")
    return False


def _copy(source: SqliteDatabase, db: PostgresConnection) -> None:
    for table in TABLES:
        columns = [name for (name,) in source.rows("SELECT name FROM pragma_table_info(?)", (table,))]
        with source.read() as rows:
            db.copy_in(table, columns, iter(rows.execute(f"SELECT {', '.join(columns)} FROM {table}")))
    # AUTOINCREMENT remembers the number of an erased event, which is never given again.
    highest = {"events": source.row("SELECT seq FROM sqlite_sequence WHERE name = 'events'")}
    for table, column in _NUMBERED.items():
        number = highest.get(table) or source.row(f"SELECT max({column}) FROM {table}")
        if number and number[0]:
            db.execute("SELECT setval(pg_get_serial_sequence(?, ?), ?)", (table, column, number[0]))
    db.execute("UPDATE project SET secret = ?", (source.secret.hex(),))
