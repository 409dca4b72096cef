"""People talk and vote over HTTP while the server is killed again and again. Slow.

Every acknowledged vote is in the log once, and the next server takes votes on the answers of a dead one. It leaves
out models and the browser.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.chat.project import open_log
from pipeline.store.store import Store
from tests.e2e.test_votes_survive import Servers
from tests.helpers.label_client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PEOPLE, KILLS, VOTES = 8, 30, 4

SERVERS = """
import os, sys
from pathlib import Path
from pipeline.chat.project import open_log
from pipeline.chat.web.server import TryServer
from pipeline.labelling.settings import LabelSection
from pipeline.store.store import Store
from tests.helpers.scripted_chat import ScriptedEngine, talk
directory, port = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        log = open_log(Store(directory), "demo")
        with TryServer(log, LabelSection(port=port), talk(ScriptedEngine())) as page:
            os.write(1, f"{os.getpid()}\\n".encode())
            page.wait(lambda: False)
        os._exit(0)
    os.waitpid(pid, 0)
"""


class Speaker(threading.Thread):
    """Asks and votes until told to stop, and sends a vote again, with its key, until it is acknowledged."""

    def __init__(self, number: int, port: int, who: str, cookie: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number, self.port, self.who, self.cookie, self.over = number, port, who, cookie, over
        self.acknowledged: dict[str, int] = {}
        self.last_vote: dict[str, str] = {}

    def run(self) -> None:
        turn = 0
        while not self.over.is_set():
            lines = self.tried("ask", {"messages": [{"role": "user", "content": f"{self.number} asks {turn}"}]})
            if lines is None or lines[-1]["kind"] != "over":
                continue
            ticket = {key: lines[-1][key] for key in ("exchange", "signature")}
            for choice in ("a", "b")[: 1 + turn % 2]:
                key = f"speaker-{self.number}-{turn}-{choice}"
                self.vote({"key": key, "type": "better", "choice": choice, "ms": 1, **ticket})
                self.last_vote[f"{self.number} asks {turn}"] = choice
            turn += 1

    def vote(self, opinion: dict[str, Any]) -> None:
        while True:
            answer = self.tried("events", opinion)
            if answer is not None:
                self.acknowledged[opinion["key"]] = answer[0]["seq"]
                return
            time.sleep(0.02)

    def tried(self, path: str, body: Any) -> list[dict[str, Any]] | None:
        """The lines of an answer; None where the connection broke or the server was too busy."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {
            "Cookie": self.cookie,
            "Origin": f"http://127.0.0.1:{self.port}",
            "Content-Type": "application/json",
        }
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            connection.request("POST", f"/a/{self.who}/api/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status in (200, 429), text
            return [json.loads(line) for line in text.splitlines()] if answer.status == 200 else None
        return None


def test_no_acknowledged_vote_is_lost(tmp_path: Path) -> None:
    store, over, pace = Store(tmp_path), threading.Event(), random.Random(0)
    with contextlib.closing(open_log(store, "demo")) as log:
        people = [log.people.add(f"person {i}") for i in range(PEOPLE)]
    servers = Servers(tmp_path, SERVERS)
    servers.start()
    speakers = []
    for number, person in enumerate(people):
        cookie = joined(servers.port, person.token)
        speakers.append(Speaker(number, servers.port, person.id, cookie, over))
    for speaker in speakers:
        speaker.start()
    for _ in range(KILLS):
        # In every life some votes are acknowledged, however slow the machine is, and then it ends at any moment.
        enough = sum(len(speaker.acknowledged) for speaker in speakers) + VOTES
        while sum(len(speaker.acknowledged) for speaker in speakers) < enough:
            assert all(speaker.is_alive() for speaker in speakers)
            time.sleep(0.01)
        time.sleep(pace.uniform(0, 0.5))
        servers.kill()
        servers.start()
    over.set()
    for speaker in speakers:
        speaker.join(60)
        assert not speaker.is_alive()
    servers.end()
    with contextlib.closing(open_log(store, "demo")) as log:
        events = {event.key: event.seq for event in log.events.read()}
        acknowledged = {key: seq for speaker in speakers for key, seq in speaker.acknowledged.items()}
        print(f"{KILLS} kills, {len(acknowledged)} acknowledged votes")
        assert len(acknowledged) >= KILLS * VOTES
        assert acknowledged.items() <= events.items()
        current = {log.batches.item(vote.item).prompt: vote.choice for vote in log.answers.votes()}  # pyright: ignore
        for speaker in speakers:
            for subject, choice in speaker.last_vote.items():
                assert current[f"user: {subject}"] == choice


def joined(port: int, token: str) -> str:
    """The cookie of somebody who followed their link and agreed."""
    client = Client(f"http://127.0.0.1:{port}/join/{token}")
    client.agree()
    return client.cookie
