"""Take up what people have said in ``make chat`` and ``make try``, for the round that begins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.process import say
from pipeline.chat.project import log_directory, open_log, training_ids, votes_so_far, write
from pipeline.labelling.row_schemas import SPLITS
from pipeline.store.store import Store, Version
from pipeline.workflow.rounds import Loop, Round, after_talk, published_after

TAKEN_UP = "taken_up"
"""The count of a version's votes that no round before has had."""
_TRAINING = ("default", "unpaired")


def take_up(loop: Loop, last: Round, previous: Version) -> None:
    """Put the votes so far behind the rows of the last round, in a version that the next ``collect`` carries.

    Does nothing where nobody has voted since. Votes that come later are for the round after that, or, before
    ``collect`` is done, for another version.

    Args:
        previous: the preferences that the last round has learnt from.
    """
    store, config = loop.store, loop.config
    if not loop.options.chat or not log_directory(store, config.name).is_dir():
        return
    *_, newest = published_after(last, previous)
    *_, before = [newest, *after_talk(store, newest)]
    with closing(open_log(store, config.name)) as log:
        rows = votes_so_far(log)
        carried = row_ids(newest)
        if training_ids(rows) - carried == row_ids(before) - carried:
            return
        if config.collect.scrub:
            what = "does not reach what people typed in make try, and they have voted on it since the last round."
            raise ConfigError(f"{config.path}: collect.scrub", what, "Leave these votes out: loop.chat=false.")
        had = {
            i
            for version in carried_by(store, newest)
            if version.manifest.stage == "chat"
            for i in vote_ids(version)
        }
        new = {row["id"] for split in SPLITS for row in rows.votes[split]} - had
        made = write(store, config.name, log, rows, newest, **{TAKEN_UP: len(new)})
    say("loop", f"takes up {len(new)} votes of make chat and make try: {made.ref}")


def carried_by(store: Store, version: Version) -> Iterator[Version]:
    """The versions whose rows a version carries, nearest first, as far as they are there."""
    while (before := next((p.ref for p in version.manifest.parents if p.role == "previous"), None)) is not None:
        with contextlib.suppress(StoreError):
            version = store.resolve(before)
            yield version
            continue
        return


def row_ids(version: Version) -> set[str]:
    """Ids of the rows to learn from."""
    return _ids(version, _TRAINING)


def vote_ids(version: Version) -> set[str]:
    """Ids of the single votes."""
    return _ids(version, ("votes",))


def _ids(version: Version, configs: tuple[str, ...]) -> set[str]:
    there = [(split, config) for split in SPLITS for config in configs if version.has_split(split, config)]
    return {row["id"] for split, config in there for row in version.iter_rows(split, config, columns=["id"])}
