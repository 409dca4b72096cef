"""Exchange JSON between the processes of one stage before any of them loads a model.

Uses the key-value store that torch's launchers set up; the process group comes later, as the stage's arguments
decide its backend and timeout. Importing this module loads no torch.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import StoreError, first_line
from pipeline.base.process import world_size

if TYPE_CHECKING:
    from torch.distributed import Store

WAIT_SECONDS = 600


def together(message: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Gather the messages of all ranks, in the order of ranks.

    Args:
        message: this rank's, as JSON can hold it.
        name: of the exchange; each name is used once.
    Raises:
        StoreError: a rank did not answer within ten minutes.
    """
    import os

    from torch.distributed import PrefixStore

    rank, size = os.environ.get("RANK", "0"), world_size()
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = PrefixStore(f"pipeline/{restart}/{name}", _store(int(rank), size))
        store.set(rank, json.dumps(message))
        messages = [json.loads(store.get(str(sender))) for sender in range(size)]
        # The store may live in rank 0, which must not leave before all have read.
        store.add("read", 1)
        if rank == "0":
            _wait_for(store, size)
    except RuntimeError as err:
        raise StoreError(
            f"rank {rank}", "a process of this run did not answer.", "Launch all of them again."
        ) from err
    except ValueError as err:  # of the launcher's environment
        mend = "Launch with torchrun or accelerate, or unset WORLD_SIZE."
        raise StoreError(f"rank {rank} of {size}", f"cannot find the others: {first_line(err)}.", mend) from err
    return messages


@cache
def _store(rank: int, size: int) -> Store:
    """One store for the life of the process: rank 0 may serve it to the others and to the process group."""
    import datetime

    from torch.distributed import rendezvous

    wait = datetime.timedelta(seconds=WAIT_SECONDS)
    store = next(rendezvous("env://", rank, size, timeout=wait))[0]
    store.set_timeout(wait)
    return store


def _wait_for(store: Store, size: int) -> None:
    import time

    until = time.monotonic() + WAIT_SECONDS
    while store.add("read", 0) < size and time.monotonic() < until:
        time.sleep(0.01)
