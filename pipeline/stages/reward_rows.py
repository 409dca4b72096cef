"""The rows that ``reward`` trains and measures on; memory holds those of readers, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pipeline.stages.reward_scores import SPLITS, Row
from pipeline.stages.rounds.earlier_pairs import earlier_ids, learnt
from pipeline.trainers.reward import RewardSection
from pipeline.workflow.reader_votes import reader_rows, votes_by_reader
from pipeline.workflow.stage import Run

Rereadable = Callable[[], Iterator[Row]]
"""Rows, read again at every call."""


def judged_rows(run: Run, args: RewardSection) -> tuple[dict[str, Rereadable], dict[str, Rereadable]]:
    """Single labelled completions and pairs, by split: everybody's, or one reader's own completions alone."""
    preferences = run.version("preferences")

    def stored(split: str, config: str) -> Rereadable:
        there = preferences.has_split(split, config)
        return lambda: preferences.iter_rows(split, config) if there else iter(())

    rows, paired = ({split: stored(split, config) for split in SPLITS} for config in ("unpaired", "default"))
    if args.reader is not None:  # what two others think of a pair is nothing of theirs
        rows = {split: _held(reader_rows(preferences, split, args.reader)) for split in SPLITS}
        paired = {split: _held([]) for split in SPLITS}
    elif args.reader_heads:
        own = (reader_rows(preferences, "train", reader) for reader in votes_by_reader(preferences))
        rows["train"] = _held([row for of_reader in own for row in of_reader])
    train, earlier = rows["train"], earlier_ids(run, "unpaired")
    rows["train"] = lambda: learnt(train(), earlier, args.old_share)
    return rows, paired


def _held(rows: Sequence[Row]) -> Rereadable:
    return lambda: iter(rows)
