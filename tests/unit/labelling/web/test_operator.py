"""The operator's page: what it shows, that it shows text as text, and what its forms do."""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from pipeline.base.errors import DataError
from pipeline.labelling import wording
from pipeline.labelling.agreement import Alpha
from pipeline.labelling.items import Item
from pipeline.labelling.log.database import LogFull
from pipeline.labelling.log.people import People
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web import context, dashboard
from pipeline.labelling.web.app import Consent, build_app
from pipeline.statistics.intervals import Estimate
from tests.unit.labelling.helpers import agree, new_event, open_log, pairs, vote

BASE = "http://127.0.0.1:8765"
FORM = {"content-type": "application/x-www-form-urlencoded", "origin": BASE}
KEYS = (f"key-{n:08d}" for n in itertools.count())
NASTY = "</div></textarea><script>alert(1)</script><img src=x onerror=alert(1)> \"' & \u202eabc\u2066 \u0001\ud800"


class Reader(HTMLParser):
    """Elements with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.values: list[str] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.text += " "
        self.attributes |= {name for name, _ in attrs}
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


class Desk:
    """A served project with an operator who has joined."""

    def __init__(self, directory: Path, items: list[Item], publish: Any = None, **settings: Any) -> None:
        self.log = open_log(directory, items)
        self.log.batches.open("b", {"config": "configs/x.yaml"})
        self.items = list(self.log.batches.items())
        self.consent = Consent("Agree <b>here</b>.", "v2", "c" * 64)
        self.app = build_app(
            self.log, LabelSection(**settings), title="Reviews", guidelines="Be <i>fair</i>.",
            consent=self.consent, publish=publish, hosts=["127.0.0.1"],
        )  # fmt: skip
        self.client = TestClient(self.app, base_url=BASE)
        assert self.client.get(f"/join/{self.log.people.operator_token}").status_code == 200

    def person(self, name: str, consent: bool = True) -> str:
        person = self.log.people.add(name).id
        if consent:
            agree(self.log, person, self.consent.sha256)
        return person

    def vote(self, who: str, item: Item, choice: str, ms: int = 3000) -> None:
        self.log.events.append(vote(who, item, choice, ms=ms))

    def flag(self, who: str, item: Item, reason: str = "harmful", note: str = "") -> None:
        self.log.events.append(new_event("flag", who, item, on=True, reason=reason, note=note))

    def page(self, path: str = "/operator/") -> Reader:
        self.app.state.site.state._next = 0.0  # as if the last statistics were old
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return Reader(answer.text)

    def send(self, to: str, **form: str) -> Reader:
        answer = self.client.post(f"/operator/{to}", content=urlencode(form), headers=FORM)
        assert answer.status_code == 200, answer.text
        assert answer.history[0].status_code == 303
        return Reader(answer.text)


def test_an_empty_project_has_a_page(tmp_path):
    text = Desk(tmp_path, []).page().text
    assert "Nobody has a link yet" in text
    assert "no item has two" in text
    assert "Nothing is flagged" in text


def test_the_rows_announced_are_those_that_publishing_writes(tmp_path):
    desk = Desk(tmp_path, pairs(6))
    one = desk.person("Reader One")
    for item in desk.items:
        desk.vote(one, item, "a")
    assert "preference pairs 6" in desk.page().text
    desk.flag(one, desk.items[1], "personal data")
    desk.flag(one, desk.items[2], "harmful")
    published = publishable_rows(desk.log, LabelSection())
    assert sum(map(len, published.preferences.values())) == 5
    text = desk.page().text
    assert "preference pairs 5" in text
    assert "items left out: flagged as personal data 1" in text


def test_progress_people_and_choices(tmp_path):
    desk = Desk(tmp_path, pairs(4), votes=2, too_fast_ms=1500)
    one, two = desk.person("Reader One"), desk.person("Reader Two", consent=False)
    for item, (a, b) in zip(desk.items, [("a", "a"), ("b", "b"), ("tie", "both_bad")], strict=False):
        desk.vote(one, item, a, ms=1000)
        desk.vote(two, item, b, ms=20_000)
    desk.log.events.append(new_event("skip", two, desk.items[3], reason="not my subject", ms=10))
    text = desk.page().text
    assert "3 of 4 items done" in text
    assert "still being sampled: 4 items so far" in text
    assert f"Reader One {one[:8]} 3 1 0 0 0.67" in text
    assert f"Reader Two {two[:8]} 3 0 1 0 0.67" in text
    assert "100 % 1.0 s" in text
    assert "0 % 20 s" in text
    assert "Pairs of answers that agree 0.67 two people, same item; 3 pairs" in text
    assert "one is better 4 67 % equally good 1 17 % both bad 1 17 %" in text
    assert "not my subject 1" in text
    assert "agreed to by 1" in text
    desk.log.batches.finish()
    assert "still being sampled" not in desk.page().text


def test_a_lean_to_the_first_place_is_said(tmp_path):
    desk = Desk(tmp_path, pairs(40))
    one = desk.person("one")
    for item in desk.items:
        desk.vote(one, item, "a")
    page = desk.page()
    assert "people prefer the first place" in page.text
    assert "one is better 40 100 %" in page.text
    assert "both bad 0" not in page.text
    assert "n odd" in page.values


def test_disputed_items_are_shown_whole_and_settled(tmp_path):
    desk = Desk(tmp_path, pairs(3), votes=2)
    one, two = desk.person("one"), desk.person("two")
    for item, choices in zip(desk.items, [("a", "b"), ("a", "a"), ("tie", "b")], strict=True):
        desk.vote(one, item, choices[0])
        desk.vote(two, item, choices[1])
    text = desk.page().text
    assert "Disputed 2" in text
    assert "prompt 0 A one 0 B two 0 A is better 1 vote B is better 1 vote equally good both bad" in text
    assert "prompt 1" not in text
    told = desk.send("adjudicate", key="decide-1", item=desk.items[0].id, choice="b")
    assert "Settled: B is better." in told.text
    assert "Disputed 1" in told.text
    assert "prompt 0" not in told.text
    assert desk.log.answers.adjudications() == {desk.items[0].id: "b"}
    # The same form sent twice: seen failing with a key drawn per request.
    assert "Settled" in desk.send("adjudicate", key="decide-1", item=desk.items[0].id, choice="b").text
    assert sum(e.type == "adjudicate" for e in desk.log.events.read()) == 1


@pytest.mark.parametrize("choice", ["c", "", "0>1", "<b>"])
def test_a_wrong_decision_is_told_in_one_line(tmp_path, choice):
    desk = Desk(tmp_path, pairs(1))
    told = desk.send("adjudicate", key="decide-1", item=desk.items[0].id, choice=choice)
    assert "is not one of a, b, tie, both_bad" in told.text
    assert "there is no such item" in desk.send("adjudicate", key="decide-2", item="f" * 64, choice="a").text
    assert not desk.log.answers.adjudications()


def test_rankings_are_settled_in_letters(tmp_path):
    item = Item("p", ("w", "x", "y"), "ranking")
    desk = Desk(tmp_path, [item], mode="ranking", votes=2)
    desk.vote(desk.person("one"), item, "2>0=1")
    desk.vote(desk.person("two"), item, "0>1>2")
    assert "C > A = B 1 vote" in desk.page().text
    assert "Settled: B > A = C." in desk.send("adjudicate", key="decide-1", item=item.id, choice=" b> a =C").text
    assert desk.log.answers.adjudications() == {item.id: "1>0=2"}
    for wrong in ("A > B", "A > B > C > D", "1>0=2", "A B C", "drop table"):
        assert "Settled" not in desk.send("adjudicate", key=next(KEYS), item=item.id, choice=wrong).text
    assert desk.log.answers.adjudications() == {item.id: "1>0=2"}


def test_flags_are_listed_with_their_text(tmp_path):
    desk = Desk(tmp_path, pairs(3))
    one, two = desk.person("Reader One"), desk.person("Reader Two")
    desk.flag(one, desk.items[1], "harmful", "so rude")
    desk.flag(two, desk.items[1], "personal data")
    text = desk.page().text
    assert "harmful 1 personal data 1" in text
    assert "prompt 1 harmful by Reader One: so rude personal data by Reader Two" in text
    assert "one 1" in text
    assert "prompt 0" not in text


def test_people_are_added_and_withdrawn(tmp_path):
    desk = Desk(tmp_path, pairs(1))
    page = desk.send("annotators", name="  New   Reader ")
    (person,) = desk.log.people.all()
    assert person.name == "New Reader"
    assert f"{BASE}/join/{person.token}" in page.text
    assert "New Reader has a link now" in page.text
    assert len(desk.log.people.all()) == 1
    told = desk.send("withdraw", annotator=person.id)
    assert "is withdrawn" in told.text
    assert "/join/" not in told.text
    assert "nobody has this id" in desk.send("withdraw", annotator="p_0000000000").text
    desk.send("annotators", name="New Reader")
    (again,) = desk.log.people.all()
    assert (again.id, again.active) == (person.id, True)
    assert again.token != person.token


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\u202eb", "a\0b"])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path, name):
    desk = Desk(tmp_path, [])
    assert "printable characters" in desk.send("annotators", name=name).text
    assert not desk.log.people.all()


@pytest.mark.parametrize("body", ["", "name=a&name=b", "name=a&x=1", "nam=a", "name", "name=%ff", "a=1&" * 50])
def test_a_form_has_exactly_its_fields(tmp_path, body):
    desk = Desk(tmp_path, [])
    answer = desk.client.post("/operator/annotators", content=body, headers=FORM)
    assert answer.status_code == 400
    assert not desk.log.people.all()


def test_texts_and_names_come_out_as_text(tmp_path):
    """The same elements as with harmless texts, and nothing that runs or loads."""
    pages = []
    for name, word in (("nasty", NASTY), ("plain", "plain")):
        items = [Item(word, (word + "1", word + "2")), Item(word + word, (word + "3", word + "4"))]
        desk = Desk(tmp_path / name, items, votes=2)
        one = desk.person("R <b>x</b> \"'&" if name == "nasty" else "R")
        two = desk.person("two")
        desk.vote(one, desk.items[0], "a")
        desk.vote(two, desk.items[0], "b")
        desk.flag(one, desk.items[1], "harmful", word.replace("\ud800", ""))
        pages.append(desk.page())
    nasty, plain = pages
    assert nasty.tags == plain.tags
    assert nasty.attributes == plain.attributes
    assert "script" not in nasty.tags
    assert not any(name.startswith("on") or name == "style" for name in nasty.attributes)
    assert "<script>alert(1)</script><img src=x onerror=alert(1)>" in nasty.text
    assert "R <b>x</b> \"'&" in nasty.text
    assert "\u0001" not in nasty.text
    assert "␁" in nasty.text
    assert nasty.tags["bdi"] > 0


def test_guidelines_and_consent_are_shown_as_text(tmp_path):
    page = Desk(tmp_path, []).page()
    assert "Be <i>fair</i>." in page.text
    assert "Agree <b>here</b>." in page.text
    assert "c" * 64 in page.text
    assert not {"i", "strike"} & set(page.tags)


def test_publishing_tells_how_it_went(tmp_path):
    outcome: list[Any] = [DataError("data/x", "split test would hold nothing.", "Label more.")]

    def publish() -> str:
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    desk = Desk(tmp_path, pairs(2), publish)
    desk.vote(desk.person("one"), desk.items[0], "a")
    page = desk.page()
    assert "preference pairs 1" in page.text
    assert "2 items are required and 1 are done" in page.text
    assert "data/x: split test would hold nothing. Label more." in desk.send("publish").text
    outcome[0] = "reviews-preferences@v000001: 1 pairs"
    assert "reviews-preferences@v000001" in desk.send("publish").text
    assert "reviews-preferences@v000001" in desk.page().text, "what happened last stays"
    outcome[0] = KeyError("secret")
    answer = desk.client.post("/operator/publish", content="", headers=FORM)
    assert answer.status_code == 500
    assert "failed because of a bug" in desk.page().text


def test_two_do_not_publish_at_once(tmp_path):
    begun, go = threading.Event(), threading.Event()

    def publish() -> str:
        begun.set()
        assert go.wait(10)
        return "done"

    desk = Desk(tmp_path, pairs(1), publish)
    told: list[Reader] = []
    first = threading.Thread(target=lambda: told.append(desk.send("publish")))
    first.start()
    assert begun.wait(10)
    second = TestClient(desk.app, base_url=BASE, cookies=dict(desk.client.cookies))
    answer = second.post("/operator/publish", content="", headers=FORM)
    assert "is being published already" in answer.text
    go.set()
    first.join(10)
    assert "done" in told[0].text


def test_no_button_where_nothing_can_be_published(tmp_path):
    desk = Desk(tmp_path, [])
    assert "Publish now" not in desk.page().text
    assert "publishes nothing" in desk.send("publish").text


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    desk = Desk(tmp_path, [])

    def full(self: People, name: str) -> None:
        raise LogFull("labels.sqlite3", "the disk is full.", "Free some space.")

    monkeypatch.setattr(People, "add", full)
    assert "the disk is full" in desk.send("annotators", name="x").text


def test_the_export_is_a_file_without_names(tmp_path):
    desk = Desk(tmp_path, pairs(1))
    answer = desk.client.get("/operator/export?format=jsonl")
    assert answer.status_code == 409
    assert "no answers yet" in answer.text
    who = desk.person("Reader One")
    desk.vote(who, desk.items[0], "a")
    for kind in ("jsonl", "csv"):
        answer = desk.client.get(f"/operator/export?format={kind}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="votes-b.{kind}"'
        assert who in answer.text
        assert "Reader One" not in answer.text
    for wrong in ("", "?format=xlsx", "?format=../x"):
        assert desk.client.get(f"/operator/export{wrong}").status_code == 400


def test_the_message_is_not_in_the_address(tmp_path):
    desk = Desk(tmp_path, [])
    answer = desk.client.post("/operator/annotators", data={"name": "Private"}, headers={"origin": BASE})
    assert "Private" not in str(answer.url)
    # Nobody can make the page say something by a link.
    assert "forged" not in desk.page("/operator/?m=forged").text


def test_browsers_send_the_origin_with_the_forms(tmp_path):
    # Under no-referrer they send "Origin: null"; .
    answer = Desk(tmp_path, []).client.get("/operator/")
    assert answer.headers["referrer-policy"] == "same-origin"


def test_statistics_are_not_made_again_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "STATISTICS_SECONDS", 3600.0)
    desk = Desk(tmp_path, pairs(3))
    who = desk.person("one")
    made = []
    statistics = dashboard._statistics
    monkeypatch.setattr(dashboard, "_statistics", lambda site: made.append(1) or statistics(site))
    desk.vote(who, desk.items[0], "a")
    for _ in range(3):
        desk.page()
    assert len(made) == 1
    desk.vote(who, desk.items[1], "a")
    desk.page()
    assert len(made) == 2
    desk.vote(who, desk.items[2], "a")
    desk.client.get("/operator/")
    assert len(made) == 2, "not so soon"
    desk.page()
    assert len(made) == 3
    other = desk.log.people.add("two").id
    desk.page()
    desk.log.forget(other)
    desk.page()
    assert len(made) == 5


def test_numbers_are_rounded_for_reading():
    assert wording.estimate(Estimate(0.8349, 0.79, 0.871, 9)) == ("0.83", "[0.79, 0.87]")
    assert wording.estimate(Estimate(-0.5, -0.6, math.nan, 9)) == ("\u22120.50", "")
    assert wording.estimate(Estimate(math.nan, math.nan, math.nan, 0)) == ("–", "")
    assert [wording.seconds(ms) for ms in (None, 940.0, 9949, 9950, 119_499, 120_000)] == [
        "–", "0.9 s", "9.9 s", "10 s", "119 s", "2 min",
    ]  # fmt: skip


def test_times_are_told_in_one_unit():
    now = datetime(2026, 1, 10, 12, tzinfo=UTC)
    told = [wording.ago((now - timedelta(seconds=s)).isoformat(), now) for s in (3, 60, 7199, 86399, 200_000, -50)]
    assert told == ["now", "1 min ago", "1 h ago", "23 h ago", "2 d ago", "now"]
    assert wording.ago(None) == "never"


# Mutation caught: .667 -> .6 or .7, .8 -> .75, and either bar without its limit.
@pytest.mark.parametrize(
    ("alpha", "verdict"),
    [
        (0.8, "agree reliably"),
        (0.799, "tentative conclusions"),
        (0.667, "tentative conclusions"),
        (0.666, "below 0.667"),
        (0.001, "below 0.667"),
        (0.0, "no more than chance"),
    ],
)
def test_what_an_alpha_is_worth(alpha: float, verdict: str) -> None:
    assert verdict in dashboard._read_alpha(Alpha(alpha, math.nan, math.nan, n=4, items=2, reason=None))
