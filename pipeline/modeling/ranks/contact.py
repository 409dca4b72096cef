"""Notice that another process (rank) of the run is gone, and end this one with one line.

A collective alone waits half an hour for a machine that has lost its power or its network, and a short timeout of
collectives would end a run in which one rank has long work. So every rank writes a number that grows into the
launcher's key-value store, and reads those of the others: one with long work still counts, and one that
is gone is noticed after ``RLHF_RANK_TIMEOUT`` seconds. A thread of its own does it, as the main thread may sit in
a collective that nothing but the end of the process interrupts.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.base import process
from pipeline.base.errors import LostRankError, PipelineError, StoreError, first_line
from pipeline.base.terminal_text import put
from pipeline.modeling.ranks.exchange import prefixed, rank_timeout, together

if TYPE_CHECKING:
    from torch.distributed import Store

ENDED = "ended"
MEND = "Run the same command again, with any number of ranks."
# What gloo and NCCL write where a connection breaks or a collective takes too long, and torch of its store.
BROKEN = (
    *(
        "closed by peer",
        "onnection reset",
        "roken pipe",
        "onnection refused",
        "imed out",
        "imeout",
        "gloo",
        "NCCL",
    ),
    *(
        "failed to recv",
        "failed to send",
        "onnection was",
        "onnectFullMesh",
        "no route",
        "No route",
        "unreachable",
    ),
)


@contextmanager
def in_contact(stage: str, note: Callable[[], str]) -> Generator[None]:
    """Do the work of a stage inside, and end with one line once another rank is gone.

    Args:
        note: a sentence on the last checkpoint, or nothing.
    Raises:
        LostRankError: another rank is gone. Where the main thread does not come back from a collective, the
            process is ended with the same line and exit status.
        PipelineError: that of another rank, if that is why it is gone.
    """
    if process.world_size() == 1:
        yield
        return
    contact = Contact(stage, note)
    contact.start()
    try:
        yield
    except BaseException as err:
        problem = contact.reason(err) if isinstance(err, Exception) and is_broken(err) else None
        if problem is not None:
            contact.end_soon(problem)
            raise problem from err
        contact.leave(err)
        raise
    contact.leave(None)


def is_broken(err: Exception) -> bool:
    """Whether an exception is of a broken connection to another rank, or of one that did not answer in time."""
    from torch.distributed import DistError

    return isinstance(err, DistError) or (isinstance(err, RuntimeError) and any(t in str(err) for t in BROKEN))


class Contact:
    """The signs of life of all ranks.

    Attributes:
        silent: seconds since the last sign of each rank, as far as this process was awake.
        words: the last sign of each rank: a number, :data:`ENDED`, or an error as JSON.
    """

    def __init__(self, stage: str, note: Callable[[], str]) -> None:
        self.stage, self.note = stage, note
        self.rank, self.size, self.seconds = process.rank(), process.world_size(), rank_timeout()
        self.every = min(1.0, self.seconds / 10)
        self.silent, self.words = [0.0] * self.size, [""] * self.size
        self.store = prefixed(self._connect(), f"{stage}, contact")
        self.store.set(str(self.rank), "0")
        self.hosts = [m["host"] for m in together({"host": socket.gethostname()}, f"{stage}, hosts")]
        self.stopped = threading.Event()
        self.lock = threading.Lock()

    def _connect(self) -> Store:
        """A connection of its own: a call that waits blocks the others of a connection."""
        from torch.distributed import TCPStore

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        wait = datetime.timedelta(seconds=self.seconds)
        return TCPStore(address, port, self.size, is_master=False, timeout=wait, wait_for_workers=False)

    def start(self) -> None:
        """Begin to give signs and to look for those of others."""
        for work in (self._talk, self._listen):
            threading.Thread(target=work, name=f"contact {work.__name__}", daemon=True).start()

    def leave(self, err: BaseException | None) -> None:
        """Tell the others that this rank is through, or why it ends."""
        self.stopped.set()
        word = ENDED
        if isinstance(err, PipelineError):
            word = json.dumps([err.where, err.what, err.mend])
        elif err is not None:
            word = json.dumps(["", f"ended in {type(err).__name__}: {first_line(err)}.", "See its output."])
        if self.lock.acquire(timeout=5):  # the store may be gone with rank 0
            with suppress(RuntimeError):
                self.store.set(str(self.rank), word)
            self.lock.release()

    def end_soon(self, problem: PipelineError) -> None:
        """End this process if leaving it hangs: a communicator may wait for its peers once more."""
        self.stopped.set()
        timer = threading.Timer(30, os._exit, [problem.status])
        timer.daemon = True
        timer.start()

    def reason(self, err: Exception) -> PipelineError:
        """Why a collective has failed, once it shows which rank is silent or has said why it ends."""
        with suppress(ValueError):  # the launcher ends this process when it misses the other: first the line
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        until = time.monotonic() + 5 * self.every
        while time.monotonic() < until and (problem := self._gone(3 * self.every)) is None:
            time.sleep(self.every / 5)
        problem = self._gone(3 * self.every)
        return self._lost(f"lost contact: {first_line(err)}.") if problem is None else problem

    def _talk(self) -> None:
        """Give signs, and read those of the others, until the work ends. A lost store leaves all others silent."""
        keys = [str(rank) for rank in range(self.size)]
        count = 0
        while not self.stopped.wait(self.every):
            count += 1
            with suppress(RuntimeError):
                with self.lock:
                    if self.stopped.is_set():
                        return
                    self.store.set(str(self.rank), str(count))
                for rank, word in enumerate(self.store.multi_get(keys)):
                    if (text := word.decode()) != self.words[rank]:
                        self.words[rank], self.silent[rank] = text, 0.0

    def _listen(self) -> None:
        """End the process once a rank was silent for too long; time in which this process stood still is none."""
        last = time.monotonic()
        while not self.stopped.wait(self.every):
            now = time.monotonic()
            passed, last = min(now - last, 2 * self.every), now
            for rank in range(self.size):
                if rank != self.rank and self.words[rank] != ENDED:
                    self.silent[rank] += passed
            problem = self._gone(self.seconds)
            if problem is not None and not self.stopped.is_set():
                # An exception in the main thread has the same reason, and may come first.
                put(f"error: {problem}", sys.stderr)
                sys.stdout.flush()
                os._exit(problem.status)

    def _gone(self, seconds: float) -> PipelineError | None:
        """The error of the first rank that has ended in one, or has been silent for longer than ``seconds``."""
        for rank, word in enumerate(self.words):
            if word.startswith("["):
                where, what, mend = json.loads(word)
                place = f"{where}: " if where else ""
                return self._of(rank, f"{place}{what}", mend)
        others = [r for r, word in enumerate(self.words) if r != self.rank and word != ENDED]
        lost = max(others, key=self.silent.__getitem__, default=None)
        if lost is None or self.silent[lost] <= seconds:
            return None
        who = f"rank {lost} of {self.size} on {self.hosts[lost]}"
        return self._lost(f"{who} lost contact {self.silent[lost]:.0f} s ago.")

    def _of(self, rank: int, what: str, mend: str) -> PipelineError:
        return StoreError(self.stage, f"rank {rank} of {self.size} on {self.hosts[rank]}: {what}", mend)

    def _lost(self, what: str) -> LostRankError:
        return LostRankError(self.stage, f"{what} {self.note()}".strip(), MEND)
