"""The audit log: one line an event, each with the hash of the one before it, so that no change goes unnoticed.

A chain alone does not tell that its end was cut off: ``head.json`` has number and hash of the last event. Whoever
can write both files can still cut both, so note a hash elsewhere; ``audit verify --hash`` looks for it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, fsync, locked, make_dirs, read_json, replace_json
from pipeline.base.json_values import dict_of, parse_json
from pipeline.base.records import canonical_json, digest

DIRECTORY = ".audit"
Kind = Literal["approved", "rejected", "withdrawn", "erased", "refused", "overridden", "published", "unpublished"]
Facts = dict[str, str | int]

_FIRST = "0" * 64
_MEND = "Restore data/.audit from a backup, or move it away: approvals then have to be given again."


@dataclass(frozen=True)
class Event:
    """What happened.

    Attributes:
        number: from 1.
        time: UTC, ISO 8601.
        by: who says so; empty where nobody is named.
        previous: the hash of the event before, zeros for the first.
        hash: sha256 of all the others.
    """

    number: int
    time: str
    event: Kind
    by: str
    facts: Facts
    previous: str
    hash: str = ""

    def sealed(self) -> Event:
        """The event with its hash."""
        return replace(self, hash=digest({k: v for k, v in asdict(self).items() if k != "hash"}))


class AuditLog:
    """The events of one data directory. Several processes may append."""

    def __init__(self, root: str | Path) -> None:
        self.directory = Path(root) / DIRECTORY
        self.path, self.head = self.directory / "log.jsonl", self.directory / "head.json"

    def events(self) -> list[Event]:
        """All events, oldest first.

        Raises:
            StoreError: the log was changed.
        """
        events, problems = self._read()
        if problems:
            raise StoreError(str(self.path), f"{problems[0]}.", _MEND)
        return events

    def problems(self, noted: str | None = None) -> list[str]:
        """What shows that the log was changed, a sentence each.

        Args:
            noted: a hash that was printed earlier.
        """
        events, problems = self._read()
        if noted is not None and not any(event.hash == noted for event in events):
            problems.append(f"no event has the hash {noted}: the log was cut or written anew")
        return problems

    def append(self, event: Kind, by: str, facts: Facts) -> Event:
        """Add an event; it is on the disk when this returns.

        Raises:
            StoreError: the log was changed, or the disk failed.
        """
        with disk_errors(str(self.path)):
            make_dirs(self.directory)
            with locked(self.directory / ".lock"):
                events = self.events()
                self._drop_unfinished_line()
                if events:  # a kill may have left it one event behind
                    self._set_head(events[-1])
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                previous = events[-1].hash if events else _FIRST
                added = Event(len(events) + 1, now, event, by, facts, previous).sealed()
                with self.path.open("ab") as file:
                    file.write(canonical_json(asdict(added)).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                fsync(self.directory)
                self._set_head(added)
        return added

    def _set_head(self, event: Event) -> None:
        replace_json(self.head, {"number": event.number, "hash": event.hash})

    def _drop_unfinished_line(self) -> None:
        """A kill in the middle of a write leaves a line without an end, which nobody was told of."""
        if self.path.is_file() and (data := self.path.read_bytes()) and not data.endswith(b"\n"):
            os.truncate(self.path, data.rfind(b"\n") + 1)

    def _read(self) -> tuple[list[Event], list[str]]:
        """(the events up to the first that is wrong, what is wrong)."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        events: list[Event] = []
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                break
            event = _parsed(line)
            previous = events[-1].hash if events else _FIRST
            if event is None or (event.number, event.previous) != (number, previous) or event != event.sealed():
                return events, [f"line {number} was changed, moved or removed"]
            events.append(event)
        return events, self._wrong_end(events)

    def _wrong_end(self, events: Sequence[Event]) -> list[str]:
        try:
            head = read_json(self.head)
        except FileNotFoundError:
            return ["head.json is missing"] if len(events) > 1 else []
        except StoreError:
            return ["head.json is damaged"]
        number = head.get("number")
        if not isinstance(number, int) or not 0 < number <= len(events):
            return [f"events are missing at the end: there were {number}, and {len(events)} are left"]
        return [] if events[number - 1].hash == head.get("hash") else ["head.json names another last event"]


def _parsed(line: bytes) -> Event | None:
    try:
        fields = dict_of(parse_json(line.decode("utf-8")))
        event = Event(**fields)
    except (ValueError, TypeError):
        return None
    return event if event.event in get_args(Kind) and isinstance(event.facts, dict) else None
