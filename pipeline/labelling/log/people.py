"""Annotators: random ids, names, and the tokens of their links."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import cached_property

from pipeline.labelling.log.database import Connection, Database, Refused


@dataclass(frozen=True)
class Person:
    """An annotator. ``token`` is part of their link; only the operator sees the name."""

    id: str
    name: str
    token: str
    active: bool


class People:
    """Table ``people``, the only place of names; elsewhere a person is an id, ``p_`` and 10 hex digits.

    Tokens are HMACs under the project's secret: a file beside SQLite's, a row of PostgreSQL's tables.
    """

    def __init__(self, database: Database) -> None:
        """Create the secret if missing. Raises StoreError where it is damaged."""
        self._database = database
        self._secret = database.secret

    def add(self, name: str) -> Person:
        """Add a person, or reactivate the one of this name.

        Raises:
            Refused: the name is empty, too long, or not printable.
        """
        name = " ".join(name.split())
        if not 0 < len(name) <= 100 or not name.isprintable():
            raise Refused("name", "should be 1 to 100 printable characters.")
        with self._database.write() as db:
            db.execute(
                "INSERT INTO people (id, name) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET active = 1",
                (f"p_{secrets.token_hex(5)}", name),
            )
        return next(p for p in self.all() if p.name == name)

    def all(self) -> list[Person]:
        """Everybody in the order of adding, withdrawn people included."""
        rows = self._database.rows("SELECT id, name, generation, active FROM people ORDER BY n")
        return [Person(id, name, self._token(f"{id}:{n}"), bool(active)) for id, name, n, active in rows]

    def withdraw(self, annotator: str) -> None:
        """Invalidate a person's link; their answers stay. Raises Refused for an unknown id."""
        with self._database.write() as db:
            sql = "UPDATE people SET active = 0, generation = generation + 1 WHERE id = ? RETURNING 1"
            if not db.execute(sql, (annotator,)).fetchall():
                raise Refused(f"annotator {annotator}", "is not known.")
            db.execute("DELETE FROM leases WHERE annotator = ?", (annotator,))

    def by_token(self, token: str) -> Person | None:
        """The active person whose link has this token."""
        sent = token.encode("utf-8", "surrogatepass")
        match = None
        # Compare all of them: constant time.
        for person in self.all():
            if hmac.compare_digest(person.token.encode(), sent) and person.active:
                match = person
        return match

    @property
    def operator_token(self) -> str:
        """The token of the link to the operator's page."""
        return self._token("operator")

    @cached_property
    def salt(self) -> str:
        """This project's secret salt for :func:`~pipeline.labelling.items.order_of`."""
        return self._token("salt")

    def sign(self, text: str) -> str:
        """A signature of a text that this project wrote and others keep."""
        return self._token(f"signed:{text}")

    def _token(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]


def require_active(db: Connection, annotator: str) -> None:
    """Raise Refused unless the person is active."""
    row = db.execute("SELECT active FROM people WHERE id = ?", (annotator,)).fetchone()
    if not row or not row[0]:
        what = "was withdrawn." if row else "is not known."
        raise Refused(f"annotator {annotator}", what, "Ask for a new link.")
