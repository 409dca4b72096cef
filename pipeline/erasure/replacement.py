"""Preferences without some people's answers: what the answers of all others amount to, and a version of that.

Which versions need one is :mod:`pipeline.erasure.find`'s to find.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from pipeline.base.records import PREFERENCES
from pipeline.erasure.erase import inherit
from pipeline.labelling.items import Item, items_from_rows
from pipeline.labelling.session.publishing import write_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import (
    SPLITS,
    Labelled,
    adjudications_from_rows,
    edits_from_rows,
    labelled,
    votes_from_rows,
)
from pipeline.store.manifest import Parent
from pipeline.store.store import Draft, Store, Version


def of_people(version: Version) -> bool:
    """Whether a version holds what people answered on the page, and not what was imported or computed."""
    return any(version.has_split(split, "items") for split in SPLITS)


def without(version: Version, people: Collection[str]) -> tuple[list[Item], Labelled]:
    """What the answers of all others amount to, by the settings that the version was made with."""

    def rows(config: str) -> Iterator[dict[str, Any]]:
        for split in SPLITS:
            if version.has_split(split, config):
                yield from version.iter_rows(split, config)

    items = [
        item
        for split in SPLITS
        if version.has_split(split, "items")
        for item in items_from_rows(version.iter_rows(split, "items"), split)
    ]
    votes, skips = votes_from_rows(rows("votes"))
    found = labelled(
        items,
        [v for v in votes if v.annotator not in people],
        [e for e in edits_from_rows(rows("edits")) if e.annotator not in people],
        adjudications_from_rows(rows("outcomes")),
        settings_of(version),
        skips=[s for s in skips if s.annotator not in people],
    )
    return items, found


def settings_of(version: Version) -> LabelSection:
    """Those that decided a version's rows, as its manifest has them."""
    given = version.manifest.stats.get("label") or version.manifest.config.get("label") or {}
    # What else people were asked is not recorded; a margin by strength was possible as they were asked for it.
    return LabelSection(**{**given, "ask": ["strength"]})


def publish_heir(
    store: Store,
    old: Version,
    parents: Sequence[Parent],
    work: str | None,
    previous: Version | None,
    answers: tuple[Sequence[Item], Labelled] | None,
    kept: Collection[str],
) -> Version:
    """Publish what takes the place of ``old``.

    Args:
        work: its key.
        previous: whose training rows stand before its own.
        answers: items and what was answered; None where ``old`` holds no answers of people, only carried rows.
        kept: ids of the rows of ``old`` that stay, where it holds no answers.
    """
    with inherit(store, old, parents, work) as draft:
        draft.stats.update(old.manifest.stats)
        if answers is not None:
            items, found = answers
            write_rows(draft, found, items, previous)
            # Who flagged what is in the log alone.
            draft.stats.update(found.counts)
            del draft.stats["flagged"]
        else:
            _copy(draft, old, previous, kept)
    return draft.version


def _copy(draft: Draft, old: Version, previous: Version | None, kept: Collection[str]) -> None:
    for key in old.splits:
        config, _, split = key.rpartition("/")
        if config:
            draft.write_rows(split, [], config, carry=old)
            continue
        carry = previous if previous is not None and previous.has_split(split) else None
        shared = {r["id"] for r in carry.iter_rows(split, columns=["id"])} if carry else set[str]()
        own = (r for r in old.iter_rows(split) if r["id"] in kept and r["id"] not in shared)
        draft.write_rows(split, own, schema=PREFERENCES, carry=carry)
