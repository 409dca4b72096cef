"""What is refused, how, and what is said of it: on every route, with every header, no content on stderr."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from pipeline.labelling.items import Item
from pipeline.labelling.log.queue import Queue
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.app import Consent, build_app
from pipeline.labelling.web.request_checks import BODY_BYTES, Rate, Refusal, host_allowed, read_body
from tests.unit.labelling.helpers import open_log

BASE = "http://127.0.0.1:8765"
SECRET = "a-private-word"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Place:
    """A served project with one person, who agreed, and an operator."""

    def __init__(self, directory: Path) -> None:
        items = [Item(f"{SECRET} {i}", (f"{SECRET} x{i}", f"{SECRET} y{i}")) for i in range(5)]
        self.log = open_log(directory, items, whole=True)
        consent = Consent("text", "v", "c" * 64)
        settings = LabelSection(ask=["strength", "tags", "note", "edit"])
        self.app = build_app(
            self.log, settings, title="T", guidelines=None, consent=consent, publish=None,
            hosts=["127.0.0.1", "localhost"],
        )  # fmt: skip
        self.client = TestClient(self.app, base_url=BASE, follow_redirects=False)
        self.person = self.log.people.add(SECRET)
        self.client.get(f"/join/{self.person.token}")
        self.operator = TestClient(self.app, base_url=BASE, follow_redirects=False)
        self.operator.get(f"/join/{self.log.people.operator_token}")
        self.events = f"/a/{self.person.id}/api/events"
        agreed = {"key": "agree-agree", "type": "consent", "version": "v", "sha256": "c" * 64}
        assert self.post(agreed).status_code == 200
        self.item = self.client.get(f"/a/{self.person.id}/api/next").json()["item"]["id"]

    def post(self, body: Any, path: str = "", **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"origin": BASE, "content-type": "application/json", **headers}
        return self.client.post(
            path or self.events, content=content, headers={k: v for k, v in sent.items() if v != ""}
        )

    def vote(self, **changes: Any) -> dict[str, Any]:
        body = {"key": "vote-vote", "type": "vote", "item": self.item, "choice": "a", "ms": 10} | changes
        return {k: v for k, v in body.items() if v is not ...}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """For tests after which it is as it was."""
    place = Place(tmp_path_factory.mktemp("still"))
    place.app.state.site.rate = Rate(1e9)
    return place


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status, (answer.status_code, answer.text)
    told = answer.json()["error"]
    assert told
    assert "\n" not in told
    return told


# Hosts and origins


@pytest.mark.parametrize(
    "host, allowed",
    [
        ("127.0.0.1:8765", True),
        ("127.0.0.1", True),
        ("LOCALHOST:9000", True),  # the far end of a tunnel
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:8765", False),
        ("notlocalhost", False),
        ("evil.example#127.0.0.1", False),
        ("user@127.0.0.1", False),
        ("127.0.0.1:8765:1", False),
        ("", False),
        ("10.0.0.5:8765", False),
        ("0.0.0.0", False),
    ],
)
def test_hosts_of_a_page_on_this_machine(host, allowed):
    assert host_allowed(host, ("127.0.0.1", "localhost")) is allowed


def test_hosts_of_a_page_on_every_address():
    names = ("0.0.0.0", "127.0.0.1", "localhost", "box")
    for host in ("10.0.0.5:8765", "[fe80::1]:8765", "box:80", "BOX", "localhost"):
        assert host_allowed(host, names), host
    for host in ("evil.example", "10.0.0.5.evil.example", "1e1.example", "[fe80::1", "box.evil.example"):
        assert not host_allowed(host, names), host


def test_a_wrong_host_is_served_nothing(still):
    for path in ("/", "/operator/", f"/a/{still.person.id}/api/next", "/static/operator.css"):
        answer = still.client.get(path, headers={"host": "evil.example:8765"})
        assert answer.status_code == 421, path
        assert SECRET not in answer.text


@pytest.mark.parametrize(
    "origin",
    [
        "",  # none at all
        "null",
        "http://evil.example",
        "https://127.0.0.1:8765",
        "http://127.0.0.1",
        "http://127.0.0.1:8766",
        "http://localhost:8765",  # also ours, but another site to a browser
        "http://127.0.0.1:8765/",
        "http://127.0.0.1:8765 http://evil.example",
    ],
)
def test_a_change_needs_the_own_origin(still, origin):
    refused(still.post(still.vote(), origin=origin), 403)
    forms = {"annotators": "name=x", "withdraw": f"annotator={still.person.id}", "publish": "", "adjudicate": ""}
    for name, form in forms.items():
        headers = {"content-type": "application/x-www-form-urlencoded"} | ({"origin": origin} if origin else {})
        answer = still.operator.post(f"/operator/{name}", content=form, headers=headers)
        assert answer.status_code == 403, name
    assert [p.active for p in still.log.people.all()] == [True]
    assert not still.log.answers.votes()


def test_the_origin_goes_with_the_host_that_was_asked(place):
    body = json.dumps(place.vote())
    headers = {"host": "localhost:9000", "origin": "http://localhost:9000", "content-type": "application/json"}
    cookie = "; ".join(f"{c.name}={c.value}" for c in place.client.cookies.jar)
    answer = place.client.post(place.events, content=body, headers={**headers, "cookie": cookie})
    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(still, method):
    assert still.client.request(method, still.events, headers={"origin": BASE}).status_code == 405


def test_a_post_where_there_is_only_a_get(still):
    assert still.client.post("/operator/export", headers={"origin": BASE}).status_code == 405
    assert still.client.get("/operator/withdraw").status_code == 405


# Bodies


@pytest.mark.parametrize(
    "media", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
def test_only_json_is_read(still, media):
    # A form of another site can send exactly these without asking first.
    headers = {"origin": BASE} | ({"content-type": media} if media else {})
    answer = still.client.post(still.events, content=json.dumps(still.vote()).encode(), headers=headers)
    refused(answer, 415)


def test_json_with_a_charset_is_json(place):
    sent = place.post(place.vote(), **{"content-type": "Application/JSON; charset=utf-8"})
    assert sent.status_code == 200


def test_a_long_body_is_refused_by_its_length(still):
    refused(still.post(b" " * (BODY_BYTES + 1)), 413)
    refused(still.post(b"{}", **{"content-length": "99999999999"}), 413)


def test_a_long_body_without_a_length_is_refused_on_the_way(still):
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 1024

    headers = {"origin": BASE, "content-type": "application/json"}
    refused(still.client.post(still.events, content=chunks(), headers=headers), 413)


def test_reading_stops_at_the_limit():
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    with pytest.raises(Refusal) as refusal:
        asyncio.run(read_body(_request(receive), "application/json", limit=10_000))
    assert refusal.value.status == 413
    assert taken == 11


def test_a_slow_body_is_given_up():
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    with pytest.raises(Refusal) as refusal:
        asyncio.run(read_body(_request(receive), "application/json", seconds=0.1))
    assert refusal.value.status == 408


def _request(receive: Any) -> Request:
    headers = [(b"content-type", b"application/json")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"key": "\xff"}',
        b'{"ms": NaN}',
        b'{"ms": Infinity}',
        b"{'key': 1}",
        b'{"type": "undo", "type": "undo", "key": "12345678"}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        b'{"ms": ' + b"9" * 10_000 + b"}",
        b'{"key": "12345678", "type": "undo"} x',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_object_is_refused(still, body):
    refused(still.post(body), 400)


def test_only_utf_8_is_read(still):
    body = json.dumps(still.vote())
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        refused(still.post(body.encode(encoding)), 400)


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"order": [0, 1]},
        {"round": 1},
        {"annotator": "operator"},
        {"choice": ...},
        {"ms": ...},
        {"item": ...},
        {"type": ...},
        {"key": ...},
        {"type": "adjudicate"},
        {"type": "forget"},
        {"type": ["vote"]},
        {"type": None},
        {"key": "short"},
        {"key": "x" * 65},
        {"key": "with space"},
        {"key": 12345678},
        {"choice": "A"},
        {"choice": "c"},
        {"choice": "0>1"},
        {"choice": 1},
        {"choice": None},
        {"choice": ["a"]},
        {"ms": -1},
        {"ms": 1.5},
        {"ms": "10"},
        {"ms": True},
        {"ms": None},
        {"strength": "very"},
        {"strength": 1},
        {"tags": "clear"},
        {"tags": ["unheard of"]},
        {"tags": [1]},
        {"tags": {"clear": 1}},
        {"note": 1},
        {"note": ["x"]},
        {"note": "a\0b"},
        {"note": "\ud800"},
        {"item": None},
        {"item": 3},
        {"item": "\ud800"},
        {"item": {"a": {"b": {"c": {}}}}},
    ],
    ids=str,
)
def test_a_malformed_vote_is_refused(still, changes):
    refused(still.post(still.vote(**changes)), 400)
    assert not still.log.answers.votes()


@pytest.mark.parametrize(
    "body",
    [
        {"type": "skip", "reason": "because"},
        {"type": "skip", "reason": "I cannot tell", "ms": None},
        {"type": "skip", "reason": None, "ms": 1},
        {"type": "skip", "reason": "I cannot tell", "ms": 1, "choice": "a"},
        {"type": "flag", "on": 1, "reason": "harmful"},
        {"type": "flag", "on": "true", "reason": "harmful"},
        {"type": "flag", "on": True},
        {"type": "flag", "on": True, "reason": "dull"},
        {"type": "flag", "reason": "harmful"},
        {"type": "edit", "completion": 2, "text": "x"},
        {"type": "edit", "completion": -1, "text": "x"},
        {"type": "edit", "completion": True, "text": "x"},
        {"type": "edit", "completion": "0", "text": "x"},
        {"type": "edit", "completion": 0, "text": " \n"},
        {"type": "edit", "completion": 0, "text": None},
        {"type": "edit", "completion": 0},
        {"type": "undo", "undoes": 1},
        {"type": "undo"},  # the item given below is one key too many
    ],
    ids=str,
)
def test_other_malformed_events_are_refused(still, body):
    before = len(list(still.log.events.read()))
    refused(still.post({"key": "12345678", "item": still.item, **body}), 400)
    assert len(list(still.log.events.read())) == before


def test_what_is_not_asked_for_is_refused(tmp_path):
    place = Place(tmp_path)
    place.app.state.site.settings.ask.clear()
    for changes in ({"strength": "much"}, {"tags": ["clear"]}, {"note": "x"}):
        refused(place.post(place.vote(**changes)), 400)
    refused(place.post({"key": "12345678", "type": "edit", "item": place.item, "completion": 0, "text": "x"}), 400)
    assert place.post(place.vote(strength=None, tags=[], note="")).status_code == 200


def test_sizes_of_notes_and_edits(place):
    refused(place.post(place.vote(note="ü" * 5121)), 413)  # 2 bytes each: seen failing with len(text)
    refused(
        place.post({"key": "12345678", "type": "edit", "item": place.item, "completion": 0, "text": "x" * 102401}),
        413,
    )
    assert place.post(place.vote(note="ü" * 5120)).status_code == 200


def test_an_unknown_item_is_a_404(still):
    refused(still.post(still.vote(item="f" * 64)), 404)


def test_a_day_at_most_is_spent(place):
    assert place.post(place.vote(ms=10**9)).status_code == 200
    assert place.log.answers.votes()[0].ms == 24 * 3600 * 1000


# Rates


def test_a_bucket_of_twenty():
    now = [100.0]
    rate = Rate(20, clock=lambda: now[0])
    for _ in range(20):
        rate.check("p")
    for _ in range(3):
        with pytest.raises(Refusal):
            rate.check("p")
    rate.check("q")
    now[0] += 0.0625  # one and a quarter
    rate.check("p")
    with pytest.raises(Refusal):
        rate.check("p")
    now[0] += 1000
    for _ in range(20):
        rate.check("p")
    with pytest.raises(Refusal):
        rate.check("p")


def test_too_many_events_are_refused(place):
    place.app.state.site.rate = Rate(5, clock=lambda: 0.0)
    found = [place.post({"key": f"undo-{i:04d}", "type": "undo"}).status_code for i in range(8)]
    assert found == [409] * 5 + [429] * 3


# Who may do what


def test_the_operator_pages_need_the_operator(still):
    form = {"content-type": "application/x-www-form-urlencoded", "origin": BASE}
    annotators = dict(still.client.cookies)
    for client in (still.client, TestClient(still.app, base_url=BASE)):
        for path in ("/operator/", "/operator/export?format=csv", "/operator/export?format=jsonl"):
            assert client.get(path).status_code == 403, path
        for name in ("annotators", "withdraw", "adjudicate", "publish"):
            assert client.post(f"/operator/{name}", content="name=x", headers=form).status_code == 403, name
    # The annotator's token under the operator's name.
    thief = TestClient(still.app, base_url=BASE)
    thief.cookies.set(still.app.state.site.cookie("operator"), next(iter(annotators.values())))
    assert thief.get("/operator/").status_code == 403
    assert len(still.log.people.all()) == 1


def test_the_operator_cannot_answer_for_somebody(still):
    body = json.dumps(still.vote())
    headers = {"origin": BASE, "content-type": "application/json"}
    assert still.operator.post(still.events, content=body, headers=headers).status_code == 403


# What every answer carries


def test_headers_on_every_answer(place):
    who = f"/a/{place.person.id}"
    answers = [
        place.client.get(path)
        for path in (
            "/", "/favicon.ico", "/nothing", "/join/x", f"/join/{place.person.token}", f"{who}/",
            f"{who}/api/state", f"{who}/api/next", f"{who}/api/nothing", "/a/p_0/", "/operator/", "/operator",
            "/static/operator.css", "/static/none.css", "/static/../app.py", "/static/%2e%2e/app.py",
            "/static/..%2fapp.py",
        )
    ]  # fmt: skip
    answers += [place.operator.get("/operator/"), place.operator.get("/operator/export?format=csv")]
    answers += [place.client.get("/", headers={"host": "x"}), place.post(b"{"), place.post(place.vote())]
    answers += [place.client.put("/"), place.client.head("/"), place.post(b"{}", content_type="x", origin="null")]
    for answer in answers:
        where = (answer.request.method, str(answer.request.url), answer.status_code)
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value], (where, name)
        file = answer.status_code == 200 and "/static/" in str(answer.request.url)
        assert answer.headers["cache-control"] == ("no-cache" if file else "no-store"), where
        assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin"), where
    joined = place.client.get(f"/join/{place.person.token}")
    assert joined.headers["referrer-policy"] == "no-referrer"


def test_only_the_files_meant_are_served(still):
    for path in ("/static/", "/static", "/static/../site.py", "/static/..%2f..%2fsite.py", "/static/%00"):
        answer = still.client.get(path)
        assert answer.status_code in (307, 404), path
        assert "class Site" not in answer.text


def test_tokens_are_in_no_later_address(place):
    tokens = (place.person.token, place.log.people.operator_token)
    joined = place.client.get(f"/join/{place.person.token}")
    shown = place.client.get(joined.headers["location"])
    added = place.operator.post(
        "/operator/annotators",
        content="name=x",
        headers={"origin": BASE, "content-type": "application/x-www-form-urlencoded"},
    )
    for answer in (joined, added):
        assert not re.search("[0-9a-f]{32}", answer.headers["location"])
    assert not any(token in shown.text for token in tokens)


def test_stderr_has_one_line_per_refusal_and_no_content(place, capfd):
    hidden = "words-of-the-client"
    token = place.person.token
    place.client.get(f"/join/{token[::-1]}")
    place.client.get(f"/join/{hidden}")
    place.client.get(f"/nothing/{token}?x={hidden}")
    place.client.get("/a%0a[label] forged/")
    place.post(place.vote(choice=hidden))
    place.post(place.vote(**{hidden: 1}))
    place.post(place.vote(tags=[hidden]))
    place.post(place.vote(note=hidden, item="f" * 64))
    place.post(f'{{"{hidden}"'.encode())
    place.post(place.vote(), origin=f"http://{hidden}")
    place.client.get("/", headers={"host": hidden})
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 11
    for line in lines:
        assert re.fullmatch(
            r"\[label\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (GET|POST) /\S*( forged/)? 4\d\d .+", line
        ), line
        for secret in (hidden, SECRET, token, token[::-1], place.log.people.operator_token, "Cookie"):
            assert secret not in line
    # What went well says nothing.
    place.post(place.vote(note=hidden))
    assert capfd.readouterr() == ("", "")


def test_a_bug_shows_where_and_not_what(place, capfd, monkeypatch):
    def broken(self: Queue, annotator: str, plan: Any) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(Queue, "next", broken)
    answer = place.client.get(f"/a/{place.person.id}/api/next")
    assert (answer.status_code, SECRET in answer.text) == (500, False)
    assert answer.headers["x-content-type-options"] == "nosniff"
    told = capfd.readouterr().err
    assert "KeyError" in told
    assert "in broken" in told
    assert SECRET not in told


# A key held down repeats about thirty times a second; a page that was offline sends what it kept, one by one.
# Mutation caught: another number of events in a second.
def test_twenty_answers_in_a_second_and_no_more() -> None:
    now = [0.0]
    rate = Rate(clock=lambda: now[0])
    for _ in range(20):
        rate.check("p_1")
    with pytest.raises(Refusal, match="More than 20 answers in a second"):
        rate.check("p_1")
    now[0] = 0.5
    for _ in range(10):
        rate.check("p_1")
    with pytest.raises(Refusal) as caught:
        rate.check("p_1")
    assert caught.value.status == 429
