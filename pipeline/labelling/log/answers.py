"""Current answers: votes, skips, flags, edits, adjudications and consents that no later event replaced."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipeline.labelling.log.batches import Batches
from pipeline.labelling.log.database import Database
from pipeline.labelling.log.event_checks import Strength
from pipeline.labelling.log.events import IN_BATCH, Event, event_of, last_answer, select_events


@dataclass(frozen=True)
class Vote:
    """A vote that is not undone.

    Attributes:
        order: the order on the page: place ``i`` showed ``completions[order[i]]``.
        round: 0, or 1 for a planned repeat.
        consent: sha256 of the newest text that the person agreed to before voting; None without consent.
    """

    seq: int
    item: str
    annotator: str
    choice: str
    order: tuple[int, ...]
    strength: Strength | None
    tags: tuple[str, ...]
    note: str
    ms: int | None
    at: str
    round: int
    consent: str | None


class Answers:
    """The answers of the current batch, gold items and repeats included, by ``seq``."""

    def __init__(self, database: Database, batches: Batches) -> None:
        self._database, self._batches = database, batches

    def votes(self) -> list[Vote]:
        """The votes that are not undone."""
        rows = self._database.rows(
            "SELECT e.seq, i.id, e.annotator, e.payload, e.ms, e.at, e.round, e.consent"
            f" FROM current_votes e JOIN items i ON i.n = e.item {IN_BATCH} ORDER BY e.seq"
        )
        return [_vote(*row) for row in rows]

    def skips(self) -> list[Event]:
        """The skips that are not undone."""
        return [e for e in self._current("current_answers") if e.type == "skip"]

    def flags(self) -> list[Event]:
        """The newest flag of each person and item, if it is on."""
        return self._current("current_flags")

    def flagged(self, annotator: str, item: str) -> bool:
        """Whether this person flags this item, in any batch."""
        sql = "SELECT 1 FROM current_flags f JOIN items i ON i.n = f.item WHERE f.annotator = ? AND i.id = ?"
        return self._database.row(sql, (annotator, item)) is not None

    def edits(self) -> list[Event]:
        """The newest text of each person, item and completion, unless it equals the original."""
        return [e for e in self._current("current_edits") if e.payload["text"] != self._original(e)]

    def adjudications(self) -> dict[str, str]:
        """The operator's newest decision by item."""
        return {e.item: e.payload["choice"] for e in self._current("current_adjudications") if e.item}

    def consent_of(self, annotator: str) -> str | None:
        """sha256 of the newest text that this person agreed to."""
        row = self._database.row(
            "SELECT payload FROM events WHERE annotator = ? AND type = 'consent' ORDER BY seq DESC LIMIT 1",
            (annotator,),
        )
        return json.loads(row[0])["sha256"] if row else None

    def last(self, annotator: str) -> Event | None:
        """This person's newest vote or skip, which an undo would take back: :func:`last_answer`."""
        with self._database.read() as db:
            return last_answer(db, annotator)

    def _original(self, edit: Event) -> str:
        item = self._batches.item(edit.item or "")
        assert item is not None
        return item.completions[edit.payload["completion"]]

    def _current(self, view: str) -> list[Event]:
        return [event_of(row) for row in self._database.rows(f"{select_events(view)} {IN_BATCH} ORDER BY e.seq")]


def _vote(
    seq: int, item: str, annotator: str, payload: str, ms: int | None, at: str, round_: int, consent: str | None
) -> Vote:
    content = json.loads(payload)
    order, tags = tuple(content["order"]), tuple(content["tags"])
    answer = (content["choice"], order, content["strength"], tags, content["note"])
    return Vote(seq, item, annotator, *answer, ms, at, round_, consent)
