"""The page over HTTP: links, streams, opinions, and what is refused. Leaves out models and the browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.chat import project
from pipeline.chat.exchange import ticket as sign
from pipeline.chat.web.server import TryServer
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import LabelSection
from pipeline.store.store import Store
from tests.helpers.label_client import Client
from tests.helpers.scripted_chat import BASE, POLICY, ScriptedEngine, exchange, talk

OTHERS = (BASE, POLICY.model_copy(update={"id": "q" * 64}))


class Asker(Client):
    """Somebody who talks over HTTP."""

    def begin(self, messages: Any) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        headers = {"Cookie": self.cookie, "Origin": f"http://{self.host}", "Content-Type": "application/json"}
        connection.request("POST", f"{self.home}api/ask", json.dumps({"messages": messages}), headers)
        return connection, connection.getresponse()

    def ask(self, text: str) -> list[dict[str, Any]]:
        """Every line of the answers."""
        connection, answer = self.begin([{"role": "user", "content": text}])
        with contextlib.closing(connection):
            assert answer.status == 200, answer.read()
            return [json.loads(line) for line in answer.read().splitlines()]

    def refused(self, body: Any, path: str = "ask") -> tuple[int, str]:
        answer, text = self._send("POST", f"{self.home}api/{path}", json.dumps(body), "application/json")
        return answer.status, json.loads(text)["error"]


class Served:
    """A page that is being served, and its people."""

    def __init__(self, directory: Path, engine: ScriptedEngine, blind: bool) -> None:
        self.engine = engine
        self.log = project.open_log(Store(directory), "demo")
        for name in ("Ada", "Ben"):
            self.log.people.add(name)
        self.server = TryServer(self.log, LabelSection(port=0), talk(engine, blind=blind))

    def link(self, name: str) -> str:
        return dict(self.server.links())[name]

    def asker(self, name: str = "Ada") -> Asker:
        asker = Asker(self.link(name))
        asker.agree()
        return asker


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with contextlib.ExitStack() as stack:

        def serve(*, blind: bool = False, **engine: Any) -> Served:
            made = Served(tmp_path, ScriptedEngine(**engine), blind)
            stack.callback(made.log.close)
            stack.enter_context(made.server)
            stack.callback(made.engine.held.set)
            return made

        yield serve


def sealed(lines: list[dict[str, Any]]) -> dict[str, Any]:
    assert lines[-1]["kind"] == "over"
    return {key: lines[-1][key] for key in ("exchange", "signature")}


def votes(log: Log) -> list[tuple[str, str]]:
    return [(vote.annotator, vote.choice) for vote in log.answers.votes()]


def test_answers_come_as_they_are_written(served: Any) -> None:
    at = served()
    at.engine.held.clear()
    connection, answer = at.asker().begin([{"role": "user", "content": "cats"}])
    first = json.loads(answer.readline())
    assert (first["kind"], first["place"], first["from"]) == ("text", 0, 0)
    at.engine.held.set()
    lines = [first, *map(json.loads, answer.read().splitlines())]
    connection.close()
    for place, expected in enumerate((" The base on cats.", " The policy, on cats, is brief.")):
        text = ""
        for line in lines:
            if line["kind"] == "text" and line["place"] == place:
                text = text[: line["from"]] + line["text"]
        (done,) = [line for line in lines if line["kind"] == "done" and line["place"] == place]
        assert text == done["text"] == expected
        assert (done["score"], done["ended"]) == ((0.25, False), (-0.75, True))[place]
    assert answer.getheader("Content-Security-Policy", "").startswith("default-src 'none'; script-src 'self'")


def test_an_opinion_is_recorded_and_a_retry_is_not(served: Any) -> None:
    at = served()
    ada = at.asker()
    ticket = sealed(ada.ask("cats"))
    before = [event.type for event in at.log.events.read()]
    assert before == ["consent"]  # nothing is kept of what nobody has an opinion on
    first = ada.post("better", choice="b", ms=10, key="the-same-key", **ticket)
    assert ada.post("better", choice="b", ms=10, key="the-same-key", **ticket) == {**first, "duplicate": True}
    assert first["refs"] == ["demo-base@v000001", "demo-policy@v000001"]
    assert [choice for _, choice in votes(at.log)] == ["b"]


# Mutation caught: a lock around the models that votes take too.
def test_two_people_are_answered_at_once_and_a_vote_waits_for_neither(served: Any) -> None:
    at = served()
    ada, ben = at.asker("Ada"), at.asker("Ben")
    ticket = sealed(ada.ask("cats"))
    at.engine.held.clear()
    streams = [who.begin([{"role": "user", "content": text}]) for who, text in ((ada, "dogs"), (ben, "birds"))]
    for _, answer in streams:
        assert json.loads(answer.readline())["kind"] == "text"
    ada.post("thumb", place=1, choice="like", **ticket)
    assert [choice for _, choice in votes(at.log)] == ["like"]
    at.engine.held.set()
    for (connection, answer), text in zip(streams, ("dogs", "birds"), strict=True):
        done = [line for line in map(json.loads, answer.read().splitlines()) if line["kind"] == "done"]
        assert [line["text"] for line in done] == [f" The base on {text}.", f" The policy, on {text}, is brief."]
        connection.close()


def test_a_dropped_connection_stops_its_question(served: Any) -> None:
    at = served()
    at.engine.held.clear()
    connection, answer = at.asker().begin([{"role": "user", "content": "cats"}])
    answer.readline()
    connection.close()
    answer.close()
    deadline = time.monotonic() + 10
    while not at.engine.questions[0].stopped and time.monotonic() < deadline:
        time.sleep(0.01)
    assert at.engine.questions[0].stopped


def test_a_restarted_server_takes_votes_on_earlier_answers(served: Any) -> None:
    at = served()
    ticket = sealed(at.asker().ask("cats"))
    at.asker().post("thumb", place=0, choice="like", key="before-the-restart", **ticket)
    at.server.__exit__(None, None, None)
    after = served()
    ada = after.asker()
    assert ada.post("thumb", place=0, choice="like", key="before-the-restart", **ticket)["duplicate"]
    ada.post("better", choice="a", **ticket)
    assert [choice for _, choice in votes(after.log)] == ["like", "a"]


def test_blind_names_come_with_the_choice(served: Any) -> None:
    at = served(blind=True)
    ada = at.asker()
    state = ada.get("state")
    assert (state["names"], state["refs"], state["blind"]) == (["A", "B"], None, True)
    for n in range(5):
        lines = ada.ask(f"topic {n}")
        assert lines[0]["place"] == 0  # whose it is shows by no order either
        texts = [line["text"] for line in lines if line["kind"] == "done" and line["place"] == 0]
        ticket = sealed(lines)
        assert "refs" not in ada.post("thumb", place=0, choice="like", **ticket)
        told = ada.post("better", choice="a", **ticket)
        assert told["names"][0] == ("base" if "base" in texts[0] else "policy")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "last message must be the user's"),
        ("hello", "messages, a list"),
        ([{"role": "user", "content": " \n"}], "empty: write something"),
        ([{"role": "assistant", "content": "x"}], "by turns"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "must be the user's"),
        ([{"role": "user", "content": "x", "more": 1}], "a role and a content"),
        ([{"role": "user", "content": 5}], "by turns"),
        ([{"role": "user", "content": "\ud800"}], "not valid Unicode"),
        ([{"role": "user", "content": "a\0"}], "NUL"),
        ([{"role": "user", "content": "x" * 40_000}], "longer than 32 kB"),
        ([{"role": ("user", "assistant")[i % 2], "content": "x"} for i in range(301)], "too long"),
        ([{"role": "user", "content": "x" * 2001}], "this base reads 88 and answers in 40"),
    ],
)
def test_a_message_that_cannot_be_answered_is_refused_in_one_line(served: Any, messages: Any, words: str) -> None:
    ada = served().asker()
    status, error = ada.refused({"messages": messages})
    assert status in (400, 413)
    assert words in error
    assert ada.ask("cats")


def test_without_a_link_another_page_or_consent_nothing_is_answered(served: Any) -> None:
    at = served()
    ada = Asker(at.link("Ada"))
    body = {"messages": [{"role": "user", "content": "cats"}]}
    assert ada.refused(body) == (403, "Agree to the text first.")
    ada.agree()
    stranger, elsewhere = Asker(at.link("Ben")), at.asker("Ada")
    stranger.home = ada.home
    assert stranger.refused(body)[0] == 403
    elsewhere.host, port = "localhost", at.server.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Cookie": ada.cookie, "Content-Type": "application/json", "Origin": "http://evil.example"}
    connection.request("POST", f"{ada.home}api/ask", json.dumps(body), headers)
    assert connection.getresponse().status == 403
    connection.close()
    at.log.people.withdraw(at.log.people.all()[0].id)
    assert ada.refused(body)[0] == 403
    assert at.engine.questions == []


def test_a_forged_ticket_is_refused_and_other_peoples_too(served: Any) -> None:
    at = served()
    ada, ben = at.asker("Ada"), at.asker("Ben")
    ticket = sealed(ada.ask("cats"))
    opinion = {"key": "a-key-of-mine", "type": "better", "choice": "a", "ms": 1, **ticket}
    assert "another person" in ben.refused(opinion, "events")[1]
    forged = {**opinion, "exchange": ticket["exchange"].replace("cats", "dogs")}
    assert "not made here" in ada.refused(forged, "events")[1]
    assert votes(at.log) == []


# -------------------- why this score


def why(asker: Asker, **body: Any) -> dict[str, Any]:
    answer, text = asker._send("POST", f"{asker.home}api/why", json.dumps(body), "application/json")
    assert answer.status == 200, text
    return json.loads(text)


def test_why_a_score_is_asked_by_the_ticket(served: Any) -> None:
    at = served(attributes=True)
    ada = at.asker()
    assert (ada.get("state")["explained"], ada.get("state")["attributed"]) == (True, True)
    ticket = sealed(ada.ask("cats"))
    line = why(ada, place=1, **ticket)
    (asked,) = at.engine.explanations
    assert (asked.prompt, asked.completion, asked.score) == (
        "user: cats", " The policy, on cats, is brief.", -0.75
    )  # fmt: skip
    assert "".join(piece[0] for piece in line["completion"]) == " The policy, on cats, is brief."
    assert line["completion"][0][3] == "up strong"
    assert "It is not why the text got its score" in line["sentences"][0]
    divided = why(ada, place=0, attribution=True, **ticket)
    assert divided["prompt"][0][0] == "user: cats"
    assert "residual" in divided["sentences"][0]
    assert [event.type for event in at.log.events.read()] == ["consent"]


# Mutations caught: texts of the request in place of the ticket's; a score shown before the choice.
def test_why_a_score_is_refused(served: Any) -> None:
    at = served(blind=True)
    ada, ben = at.asker("Ada"), at.asker("Ben")
    ticket = sealed(ada.ask("cats"))
    body = {"place": 0, **ticket}
    assert "is hidden until you have chosen" in ada.refused(body, "why")[1]
    ada.post("better", choice="a", **ticket)
    assert why(ada, **body)["kind"] == "over"
    assert "another person" in ben.refused(body, "why")[1]
    forged = {**body, "exchange": ticket["exchange"].replace("cats", "dogs")}
    assert "not made here" in ada.refused(forged, "why")[1]
    assert ada.refused({**body, "place": 2}, "why")[0] == 400
    assert ada.refused({**body, "text": "mine"}, "why")[0] == 400
    assert Asker(at.link("Ada")).home == ada.home
    changes: Any = (({"scores": (None, 0.5)}, "has none"), ({"answerers": OTHERS}, "is served now"))
    for change, words in changes:
        text, signature = sign(exchange(ada.home.split("/")[2], **change), at.log.people)
        assert words in ada.refused({"exchange": text, "signature": signature, "place": 0}, "why")[1]
    assert len(at.engine.explanations) == 1


def test_a_dropped_connection_stops_its_explanation(served: Any) -> None:
    at = served()
    ada = at.asker()
    body = json.dumps({"place": 0, **sealed(ada.ask("cats"))})
    at.engine.held.clear()
    connection = http.client.HTTPConnection(ada.host, timeout=20)
    headers = {"Cookie": ada.cookie, "Origin": f"http://{ada.host}", "Content-Type": "application/json"}
    connection.request("POST", f"{ada.home}api/why", body, headers)
    connection.getresponse().close()
    connection.close()
    deadline = time.monotonic() + 10
    while not at.engine.explanations[0].stopped and time.monotonic() < deadline:
        time.sleep(0.01)
    assert at.engine.explanations[0].stopped
