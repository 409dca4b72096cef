"""What the processes of one stage tell each other before any of them loads a model.

Through torch's key-value store that launchers set up anyway, as JSON: no process group is made yet, whose backend
and timeout the stage's own arguments decide. Importing this module loads no torch.
"""

from __future__ import annotations

import json
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
    import datetime
    import os

    from torch.distributed import PrefixStore, rendezvous

    wait = datetime.timedelta(seconds=WAIT_SECONDS)
    store, rank, size = next(rendezvous("env://", int(os.environ["RANK"]), world_size(), timeout=wait))
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    told = PrefixStore(f"pipeline/{restart}/{name}", store)
    told.set(str(rank), json.dumps(mine))
    try:
        found = [json.loads(told.get(str(other))) for other in range(size)]
        # The store may live in rank 0, which must not leave before all have read.
        told.add("read", 1)
        if rank == 0:
            told.set_timeout(wait)
            _wait_for(told, size)
    except RuntimeError as err:
        raise StoreError(
            f"rank {rank}", "a process of this run did not answer.", "Launch all of them anew."
        ) from err
    return found


def _wait_for(store: Any, size: int) -> None:
    import time

    until = time.monotonic() + WAIT_SECONDS
    while store.add("read", 0) < size and time.monotonic() < until:
        time.sleep(0.01)
