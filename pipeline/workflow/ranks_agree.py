"""Make the ranks (processes) of one stage begin together or fail together: the same work, and no error on any.

A rank that ended alone would leave the others waiting. The exchange is passed in, so nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pipeline.base.errors import PipelineError, StoreError
from pipeline.store import interrupted

Together = Callable[[dict[str, Any], str], list[dict[str, Any]]]
"""All-gather of one dictionary per rank, by a name: :func:`pipeline.modeling.ranks.together`."""

InContact = Callable[[str, Callable[[], str]], AbstractContextManager[None]]
"""Does a stage's work inside and notices a rank that is gone: :func:`pipeline.modeling.ranks.in_contact`."""


def disagreement(standings: list[dict[str, Any]]) -> PipelineError | None:
    """Why ranks cannot work together; None where they can.

    Args:
        standings: of each rank ``work``, a :class:`pipeline.store.interrupted.Work` as a dictionary, or None where
            its config leaves nothing to do; whether it is ``done``; and its ``error`` as (where, what, mend).
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
    """The first error of a rank, with its number; None without one."""
    for rank, standing in enumerate(standings):
        if standing["error"] is not None:
            where, what, mend = standing["error"]
            return StoreError(where, f"on rank {rank} of {len(standings)}: {what}", mend)
    return None


def exchange(
    standing: dict[str, Any], error: PipelineError | None, name: str, together: Together | None
) -> list[dict[str, Any]]:
    """The standing of every rank, in the order of the ranks.

    Args:
        standing: of this rank, as JSON can hold it; its ``error`` is added.
        name: of the exchange; each is used once.
        together: None for a single process.
    Raises:
        PipelineError: ``error``, for a single process or where the exchange failed.
    """
    standing = {**standing, "error": None if error is None else [error.where, error.what, error.mend]}
    if together is None:
        if error is not None:
            raise error
        return [standing]
    try:
        return together(standing, name)
    except Exception as err:
        if error is not None:
            raise error from err
        raise
