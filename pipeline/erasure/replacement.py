"""Compute preferences without given people's answers, and publish them as a version's replacement."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from pipeline.erasure.erase_version import draft_replacement
from pipeline.labelling.items import TYPED, items_from_rows
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.rows_to_votes import adjudications_from_rows, edits_from_rows, votes_from_rows
from pipeline.labelling.session.publishing import write_rows, write_training_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import Labelled, Labelling, answered_only, labelled
from pipeline.store.manifest import Parent
from pipeline.store.store import Draft, Store, Version


def of_people(version: Version) -> bool:
    """Whether a version holds answers from the page, rather than imported or computed ones."""
    return any(version.has_split(split, "items") for split in SPLITS)


def without(version: Version, people: Collection[str]) -> Labelled:
    """The rows of all other people's answers, by the version's own settings."""

    def rows(config: str) -> Iterator[dict[str, Any]]:
        for split in SPLITS:
            if version.has_split(split, config):
                yield from version.iter_rows(split, config)

    with_items = [split for split in SPLITS if version.has_split(split, "items")]
    items = [item for split in with_items for item in items_from_rows(version.iter_rows(split, "items"), split)]
    votes, skips = votes_from_rows(rows("votes"))
    rows_left = labelled(
        Labelling(
            items=items,
            settings=settings_of(version),
            votes=[v for v in votes if v.annotator not in people],
            skips=[s for s in skips if s.annotator not in people],
            edits=[e for e in edits_from_rows(rows("edits")) if e.annotator not in people],
            adjudications=adjudications_from_rows(rows("outcomes")),
        )
    )
    return answered_only(rows_left) if version.manifest.stats.get(TYPED) else rows_left


def settings_of(version: Version) -> LabelSection:
    """The settings that determined a version's rows, from its manifest."""
    recorded = version.manifest.stats.get("label") or version.manifest.config.get("label") or {}
    # The manifest has no ``ask``, and a margin by strength is refused without it.
    return LabelSection(**{**recorded, "ask": ["strength"]})


def publish_replacement(
    store: Store,
    old: Version,
    parents: Sequence[Parent],
    key: str | None,
    previous: Version | None,
    labelled: Labelled | None,
    kept: Collection[str],
) -> Version:
    """Publish the replacement of ``old``.

    Args:
        key: its work key.
        previous: the version whose training rows come before its own.
        labelled: None where ``old`` holds only carried rows.
        kept: ids of the rows of ``old`` that stay, where it holds only carried rows.
    """
    with draft_replacement(store, old, parents, key) as draft:
        draft.stats.update(old.manifest.stats)
        if labelled is not None:
            write_rows(draft, labelled, previous)
            # Only the log has the flags.
            draft.stats.update(labelled.counts)
            del draft.stats["flagged"]
        else:
            _copy(draft, old, previous, kept)
    return draft.version


def _copy(draft: Draft, old: Version, previous: Version | None, kept: Collection[str]) -> None:
    for key in old.splits:
        config, _, split = key.rpartition("/")
        if config not in ("", "unpaired"):
            draft.write_rows(split, [], config, carry=old)
            continue
        rows = (row for row in old.iter_rows(split, config or "default") if row["id"] in kept)
        write_training_rows(draft, split, rows, previous, config or "default")
