"""Somebody who labels over HTTP, without a browser."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from typing import Any
from urllib.parse import urlsplit


class Client:
    """Follows a person's link and answers.

    Args:
        link: ``http://127.0.0.1:PORT/join/TOKEN``.
    """

    def __init__(self, link: str) -> None:
        self.host = urlsplit(link).netloc
        answer, _ = self._send("GET", urlsplit(link).path)
        assert answer.status == 303, answer.status
        self.home = answer.headers["Location"]
        self.cookie = answer.headers["Set-Cookie"].split(";")[0]

    def _send(self, method: str, path: str, body: str | None = None, kind: str = "") -> tuple[Any, bytes]:
        headers = {"Cookie": getattr(self, "cookie", "")}
        if body is not None:
            headers |= {"Origin": f"http://{self.host}", "Content-Type": kind}
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer, body = self._send("GET", f"{self.home}api/{path}")
        assert answer.status == 200, body
        return json.loads(body)

    def post(self, type: str, **fields: Any) -> Any:
        """An event; a new key unless one is given."""
        event = {"key": uuid.uuid4().hex, "type": type, **fields}
        while True:
            answer, body = self._send("POST", f"{self.home}api/events", json.dumps(event), "application/json")
            if answer.status != 429:  # faster than a person may be
                break
            time.sleep(0.1)
        assert answer.status == 200, body
        return json.loads(body)

    def form(self, path: str, **fields: str) -> int:
        """An operator's button; the status."""
        from urllib.parse import urlencode

        kind = "application/x-www-form-urlencoded"
        return self._send("POST", f"/operator/{path}", urlencode(fields), kind)[0].status

    def agree(self) -> None:
        """Agree to the consent text."""
        wanted = self.get("state")["consent"]
        if wanted["needed"]:
            self.post("consent", version=wanted["version"], sha256=wanted["sha256"])

    def label(self, choose: Any, most: int = 10**6) -> int:
        """Answer until nothing is left; returns how many.

        Args:
            choose: gets an item as the page shows it, gives the event's fields.
        """
        self.agree()
        answered, found = 0, self.get("next")
        while answered < most and (found["item"] is not None or found["why"] == "waiting"):
            if found["item"] is None:
                time.sleep(0.05)
                found = self.get("next")
                continue
            found = self.post(**{"item": found["item"]["id"], "ms": 2000, **choose(found["item"])})["next"]
            answered += 1
        return answered
