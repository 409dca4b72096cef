"""Find the policy of a reader by the name that they vote under, or by what versions call them."""

from __future__ import annotations

import contextlib
import re

from pipeline.base.errors import StoreError
from pipeline.base.records import reader_of
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.opening import is_project
from pipeline.store.store import Store

POLICY = "-policy"


def policy_for(store: Store, run: str, reader: str) -> str:
    """The reader's policy among those of an experiment: ``news-likes-r1a2b3c4d-policy``.

    Args:
        run: the experiment, or a version of its shared policy.
        reader: their name on the labelling page, an annotator's id, or what versions call them.
    Raises:
        StoreError: they have none.
    """
    name = run.partition("@")[0].removesuffix(POLICY)
    ids = [reader, *(reader_of(annotator) for annotator in (reader, *_ids(store, name, reader)))]
    policies = store.names()
    policy = next((ref for each in ids if (ref := f"{name}-{each}{POLICY}") in policies), None)
    if policy is None:
        named = re.compile(rf"{re.escape(name)}-(r[0-9a-f]{{8}}){POLICY}")
        own = [match[1] for match in map(named.fullmatch, policies) if match]
        what = f'reader "{reader}" has no policy of their own.'
        mend = f"There is: {', '.join(own)}." if own else "Train them: make readers"
        raise StoreError(f"{store.root}/{name}", what, mend)
    return policy


def _ids(store: Store, name: str, person: str) -> list[str]:
    """The ids of somebody who is called so on the labelling page."""
    directory = store.home(f"{name}-labels")
    if not is_project(directory):
        return []
    with contextlib.closing(Log(directory)) as log:
        return [p.id for p in log.people.all() if p.name == person]
