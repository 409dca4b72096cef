"""What the processes of one stage tell each other before any of them loads a model.

Through torch's key-value store that launchers set up anyway, as JSON: no process group is made yet, whose backend
and timeout the stage's own arguments decide. Importing this module loads no torch.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.process import world_size

WAIT_SECONDS = 600


def together(mine: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """What every rank says, in the order of the ranks.

    Args:
        mine: what this one says, as JSON can hold it.
        name: of the question; each is asked once.
    Raises:
        StoreError: a rank has not answered in ten minutes.
    """
    import os

    from torch.distributed import PrefixStore

    rank, size = os.environ.get("RANK", "0"), world_size()
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        told = PrefixStore(f"pipeline/{restart}/{name}", _store(int(rank), size))
        told.set(rank, json.dumps(mine))
        answers = [json.loads(told.get(str(other))) for other in range(size)]
        # The store may live in rank 0, which must not leave before all have read.
        told.add("read", 1)
        if rank == "0":
            _wait_for(told, size)
    except RuntimeError as err:
        raise StoreError(
            f"rank {rank}", "a process of this run did not answer.", "Launch all of them anew."
        ) from err
    except ValueError as err:  # of the launcher's environment
        said = str(err).strip().splitlines()[0][:200]
        mend = "Launch with torchrun or accelerate, or unset WORLD_SIZE."
        raise StoreError(f"rank {rank} of {size}", f"cannot find the others: {said}", mend) from err
    return answers


@cache
def _store(rank: int, size: int) -> Any:
    """One for the life of the process: where rank 0 serves it, others still speak to it, the process group too."""
    import datetime

    from torch.distributed import rendezvous

    wait = datetime.timedelta(seconds=WAIT_SECONDS)
    store = next(rendezvous("env://", rank, size, timeout=wait))[0]
    store.set_timeout(wait)
    return store


def _wait_for(store: Any, size: int) -> None:
    import time

    until = time.monotonic() + WAIT_SECONDS
    while store.add("read", 0) < size and time.monotonic() < until:
        time.sleep(0.01)
