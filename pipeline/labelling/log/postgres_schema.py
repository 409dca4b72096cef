"""The tables of a labelling project in PostgreSQL: those of :mod:`~pipeline.labelling.log.sqlite_schema`.

Each project has a schema of its own in the database. Numbers that are truth values stay 0 and 1, so that one SQL
serves both.
"""

from __future__ import annotations

VERSION = 1

_CHECKED = "('vote', 'skip', 'flag', 'undo', 'edit', 'consent', 'adjudicate')"

STATEMENTS = (
    "CREATE TABLE project (version INTEGER NOT NULL, secret TEXT NOT NULL)",
    f"""
    CREATE TABLE events (
        seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL,
        annotator TEXT NOT NULL,
        type TEXT NOT NULL CHECK (type IN {_CHECKED}),
        item BIGINT,
        round INTEGER NOT NULL,
        payload TEXT NOT NULL,
        undoes BIGINT CHECK ((type = 'undo') = (undoes IS NOT NULL)),
        ms BIGINT
    )""",
    "CREATE UNIQUE INDEX undone ON events (undoes) WHERE undoes IS NOT NULL",
    "CREATE INDEX by_annotator ON events (annotator, type)",
    "CREATE INDEX by_item ON events (item, annotator)",
    "CREATE INDEX newest ON events (annotator, seq)",
    "CREATE INDEX flags ON events (annotator) WHERE type = 'flag'",
    "CREATE INDEX edits ON events (annotator) WHERE type = 'edit'",
    "CREATE INDEX adjudications ON events (item) WHERE type = 'adjudicate'",
    "CREATE TABLE forgetting (annotator TEXT PRIMARY KEY)",
    # Found by its own schema: a trigger runs under the search path of whoever changes the table.
    """
    CREATE FUNCTION only_added() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE erasable boolean := false;
    BEGIN
        IF TG_OP = 'DELETE' THEN
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.forgetting WHERE annotator = $1)', TG_TABLE_SCHEMA)
            INTO erasable USING OLD.annotator;
        END IF;
        IF erasable THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'events are only ever added';
    END $$""",
    "CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION only_added()",
    "CREATE TRIGGER never_emptied BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION only_added()",
    """
    CREATE VIEW current_answers AS
    SELECT * FROM events e
    WHERE type IN ('vote', 'skip') AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.seq)""",
    """
    CREATE VIEW current_votes AS
    SELECT *, (
        SELECT c.payload::json ->> 'sha256' FROM events c
        WHERE c.annotator = v.annotator AND c.type = 'consent' AND c.seq < v.seq ORDER BY c.seq DESC LIMIT 1
    ) AS consent
    FROM current_answers v WHERE type = 'vote'""",
    """
    CREATE VIEW current_flags AS
    SELECT * FROM events e WHERE type = 'flag' AND payload::json ->> 'on' = 'true' AND NOT EXISTS (
        SELECT 1 FROM events f
        WHERE f.type = 'flag' AND f.item = e.item AND f.annotator = e.annotator AND f.seq > e.seq)""",
    """
    CREATE VIEW current_edits AS
    SELECT * FROM events e WHERE type = 'edit' AND NOT EXISTS (
        SELECT 1 FROM events f
        WHERE f.type = 'edit' AND f.item = e.item AND f.annotator = e.annotator AND f.seq > e.seq
        AND f.payload::json ->> 'completion' = e.payload::json ->> 'completion')""",
    """
    CREATE VIEW current_adjudications AS
    SELECT * FROM events e WHERE type = 'adjudicate' AND NOT EXISTS (
        SELECT 1 FROM events f WHERE f.type = 'adjudicate' AND f.item = e.item AND f.seq > e.seq)""",
    """
    CREATE TABLE people (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,
        generation INTEGER NOT NULL DEFAULT 0, active INTEGER NOT NULL DEFAULT 1
    )""",
    """
    CREATE TABLE forgotten (
        annotator TEXT PRIMARY KEY, at TEXT NOT NULL, counts TEXT NOT NULL, sha256 TEXT NOT NULL
    )""",
    """
    CREATE TABLE items (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT NOT NULL UNIQUE, mode TEXT NOT NULL,
        texts TEXT NOT NULL
    )""",
    """
    CREATE TABLE batches (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT NOT NULL UNIQUE, about TEXT NOT NULL,
        whole INTEGER NOT NULL DEFAULT 0, current INTEGER NOT NULL DEFAULT 0
    )""",
    """
    CREATE TABLE places (
        batch BIGINT NOT NULL, item BIGINT NOT NULL, coming BIGINT NOT NULL, priority DOUBLE PRECISION NOT NULL,
        split TEXT NOT NULL, gold TEXT, level BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (batch, item)
    )""",
    "CREATE INDEX queue ON places (batch, priority, coming, level, item) WHERE gold IS NULL",
    "CREATE INDEX gold ON places (batch, priority, coming) WHERE gold IS NOT NULL",
    "CREATE INDEX coming ON places (batch, coming)",
    "CREATE INDEX placed ON places (item)",
    """
    CREATE TABLE answers (
        annotator TEXT NOT NULL, item BIGINT NOT NULL, round INTEGER NOT NULL, seq BIGINT NOT NULL,
        vote INTEGER NOT NULL, PRIMARY KEY (annotator, item, round)
    )""",
    "CREATE INDEX answered ON answers (annotator, vote, seq)",
    "CREATE INDEX answers_to ON answers (item)",
    """
    CREATE TABLE levels (
        annotator TEXT NOT NULL, level BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (annotator, level)
    )""",
    "CREATE TABLE tallies (annotator TEXT PRIMARY KEY, answered BIGINT NOT NULL, skipped BIGINT NOT NULL)",
    """
    CREATE TABLE cursors (
        annotator TEXT PRIMARY KEY, votes INTEGER NOT NULL, priority DOUBLE PRECISION NOT NULL,
        coming BIGINT NOT NULL
    )""",
    "CREATE TABLE reopened (item BIGINT PRIMARY KEY)",
    """
    CREATE TABLE leases (
        n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, annotator TEXT NOT NULL, item BIGINT NOT NULL,
        round INTEGER NOT NULL, until DOUBLE PRECISION NOT NULL, UNIQUE (annotator, item, round)
    )""",
)

TABLES = (
    "events", "people", "forgotten", "forgetting", "items", "batches", "places", "answers", "levels", "tallies",
    "cursors", "reopened", "leases",
)  # fmt: skip
"""Whose erased rows :meth:`PostgresDatabase.vacuum` removes from the server's files."""
