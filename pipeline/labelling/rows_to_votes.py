"""Read published rows back as answers: the reverse of :mod:`pipeline.labelling.votes_to_rows`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.events import Event


def votes_from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Vote], list[Event]]:
    """Votes and skips from rows of :data:`~pipeline.base.records.PEOPLES_VOTES`."""
    votes: list[Vote] = []
    skips: list[Event] = []
    for seq, r in enumerate(rows, start=1):
        if r["choice"] is None:
            payload = {"reason": r["reason"], "note": r["note"], "consent": r["consent"]}
            who = (r["annotator"], r["item_id"])
            skips.append(Event(seq, r["id"], "skip", *who, payload, r["ms"], r["at"], r["round"]))
            continue
        order, tags = tuple(map(int, r["shown"].split(","))), tuple(json.loads(r["tags"]))
        content = (r["item_id"], r["annotator"], r["choice"], order, r["strength"], tags, r["note"])
        votes.append(Vote(seq, *content, r["ms"], r["at"], r["round"], r["consent"]))
    return votes, skips


def edits_from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Edits from rows of :data:`~pipeline.labelling.row_schemas.EDITS`, which hold no times."""
    edits: list[Event] = []
    for seq, r in enumerate(rows, start=1):
        payload = {"completion": r["replaced"], "text": r["completion"], "consent": r["consent"]}
        edits.append(Event(seq, r["id"], "edit", r["annotator"], r["item_id"], payload, None, "", 0))
    return edits


def adjudications_from_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Adjudications from rows of :data:`~pipeline.base.records.OUTCOMES`."""
    return {r["item_id"]: r["choice"] for r in rows if r["adjudicated"]}
