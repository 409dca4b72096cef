"""Votes over HTTP while the server is killed again and again, and from slow, cut off and double clients. Slow.

Every acknowledged vote is in the log once, as it was sent. It leaves out the browser.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.people import Person
from pipeline.labelling.vote_summary import summary
from tests.helpers.free_port import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PEOPLE, KILLS = 8, 100

Kill = Callable[[int, random.Random], Callable[[], None]]

# Imports take a second, so that servers are forked from a process that has done them. Each is a process of its
# own, and opens the log itself.
SERVERS = """
import os, sys
from pathlib import Path
from pipeline.labelling.web import app, server
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import LabelSection
import uvicorn
directory, port = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        with server.Server(Log(directory), LabelSection(port=port, votes=8), "reviews", None) as page:
            os.write(1, f"{os.getpid()}\\n".encode())
            page.wait(lambda: False)
        os._exit(0)
    os.waitpid(pid, 0)
"""


class Servers:
    """One server at a time, on one port."""

    def __init__(self, directory: Path, code: str = SERVERS) -> None:
        self.port = free_port()
        command = [sys.executable, "-c", code, str(directory), str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._pid = 0
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._pid = int(self._line())

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                self.kill()
        self._process.wait(timeout=60)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "labels")
    log.batches.open("b", {})
    log.batches.add_items(Item(f"prompt {i}", (f"x{i}", f"y{i}")) for i in range(20_000))
    log.batches.finish()
    yield log
    log.close()


@pytest.fixture
def servers(log: Log) -> Iterator[Servers]:
    servers = Servers(log.directory)
    yield servers
    servers.end()


@dataclass
class Client:
    """One person's page: sends an event again, with the same key, until it is acknowledged."""

    port: int
    person: Person
    pace: random.Random
    cookie: str = ""
    acknowledged: dict[str, tuple[int, str, str]] = field(default_factory=dict[str, tuple[int, str, str]])
    """By key: seq, item, and the choice in words of the page."""
    duplicates: int = 0
    retries: int = 0

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 10.0) -> tuple[int, Any]:
        headers = {"Cookie": self.cookie}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            if path.startswith("/join/"):
                self.cookie = (answer.getheader("Set-Cookie") or "").split(";")[0]
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else None

    def until(self, method: str, path: str, body: Any = None) -> Any:
        """Ask until there is an answer. Only a server that is gone or busy is asked again."""
        while True:
            try:
                status, value = self.ask(method, path, body)
            except (OSError, http.client.HTTPException):
                self.retries += 1
                time.sleep(self.pace.uniform(0, 0.02))
                continue
            if status in (429, 503, 507):
                time.sleep(0.05)
                continue
            assert status in (200, 303), (status, value)
            return value

    @property
    def api(self) -> str:
        return f"/a/{self.person.id}/api/"

    def join(self) -> None:
        self.until("GET", f"/join/{self.person.token}")
        consent = self.until("GET", self.api + "state")["consent"]
        said = {"version": consent["version"], "sha256": consent["sha256"]}
        self.until("POST", self.api + "events", {"key": self.key(), "type": "consent", **said})

    def key(self) -> str:
        return f"{self.person.id}-{self.pace.getrandbits(64):016x}"

    def body(self, item: str) -> dict[str, Any]:
        choice = self.pace.choice(["a", "b", "tie", "both_bad"])
        return {"key": self.key(), "type": "vote", "item": item, "choice": choice, "ms": 2000}

    def vote(self) -> None:
        """One vote on the item that is next; votes come slower than the limit on their rate."""
        item = self.until("GET", self.api + "next")["item"]["id"]
        body = self.body(item)
        receipt = self.until("POST", self.api + "events", body)
        self.acknowledged[body["key"]] = (receipt["seq"], item, body["choice"])
        self.duplicates += receipt["duplicate"]


def clients(log: Log, port: int, n: int = PEOPLE) -> list[Client]:
    return [Client(port, log.people.add(f"person {i}"), random.Random(i)) for i in range(n)]


def meant(choice: str, order: tuple[int, ...]) -> str:
    return {"a": "ab"[order[0]], "b": "ab"[order[1]]}.get(choice, choice)


def check(log: Log, people: list[Client]) -> None:
    """The log holds what was acknowledged, as it was meant, and no other vote."""
    sent = {key: (each, *said) for each in people for key, said in each.acknowledged.items()}
    events = [e for e in log.events.read() if e.type == "vote"]
    assert len({e.key for e in events}) == len(events)
    assert {e.key: e.seq for e in events} == {key: seq for key, (_, seq, _, _) in sent.items()}
    choices: dict[str, list[str]] = {}
    for event in events:
        each, _, item, choice = sent[event.key]
        order = order_of(item, each.person.id, log.people.salt, 2)
        assert (event.annotator, event.item) == (each.person.id, item)
        assert (event.payload["order"], event.payload["choice"]) == (list(order), meant(choice, order))
        choices.setdefault(item, []).append(meant(choice, order))
    assert len(log.answers.votes()) == len(events)
    assert len({(e.annotator, e.item) for e in events}) == len(events)
    pairs = [a == b for said in choices.values() for a, b in itertools.combinations(said, 2)]
    found = summary({item.id: item for item in log.batches.items()}, log.answers.votes(), [], [], 0).raw
    assert found.n == len(pairs)
    if pairs:
        assert found.value == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def killed_while_voting(people: list[Client], kill: Kill, seconds: float, patience: float) -> int:
    """Let people vote while ``kill`` is called :data:`KILLS` times; returns how often it was.

    Args:
        kill: kills something, given the number of kills so far; returns what starts it again.
        seconds: no further kill after this time.
        patience: seconds for a vote to be acknowledged.
    """
    pace, over, told = random.Random(0), threading.Event(), threading.Semaphore(0)

    def label(client: Client) -> None:
        client.join()
        while not over.is_set():
            client.vote()
            told.release()

    began, kills = time.monotonic(), 0
    with ThreadPoolExecutor(len(people)) as pool:
        working = [pool.submit(label, client) for client in people]
        try:
            while kills < KILLS and time.monotonic() - began < seconds:
                # In every life some votes are acknowledged, and then it ends at any moment.
                for _ in range(pace.randrange(1, 12)):
                    assert told.acquire(timeout=patience), [w.exception() for w in working if w.done()]
                time.sleep(pace.uniform(0, 0.03))
                start = kill(kills, pace)
                kills += 1
                while told.acquire(blocking=False):
                    pass
                start()
        finally:
            over.set()
        for each in working:
            each.result(timeout=60)
    return kills


# Seen failing with: a receipt before COMMIT; a new key for each try.
def test_killed_at_a_hundred_moments(log: Log, servers: Servers) -> None:
    people = clients(log, servers.port)

    def kill(_: int, __: random.Random) -> Callable[[], None]:
        servers.kill()
        return servers.start

    servers.start()
    began = time.monotonic()
    kills = killed_while_voting(people, kill, seconds=300, patience=60)  # 135 s on a core with seven others
    assert kills == KILLS
    # Else no kill met a vote in flight, and the test shows nothing.
    assert sum(c.retries for c in people) > KILLS
    check(log, people)
    print(
        f"\n{sum(len(c.acknowledged) for c in people)} votes, {kills} kills in {time.monotonic() - began:.0f} s,"
        f" {sum(c.duplicates for c in people)} acknowledged by a retry"
    )
    before = log.answers.votes()
    log.rebuild()
    assert log.answers.votes() == before
    assert log.database.row("PRAGMA integrity_check") == ("ok",)


def test_the_same_vote_five_times_at_once(log: Log, servers: Servers) -> None:
    servers.start()
    (client,) = clients(log, servers.port, 1)
    client.join()
    with ThreadPoolExecutor(5) as pool:
        for _ in range(10):
            body = client.body(client.until("GET", client.api + "next")["item"]["id"])
            sent = [pool.submit(client.until, "POST", client.api + "events", body) for _ in range(5)]
            receipts = [each.result() for each in sent]
            assert sorted(r["duplicate"] for r in receipts) == [False] + [True] * 4
            (seq,) = {r["seq"] for r in receipts}
            client.acknowledged[body["key"]] = (seq, body["item"], body["choice"])
    check(log, [client])


def test_clients_that_are_slow_or_cut_off(log: Log, servers: Servers) -> None:
    servers.start()
    (client,) = clients(log, servers.port, 1)
    client.join()
    headers = f"POST {client.api}events HTTP/1.1\r\nHost: 127.0.0.1:{servers.port}\r\nCookie: {client.cookie}\r\n"
    slow = [socket.create_connection(("127.0.0.1", servers.port)) for _ in range(30)]
    ended: set[int] = set()
    stop = threading.Event()

    def drip() -> None:
        """A byte of the headers a second, on each."""
        for sent in headers.encode():
            for n, sock in enumerate(slow):
                with contextlib.suppress(BlockingIOError):
                    sock.setblocking(False)
                    try:
                        sock.send(bytes([sent]))
                        if sock.recv(1) == b"":
                            ended.add(n)
                    except (BrokenPipeError, ConnectionResetError):
                        ended.add(n)
            if len(ended) == len(slow) or stop.wait(1):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        for i in range(20):
            started = time.monotonic()
            client.vote()
            # Slow ones hold up nobody. A vote takes some ten milliseconds; a busy machine may need more.
            assert time.monotonic() - started < 5
            body = json.dumps(client.body(client.until("GET", client.api + "next")["item"]["id"])).encode()
            kind = f"Origin: http://127.0.0.1:{servers.port}\r\nContent-Type: application/json\r\n"
            head = f"{headers}{kind}Content-Length: {len(body)}\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", servers.port)) as cut:
                cut.sendall(head + body[: i * len(body) // 20])
        # The server ends those who never come to the point.
        dripping.join(timeout=40)
        assert len(ended) == len(slow)
    finally:
        stop.set()
        dripping.join()
        for sock in slow:
            sock.close()
    client.vote()
    # Nothing of what was cut off; whole votes alone.
    check(log, [client])
