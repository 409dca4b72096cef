"""Who answers: random ids, the names behind them, the tokens of their links; it leaves out cookies and pages."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from functools import cached_property

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, fsync
from pipeline.labelling.log.database import Database
from pipeline.labelling.log.events import Person, Refused

SECRET = "secret"


class People(Database):
    """Names are in table ``people`` alone; all else knows a person by the id, ``p_`` and 10 hex digits."""

    def add_person(self, name: str) -> Person:
        """The person of this name: a new one, or the one there is, who is active again if withdrawn.

        Raises:
            Refused: the name is empty, too long, or has characters that cannot be shown.
        """
        name = " ".join(name.split())
        if not 0 < len(name) <= 100 or not name.isprintable():
            raise Refused("name", "should be 1 to 100 characters that can be shown.")
        with self._write() as db:
            db.execute(
                "INSERT INTO people (id, name) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET active = 1",
                (f"p_{secrets.token_hex(5)}", name),
            )
        return next(p for p in self.people() if p.name == name)

    def people(self) -> list[Person]:
        """Everybody, in order of coming; those who were withdrawn too."""
        rows = self._rows("SELECT id, name, generation, active FROM people ORDER BY n")
        return [Person(id, name, self._token(f"{id}:{n}"), bool(active)) for id, name, n, active in rows]

    def withdraw(self, annotator: str) -> None:
        """The link of this person is dead from now on; what was answered stays.

        Raises:
            Refused: nobody has this id.
        """
        with self._write() as db:
            sql = "UPDATE people SET active = 0, generation = generation + 1 WHERE id = ?"
            if not db.execute(sql, (annotator,)).rowcount:
                raise Refused(f"annotator {annotator}", "is not known.")
            db.execute("DELETE FROM leases WHERE annotator = ?", (annotator,))

    def person_of(self, token: str) -> Person | None:
        """The active person whose link has this token."""
        given = token.encode("utf-8", "surrogatepass")
        found = None
        # All are compared, so that the time says nothing of where the right one stands.
        for person in self.people():
            if hmac.compare_digest(person.token.encode(), given) and person.active:
                found = person
        return found

    @property
    def operator_token(self) -> str:
        """Of the link to the operator's page."""
        return self._token("operator")

    @cached_property
    def salt(self) -> str:
        """This project's, for :func:`~pipeline.labelling.items.order_of`: nobody can compute what stands where."""
        return self._token("salt")

    def _token(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]

    @cached_property
    def _secret(self) -> bytes:
        text = (self.directory / SECRET).read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            what = "is damaged: not 64 hexadecimal digits."
            raise StoreError(str(self.directory / SECRET), what, "Restore it; or delete it, and send new links.")
        return bytes.fromhex(text)

    def _create(self) -> None:
        super()._create()
        path = self.directory / SECRET
        with disk_errors(str(path)):
            if not path.exists():
                # Renamed when it is whole: half a secret would make every link wrong.
                temporary = path.with_name(f".{SECRET}.{secrets.token_hex(4)}")
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fd, "w") as f:
                    f.write(secrets.token_hex(32))
                fsync(temporary)
                os.replace(temporary, path)
                fsync(self.directory)
            _ = self._secret
