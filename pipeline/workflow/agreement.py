"""Whether the processes of one stage may begin: the same work from the same inputs, and no error on any of them.

One that ended alone would leave the others waiting for it. How they tell each other is passed in: no torch here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.base.errors import PipelineError, StoreError
from pipeline.store import interrupted

Together = Callable[[dict[str, Any], str], list[dict[str, Any]]]
"""Tells all ranks what this one says, and gives what each says: :func:`pipeline.modeling.ranks.together`."""


def disagreement(standings: list[dict[str, Any]]) -> PipelineError | None:
    """Why ranks cannot work together, or None where they can.

    Args:
        standings: of each rank: ``work``, a :class:`pipeline.store.interrupted.Work` as a dictionary, or None
            where its config leaves nothing to do; whether it is ``done``; or the ``error`` it met, as (where,
            what, mend).
    """
    mend = "Give all processes the same settings and one data_dir that all of them see."
    if (met := met_error(standings)) is not None:
        return met
    idle = [rank for rank, standing in enumerate(standings) if standing["work"] is None]
    if len(idle) == len(standings):
        return None
    if idle:
        return StoreError(f"rank {idle[0]}", "has nothing to do by its config, and others have.", mend)
    first = interrupted.Work(**standings[0]["work"])
    for rank, standing in enumerate(standings[1:], 1):
        changes = interrupted.differences(first, interrupted.Work(**standing["work"]))
        if changes:
            text = ", ".join(changes)
            return StoreError(f"rank {rank}", f"does other work than rank 0: {text} there.", mend)
        if first.key != standing["work"]["key"]:
            return StoreError(f"rank {rank}", "does other work than rank 0.", mend)
        if standing["done"] != standings[0]["done"]:
            has = [r for r, s in enumerate(standings) if s["done"]]
            return StoreError(
                f"rank {rank}", f"sees another data_dir: the work is done on rank {has[0]} alone.", mend
            )
    return None


def met_error(standings: list[dict[str, Any]]) -> PipelineError | None:
    """The first error that a rank has met, with the rank; None where there is none."""
    for rank, standing in enumerate(standings):
        if standing["error"] is not None:
            where, what, mend = standing["error"]
            return StoreError(where, f"on rank {rank} of {len(standings)}: {what}", mend)
    return None


def exchange(
    mine: dict[str, Any], error: PipelineError | None, name: str, together: Together | None
) -> list[dict[str, Any]]:
    """What every rank says, in the order of the ranks; of a single process, its own.

    Args:
        mine: what this one says, as JSON can hold it; its ``error`` is added.
        name: of the question; each is asked once.
        together: None where there is a single process.
    Raises:
        PipelineError: this one's, where there is nobody to tell it or nobody could be told.
    """
    mine = {**mine, "error": None if error is None else [error.where, error.what, error.mend]}
    if together is None:
        if error is not None:
            raise error
        return [mine]
    try:
        return together(mine, name)
    except Exception as err:
        if error is not None:
            raise error from err
        raise
