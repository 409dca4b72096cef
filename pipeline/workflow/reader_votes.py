"""The single completions that one reader liked or disliked, from the votes of a version of preferences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.base.records import digest, reader_of
from pipeline.store.version import Version

Row = dict[str, Any]
SPLITS = ("train", "test")
LIKED = "liked"
"""In counts of votes beside the splits: the likes of ``train``."""


def reader_rows(preferences: Version, split: str, reader: str) -> list[Row]:
    """The rows of one reader's own votes, with the columns of the configuration ``unpaired``.

    Also of completions that others have judged otherwise: ``unpaired`` holds what all votes on one come to.
    """
    items = {row["id"]: row for row in _rows(preferences, split, "items")}
    rows: dict[str, Row] = {}
    for vote in _thumbs(preferences, split):
        item = items.get(vote["item_id"])
        if reader_of(vote["annotator"]) == reader and item is not None:
            texts = {"prompt": item["prompt"], "completion": json.loads(item["completions"])[0]}
            row: Row = {**texts, "label": vote["choice"] == "like"}
            rows[item["id"]] = {"id": digest([*row.values()]), **row, "annotator": vote["annotator"]}
    return list(rows.values())


def votes_by_reader(preferences: Version) -> Mapping[str, Counter[str]]:
    """How many completions each reader has judged, by split, and liked, in the order of their names."""
    counts: dict[str, Counter[str]] = {}
    for split in SPLITS:
        for vote in _thumbs(preferences, split):
            count = counts.setdefault(reader_of(vote["annotator"]), Counter())
            count[split] += 1
            count[LIKED] += split == "train" and vote["choice"] == "like"
    return dict(sorted(counts.items()))


def _thumbs(preferences: Version, split: str) -> Iterator[Row]:
    """First answers to single completions, but of those whose answer is known beforehand."""
    for vote in _rows(preferences, split, "votes"):
        if vote.get("mode") == "thumbs" and vote["choice"] and not vote["round"] and vote["gold"] is None:
            yield vote


def _rows(preferences: Version, split: str, config: str) -> Iterator[Row]:
    return preferences.iter_rows(split, config) if preferences.has_split(split, config) else iter(())
