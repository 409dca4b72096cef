"""The tables of a labelling project's SQLite file.

``events``, ``people``, ``items``, ``batches`` and ``places`` (except ``level``) hold the data. ``answers``,
``levels``, ``tallies``, ``cursors`` and ``reopened`` are derived from them for speed: see
:mod:`~pipeline.labelling.log.counters`, which names ``level`` ``answers_so_far`` and ``coming`` ``position``.
"""

from __future__ import annotations

VERSION = 1
FILE = "labels.sqlite3"

# AUTOINCREMENT: an erased event's number is never reused. Index `queue` covers the search of the next item.
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

FROZEN_TABLES = ("events", "people", "forgotten", "items", "batches", "places")
"""What holds the data: writes to these are refused while it moves to another database."""
FROZEN = "the answers are moving to another database"
FREEZE = (
    "CREATE TABLE IF NOT EXISTS moving (url TEXT NOT NULL)",
    "DELETE FROM moving",
    *(
        f"CREATE TRIGGER IF NOT EXISTS frozen_{table}_{verb} BEFORE {verb} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, '{FROZEN}'); END"
        for table in FROZEN_TABLES
        for verb in ("insert", "update", "delete")
    ),
)
THAW = (
    "DROP TABLE moving",
    *(f"DROP TRIGGER frozen_{table}_{verb}" for table in FROZEN_TABLES for verb in ("insert", "update", "delete")),
)
