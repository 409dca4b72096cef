"""Exchange JSON between the processes of one stage before any of them loads a model.

Uses the key-value store that torch's launchers set up; the process group comes later, as the stage's arguments
decide its backend and timeout. Importing this module loads no torch.
"""

from __future__ import annotations

import datetime
import json
import os
import time
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.base import process
from pipeline.base.errors import ConfigError, LostRankError, StoreError, first_line

if TYPE_CHECKING:
    from torch.distributed import Store

TIMEOUT = "RLHF_RANK_TIMEOUT"
"""The variable with the seconds of silence after which a rank counts as lost."""
DEFAULT_SECONDS = 300.0


def rank_timeout() -> float:
    """Seconds of silence after which a rank counts as lost.

    Raises:
        ConfigError: ``RLHF_RANK_TIMEOUT`` is not a number from 1.
    """
    text = os.environ.get(TIMEOUT, "") or str(DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < 1e6:
        raise ConfigError(
            TIMEOUT, f"{text!r} is not a number of seconds from 1.", f"Unset it for {DEFAULT_SECONDS:g}."
        )
    return seconds


def together(message: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Gather the messages of all ranks, in the order of ranks.

    Args:
        message: this rank's, as JSON can hold it.
        name: of the exchange; each name is used once.
    Raises:
        LostRankError: a rank did not answer within :func:`rank_timeout`.
        StoreError: the launcher's environment names no other processes.
    """
    rank, size, seconds = process.rank(), process.world_size(), rank_timeout()
    try:
        store = prefixed(_store(rank, size, seconds), name)
        store.set(str(rank), json.dumps(message))
        messages = [json.loads(store.get(str(sender))) for sender in range(size)]
        # The store may live in rank 0, which must not leave before all have read.
        store.add("read", 1)
        if rank == 0:
            _wait_for(store, size, seconds)
    except RuntimeError as err:
        raise LostRankError(
            f"rank {rank} of {size}",
            f"another process of this run did not answer within {seconds:g} s.",
            "Launch all of them again.",
        ) from err
    except ValueError as err:  # of the launcher's environment
        mend = "Launch with torchrun or accelerate, or unset WORLD_SIZE."
        raise StoreError(f"rank {rank} of {size}", f"cannot find the others: {first_line(err)}.", mend) from err
    return messages


def prefixed(store: Store, name: str) -> Store:
    """The store with keys of this exchange and this start of the run alone."""
    from torch.distributed import PrefixStore

    return PrefixStore(f"pipeline/{_start(process.rank(), process.world_size(), rank_timeout())}/{name}", store)


@cache
def _start(rank: int, size: int, seconds: float) -> str:
    """A word that all ranks of this start of the run have in common, drawn by rank 0.

    An elastic launcher keeps its store when it starts ranks again, with what those before have written, and a host
    that joins counts its starts from 0. So each rank waits for an answer to a word of its own.
    """
    store, own = _store(rank, size, seconds), uuid.uuid4().hex
    if rank > 0:
        store.set(f"pipeline/hello/{rank}", own)
        word = store.get(f"pipeline/answer/{own}").decode()
        store.set(f"pipeline/{word}/{rank}", "")
        return word
    until = time.monotonic() + seconds
    others = [(f"pipeline/hello/{number}", f"pipeline/{own}/{number}") for number in range(1, size)]
    while not all(store.check([heard]) for _, heard in others):
        for hello, _ in others:
            if store.check([hello]):
                store.set(f"pipeline/answer/{store.get(hello).decode()}", own)
        if time.monotonic() > until:
            raise RuntimeError("a rank has not said hello")
        time.sleep(0.02)
    return own


@cache
def _store(rank: int, size: int, seconds: float) -> Store:
    """One store for the life of the process: rank 0 may serve it to the others and to the process group."""
    from torch.distributed import rendezvous

    wait = datetime.timedelta(seconds=seconds)
    store = next(rendezvous("env://", rank, size, timeout=wait))[0]
    store.set_timeout(wait)
    return store


def _wait_for(store: Store, size: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while store.add("read", 0) < size and time.monotonic() < until:
        time.sleep(0.01)
