"""A server that speaks OpenEnv's HTTP protocol on this machine, with one-turn sums, and that can misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


@dataclass
class Sums:
    """Asks for seed + 1.

    Attributes:
        keeps: the episode from one request to the next; OpenEnv's own server does not.
        change: what it answers instead, from (path, body, the right answer).
        asked: (path, body) of every request.
    """

    keeps: bool = True
    change: Callable[[str, Any, Answer], Answer] | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    seed: int = 0
    episode: str | None = None

    def answer(self, path: str, body: Any) -> Answer:
        self.asked.append((path, body))
        right = self.right(path, body)
        return self.change(path, body, right) if self.change else right

    def right(self, path: str, body: Any) -> Answer:
        if path == "/state":
            return 200, {"episode_id": self.episode if self.keeps else None, "step_count": 0}
        if path == "/reset":
            self.seed, self.episode = body["seed"], body["episode_id"]
            observation = {"task": {"question": f"What is {self.seed} + 1?"}, "item": self.seed}
            return 200, {"observation": observation, "reward": None, "done": False}
        if path != "/step":
            return 404, {"detail": "Not Found"}
        if not body["action"]["answer"]:
            return 422, {"detail": [{"msg": "String should have at least 1 character"}]}
        seed = body["action"].get("item", self.seed if self.keeps else 0)
        right = body["action"]["answer"] == str(seed + 1)
        return 200, {"observation": {}, "reward": float(right), "done": True}


@contextmanager
def served(sums: Sums) -> Iterator[Sums]:
    """Serve until the block ends."""
    server = _started(sums)
    try:
        yield sums
    finally:
        server.shutdown()
        server.server_close()


def served_for_ever(sums: Sums) -> Sums:
    """Serve until the process ends."""
    _started(sums)
    return sums


def _started(sums: Sums) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self.reply(None)

        def reply(self, body: Any) -> None:
            sums.headers.append(dict(self.headers))
            status, content = sums.answer(self.path, body)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    sums.url = f"http://127.0.0.1:{server.server_port}"
    return server
