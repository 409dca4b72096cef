"""Two labelling servers share one PostgreSQL behind a proxy; servers and database are killed meanwhile. Slow.

Every acknowledged vote is in the log once, as it was sent. The two hosts are two data directories on this machine.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log
from tests.e2e.test_votes_survive import KILLS, Servers, check, clients, killed_while_voting
from tests.helpers.postgres_server import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DATABASE_STOPS = 5


class Proxy:
    """Passes each connection to the servers in turn; to the next one where a server does not answer."""

    def __init__(self, ports: list[int]) -> None:
        self._ports, self._turn = ports, itertools.count()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self.passed = dict.fromkeys(ports, 0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._pass, args=(client, next(self._turn)), daemon=True).start()

    def _pass(self, client: socket.socket, turn: int) -> None:
        with client:
            for port in (self._ports[turn % 2], self._ports[(turn + 1) % 2]):
                try:
                    server = socket.create_connection(("127.0.0.1", port), timeout=10)
                except OSError:
                    continue
                self.passed[port] += 1
                with server:
                    back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                    back.start()
                    _copy(client, server)
                    back.join(timeout=30)
                return

    def close(self) -> None:
        self._socket.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # the other side is gone
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def hosts(postgres: PostgresServer, tmp_path: Path) -> Iterator[list[Log]]:
    logs = [Log(tmp_path / name / "reviews-labels", postgres.url) for name in ("one", "two")]
    logs[0].batches.open("b", {})
    logs[0].batches.add_items(Item(f"prompt {i}", (f"x{i}", f"y{i}")) for i in range(20_000))
    logs[0].batches.finish()
    yield logs
    for log in logs:
        log.close()


# Seen failing with: a receipt before COMMIT.
def test_servers_and_database_killed(hosts: list[Log], postgres: PostgresServer) -> None:
    servers = [Servers(log.directory) for log in hosts]
    proxy = Proxy([each.port for each in servers])
    people = clients(hosts[0], proxy.port)
    stops = 0

    def kill(kills: int, pace: random.Random) -> Callable[[], None]:
        nonlocal stops
        victim = pace.choice(servers)
        victim.kill()
        if kills % (KILLS // DATABASE_STOPS) == 7:
            postgres.stop_at_once()
            stops += 1
            time.sleep(pace.uniform(0, 0.2))
            postgres.start()
        return victim.start

    for each in servers:
        each.start()
    began = time.monotonic()
    kills = killed_while_voting(people, kill, seconds=300, patience=60)
    try:
        assert (kills, stops) == (KILLS, DATABASE_STOPS)
        assert sum(c.retries for c in people) > KILLS / 2
        assert min(proxy.passed.values()) > 100  # both served
        check(hosts[1], people)
        print(
            f"\n{sum(len(c.acknowledged) for c in people)} votes, {kills} kills of a server and {stops} stops of"
            f" the database in {time.monotonic() - began:.0f} s,"
            f" {sum(c.duplicates for c in people)} acknowledged by a retry, {proxy.passed}"
        )
        before = hosts[0].answers.votes()
        hosts[0].rebuild()
        assert hosts[0].answers.votes() == before
    finally:
        proxy.close()
        for each in servers:
            each.end()
