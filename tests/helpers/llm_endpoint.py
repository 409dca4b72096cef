"""A server that answers as a language model's does, on this machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


def says(text: str | None, **more: Any) -> tuple[int, Any]:
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    return 200, {"choices": [{"message": message, "finish_reason": "stop", **more}]}


@dataclass
class Endpoint:
    """What the double was asked, and what it answers."""

    reply: Callable[[dict[str, Any], int], Reply]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    at_once: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)


@contextmanager
def endpoint(reply: Callable[[dict[str, Any], int], Reply]) -> Iterator[Endpoint]:
    double = Endpoint(reply)

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with double.lock:
                double.bodies.append(body)
                double.headers.append(dict(self.headers) | {"path": self.path})
                number = len(double.bodies) - 1
                double.at_once += 1
                double.most_at_once = max(double.most_at_once, double.at_once)
            status, content, *more = double.reply(body, number)
            with double.lock:
                double.at_once -= 1
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client that waited no longer
                self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    double.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def longer_wins(body: dict[str, Any], _: int) -> Reply:
    """Reads the two completions out of the question, as a model would."""
    text = body["messages"][1]["content"]
    first, second = (
        text.split(f"--- COMPLETION {x} ")[1].split(" ---\n", 1)[1].split("\n--- END")[0] for x in "AB"
    )
    return says("TIE" if len(first) == len(second) else "A" if len(first) > len(second) else "B")
