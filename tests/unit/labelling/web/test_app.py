"""The annotator's side over HTTP: joining, the state, the queue, every kind of event, in the words of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.database import LogFull
from pipeline.labelling.log.events import Events
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewEvent
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.app import Consent, build_app
from pipeline.labelling.web.context import RemainingEstimate
from pipeline.labelling.web.request_checks import Rate
from tests.unit.labelling.helpers import KEYS, open_log, pairs

BASE = "http://127.0.0.1:8765"
CONSENT = Consent("You agree to this.", "v2", "c" * 64)
NASTY = "<script>alert(1)</script> \"'& \u202e\u0001 \ud800 </textarea>"


class Page:
    """A person's tab: a client with that person's cookie."""

    def __init__(self, app: Any, log: Log, name: str, consent: bool = True) -> None:
        self.person = log.people.add(name)
        self.client = TestClient(app, base_url=BASE, follow_redirects=False)
        assert self.client.get(f"/join/{self.person.token}").status_code == 303
        if consent:
            agreed = self.send("consent", item=None, version=CONSENT.version, sha256=CONSENT.sha256)
            assert agreed.status_code == 200

    def get(self, what: str) -> dict[str, Any]:
        answer = self.client.get(f"/a/{self.person.id}/api/{what}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, kind: str, item: str | None = "", key: str | None = None, **rest: Any) -> Any:
        if item == "" and kind != "undo":
            item = self.get("next")["item"]["id"]
        body = {"key": key or next(KEYS), "type": kind} | ({"item": item} if item else {}) | rest
        return self.client.post(f"/a/{self.person.id}/api/events", json=body, headers={"origin": BASE})

    def vote(self, choice: str = "a", **rest: Any) -> dict[str, Any]:
        answer = self.send("vote", choice=choice, **{"ms": 2000, **rest})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return open_log(tmp_path)


def serve(log: Log, items: list[Item] | None = None, **settings: Any) -> Any:
    log.batches.add_items(pairs(12) if items is None else items)
    log.batches.finish()
    app = build_app(
        log, LabelSection(**settings), title="Reviews", guidelines="Be fair.", consent=CONSENT, publish=None,
        hosts=["127.0.0.1"],
    )  # fmt: skip
    app.state.site.rate = Rate(1e9)  # tests are faster than people
    return app


def test_join_trades_the_token_for_a_cookie(log):
    app = serve(log)
    person = log.people.add("one")
    client = TestClient(app, base_url=BASE, follow_redirects=False)
    answer = client.get(f"/join/{person.token}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/a/{person.id}/"
    cookie = answer.headers["set-cookie"].lower()
    assert f"path=/a/{person.id}/;" in cookie + ";"
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = client.get(f"/a/{person.id}/")
    assert page.status_code == 200
    assert person.token not in page.text


def test_a_wrong_token_is_a_404(log):
    client = TestClient(serve(log), base_url=BASE)
    for token in ("0" * 32, "x", "%00", "Ünicode", log.people.salt, "a" * 500):
        answer = client.get(f"/join/{token}", follow_redirects=False)
        assert answer.status_code == 404
        assert "set-cookie" not in answer.headers


def test_nothing_without_the_own_cookie(log):
    app = serve(log)
    one, two = Page(app, log, "one"), Page(app, log, "two")
    stranger = TestClient(app, base_url=BASE)
    for client, who in ((stranger, one), (one.client, two)):
        for path in ("", "api/state", "api/next"):
            assert client.get(f"/a/{who.person.id}/{path}").status_code == 403, path
    # The value of one's cookie under the other's name: seen failing without `person.id != annotator`.
    name = next(c.name for c in two.client.cookies.jar)
    stranger.cookies.set(name, one.person.token)
    assert stranger.get(f"/a/{two.person.id}/api/next").status_code == 403
    body = {"key": "k" * 8, "type": "undo"}
    answer = stranger.post(f"/a/{two.person.id}/api/events", json=body, headers={"origin": BASE})
    assert (answer.status_code, answer.json()["code"]) == (403, "link")


def test_a_person_who_comes_from_another_site_can_go_on(log):
    # Browsers leave out a SameSite=Strict cookie where the first click was on another site, also after a redirect;
    # the second click is on our own page. Seen in Chromium.
    app = serve(log)
    path = f"/a/{log.people.add('one').id}/"
    answer = TestClient(app, base_url=BASE).get(path)
    assert answer.status_code == 403
    assert f'href="{path}"' in answer.text
    assert "This page needs your link" in answer.text


def test_a_withdrawn_link_is_dead_and_a_new_one_works(log):
    app = serve(log)
    one = Page(app, log, "one")
    log.people.withdraw(one.person.id)
    assert one.client.get(f"/a/{one.person.id}/api/next").status_code == 403
    assert one.send("undo").status_code == 403
    assert one.client.get(f"/join/{one.person.token}").status_code == 404
    again = Page(app, log, "one")
    assert again.person.id == one.person.id
    assert again.get("next")["item"]


def test_several_people_in_tabs_of_one_browser(log):
    app = serve(log)
    one, two = log.people.add("one"), log.people.add("two")
    client = TestClient(app, base_url=BASE)
    client.get(f"/join/{one.token}")
    client.get(f"/join/{two.token}")
    assert client.get(f"/a/{one.id}/api/next").status_code == 200
    assert client.get(f"/a/{two.id}/api/next").status_code == 200


def test_the_state_is_what_the_page_needs(log):
    page = Page(serve(log, ask=["tags", "note"], tags=["clear"]), log, "one", consent=False)
    state = page.get("state")
    assert state["title"] == "Reviews"
    assert state["guidelines"] == "Be fair."
    assert state["consent"] == {"needed": True, "text": CONSENT.text, "version": "v2", "sha256": "c" * 64}
    assert (state["ask"], state["tags"]) == (["tags", "note"], ["clear"])
    assert state["progress"] == {"answered": 0, "left": 12, "total": 12, "seconds_left": None}
    assert state["can_undo"] is False


def test_no_answer_counts_before_consent(log):
    page = Page(serve(log, ask=["edit"]), log, "one", consent=False)
    for kind, rest in (
        ("vote", {"choice": "a", "ms": 1}),
        ("skip", {"reason": "I cannot tell", "ms": 1}),
        ("flag", {"on": True, "reason": "harmful"}),
        ("edit", {"completion": 0, "text": "x"}),
        ("undo", {}),
    ):
        answer = page.send(kind, **rest)
        assert (answer.status_code, answer.json()["code"]) == (403, "consent"), kind
    assert not list(log.events.read())


def test_consent_is_to_the_text_of_now(log):
    page = Page(serve(log), log, "one", consent=False)
    old = page.send("consent", item=None, version="v1", sha256="0" * 64)
    assert old.status_code == 409
    assert page.get("state")["consent"]["needed"]
    assert page.send("consent", item=None, version="v2", sha256="c" * 64).status_code == 200
    assert not page.get("state")["consent"]["needed"]
    page.vote()
    assert log.answers.votes()[0].consent == "c" * 64
    # Another text: everybody is asked again.
    new = Consent("Another.", "v3", "d" * 64)
    other = build_app(
        log, LabelSection(), title="", guidelines=None, consent=new, publish=None, hosts=["127.0.0.1"]
    )
    client = TestClient(other, base_url=BASE)
    client.get(f"/join/{page.person.token}")
    assert client.get(f"/a/{page.person.id}/api/state").json()["consent"]["needed"]


def test_pairwise_votes_are_stored_in_the_words_of_the_item(log):
    # Seen failing: as_shown for as_meant passes for pairs (a swap is its own inverse); the ranking test tells.
    page = Page(serve(log, pairs(40)), log, "one")
    swapped = 0
    for choice in ["a", "b", "tie", "both_bad"] * 10:
        item = page.get("next")["item"]
        stored = log.batches.item(item["id"])
        assert stored is not None
        page.vote(choice)
        vote = log.answers.votes()[-1]
        chosen = {"a": 0, "b": 1}.get(choice)
        if chosen is None:
            assert vote.choice == choice
        else:
            assert stored.completions["ab".index(vote.choice)] == item["completions"][chosen]
        assert [stored.completions[i] for i in vote.order] == item["completions"]
        swapped += vote.order == (1, 0)
    assert 5 < swapped < 35


def test_rankings_are_stored_in_the_words_of_the_item(log):
    items = [Item(f"p {i}", tuple(f"{word} {i}" for word in "wxyz"), "ranking") for i in range(20)]
    page = Page(serve(log, items, mode="ranking"), log, "one")
    for choice in ["2>0=1>3", "0>1>2>3", "3>2>1>0", "1=2>0=3"] * 5:
        item = page.get("next")["item"]
        page.vote(choice)
        vote, stored = log.answers.votes()[-1], log.batches.item(item["id"])
        assert stored is not None
        shown = [{item["completions"][int(i)] for i in rank.split("=")} for rank in choice.split(">")]
        kept = [{stored.completions[int(i)] for i in rank.split("=")} for rank in vote.choice.split(">")]
        assert kept == shown


@pytest.mark.parametrize("mode, choices", [("thumbs", ["like", "dislike"]), ("rating", ["1", "5"])])
def test_one_completion_at_a_time(log, mode, choices):
    items = [Item(f"p {i}", (f"c {i}",), mode) for i in range(2)]
    page = Page(serve(log, items, mode=mode), log, "one")
    for choice in choices:
        assert len(page.get("next")["item"]["completions"]) == 1
        page.vote(choice)
    assert [v.choice for v in log.answers.votes()] == choices


def test_the_place_differs_between_people_and_stays_for_one(log):
    app = serve(log, pairs(1), votes=9)
    tabs = [Page(app, log, str(i)) for i in range(20)]
    seen = [tuple(tab.get("next")["item"]["completions"]) for tab in tabs]
    assert len(set(seen)) == 2
    assert [tuple(tab.get("next")["item"]["completions"]) for tab in tabs] == seen


def test_strength_tags_and_note_are_kept(log):
    page = Page(serve(log, ask=["strength", "tags", "note"], tags=["clear", "safe"]), log, "one")
    page.vote("a", strength="much", tags=["safe", "clear", "safe"], note="ünï\n" + "x" * 5000)
    vote = log.answers.votes()[0]
    assert (vote.strength, vote.tags, vote.ms) == ("much", ("safe", "clear"), 2000)
    assert vote.note == "ünï\n" + "x" * 5000
    page.vote("tie", strength="much")
    assert log.answers.votes()[1].strength is None


def test_a_retry_is_recorded_once(log):
    page = Page(serve(log), log, "one")
    first_item = page.get("next")["item"]["id"]
    first = page.vote("a", item=first_item, key="same-key-1")
    again = page.vote("a", item=first_item, key="same-key-1")
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert again["seq"] == first["seq"]
    assert again["next"]["item"]["id"] == first["next"]["item"]["id"] != first_item
    other = page.send("vote", item=first_item, key="same-key-1", choice="tie", ms=1)
    assert other.status_code == 409
    assert len(log.answers.votes()) == 1


def test_a_second_vote_on_an_item_is_refused(log):
    page = Page(serve(log), log, "one")
    item = page.get("next")["item"]["id"]
    page.vote("a", item=item)
    assert page.send("vote", item=item, choice="b", ms=1).status_code == 409


def test_undo_opens_the_item_again_with_what_was_chosen(log):
    items = [Item(f"p {i}", ("w", "x", "y"), "ranking") for i in range(3)]
    page = Page(serve(log, items, mode="ranking", ask=["note"]), log, "one")
    item = page.get("next")["item"]
    page.vote("2>0=1", note="hm")
    assert page.get("state")["can_undo"]
    back = page.send("undo").json()["next"]
    assert back["item"]["id"] == item["id"]
    assert back["item"]["completions"] == item["completions"]
    assert back["item"]["undone"] == {"choice": "2>0=1", "strength": None, "tags": [], "note": "hm"}
    assert back["can_undo"] is False
    assert page.get("next")["item"] == back["item"], "a reload shows the same"
    assert page.send("undo").status_code == 409
    page.vote("0>1>2", item=item["id"])
    assert len(log.answers.votes()) == 1


def test_undo_of_a_skip(log):
    page = Page(serve(log), log, "one")
    assert page.send("skip", reason="I cannot tell", note="n", ms=5).status_code == 200
    back = page.send("undo").json()["next"]["item"]
    assert back["undone"] == {"reason": "I cannot tell", "note": "n"}
    assert not log.answers.skips()


def test_flags_go_on_and_off(log):
    page = Page(serve(log), log, "one")
    on = page.send("flag", on=True, reason="harmful", note="why").json()["next"]["item"]
    assert on["flagged"]
    assert [(f.item, f.payload["reason"], f.payload["note"]) for f in log.answers.flags()] == [
        (on["id"], "harmful", "why")
    ]
    assert page.send("flag", on=False).json()["next"]["item"]["flagged"] is False
    assert not log.answers.flags()


def test_an_edit_is_of_the_completion_at_that_place(log):
    page = Page(serve(log, [Item("p", ("w", "x", "y"), "ranking")], mode="ranking", ask=["edit"]), log, "one")
    item = page.get("next")["item"]
    for place in range(3):
        assert page.send("edit", completion=place, text=f"better {place}").status_code == 200
    stored = log.batches.item(item["id"])
    assert stored is not None
    kept = {stored.completions[e.payload["completion"]]: e.payload["text"] for e in log.answers.edits()}
    assert kept == {item["completions"][place]: f"better {place}" for place in range(3)}


def test_the_last_answer_ends_it_and_sampling_is_waited_for(log):
    log.batches.add_items(pairs(1))
    app = build_app(
        log, LabelSection(), title="", guidelines=None, consent=CONSENT, publish=None, hosts=["127.0.0.1"]
    )
    page = Page(app, log, "one")
    assert page.vote()["next"]["why"] == "waiting"
    log.batches.finish()
    end = page.get("next")
    assert (end["item"], end["why"]) == (None, "done")


def test_time_left_is_the_own_median_times_what_is_left(log):
    page = Page(serve(log, pairs(12)), log, "one")
    for ms in (1000, 3000, 2000, 9000):
        assert page.vote(ms=ms)["next"]["progress"]["seconds_left"] is None
    # Median of 1, 2, 3, 9, 100 s times 7 items.
    assert page.vote(ms=100_000)["next"]["progress"] == {
        "answered": 5,
        "left": 7,
        "total": 12,
        "seconds_left": 21,
    }


def test_hostile_text_comes_through_whole(log):
    items = [Item(NASTY, (NASTY + "1", NASTY + "2"))]
    page = Page(serve(log, items, ask=["note"]), log, "one")
    answer = page.client.get(f"/a/{page.person.id}/api/next")
    assert answer.headers["content-type"] == "application/json"
    item = answer.json()["item"]
    assert item["turns"] == [{"role": "", "text": NASTY}]
    assert sorted(item["completions"]) == [NASTY + "1", NASTY + "2"]
    page.vote(note="</script>\u202e\u0001")
    assert log.answers.votes()[0].note == "</script>\u202e\u0001"


def test_conversations_come_in_turns(log):
    page = Page(serve(log, [Item("\n\nHuman: Hi\n\nAssistant:", ("x", "y"))]), log, "one")
    assert page.get("next")["item"]["turns"] == [{"role": "user", "text": "Hi"}]


def test_gold_items_and_repeats_look_like_all_others(log):
    """No key, no type and no step of the progress tells which of the answers were tests."""
    log.batches.add_items(pairs(30, gold="a", word="gold"))
    app = serve(log, pairs(60), gold="gold.csv", gold_share=0.2, repeat_share=0.1, repeat_after=3)
    page = Page(app, log, "one")
    shapes, steps = {}, []
    answer = page.get("next")
    while answer["item"]:
        item, before = answer["item"], answer["progress"]
        shape = tuple(sorted((k, type(v)) for k, v in item.items())), tuple(sorted(answer))
        answer = page.send("vote", item=item["id"], choice="a", ms=1).json()["next"]
        vote, stored = log.answers.votes()[-1], log.batches.item(item["id"])
        assert stored is not None
        kind = "gold" if stored.gold else "repeat" if vote.round else "first"
        shapes.setdefault(kind, set()).add(shape)
        steps.append((kind, before["left"] - answer["progress"]["left"]))
    assert set(shapes) == {"gold", "repeat", "first"}
    assert shapes["gold"] == shapes["repeat"] == shapes["first"]
    early = steps[:-45]  # towards the end chance may leave more tests than were foreseen
    assert {step for kind, step in early if kind != "first"} <= {step for kind, step in early if kind == "first"}
    # Nothing stands still: seen failing with the bare number of items left.
    assert all(step > 0 for _, step in early)


def test_what_is_left_follows_what_others_do():
    remaining = RemainingEstimate(0.1)
    assert remaining.left("p", 0, 90) == 90 + 17  # 10 are expected on top, and two deviations of sqrt(10)
    assert remaining.left("p", 1, 90) == 106  # a gold item
    assert remaining.left("p", 2, 89) == 105
    assert remaining.left("p", 2, 9) == 9 + 3  # others did 80: 1 is expected on top, and two deviations of 1
    assert remaining.left("p", 2, 0) == 0
    assert RemainingEstimate(0.0).left("p", 7, 5) == 5


def test_two_people_get_what_both_must_answer(log):
    app = serve(log, pairs(3), votes=2)
    one, two = Page(app, log, "one"), Page(app, log, "two")
    for tab in (one, two):
        while tab.get("next")["item"]:
            tab.vote()
    assert log.batches.ready(2, None).done == 3
    assert len(log.answers.votes()) == 6


def test_an_open_item_counts_as_left(log):
    app = serve(log, pairs(1))
    one, two = Page(app, log, "one"), Page(app, log, "two")
    one.get("next")
    two.vote()
    answer = one.get("next")  # theirs still, though it is done
    assert answer["item"]
    assert answer["progress"]["left"] == 1


def test_a_full_disk_says_so_and_the_next_request_works(log, monkeypatch):
    page = Page(serve(log), log, "one")
    item = page.get("next")["item"]["id"]
    append, full = Events.append, [True]

    def sometimes(self: Events, event: NewEvent) -> Any:
        if full[0]:
            raise LogFull("labels.sqlite3", "the disk is full.", "Free some space.")
        return append(self, event)

    monkeypatch.setattr(Events, "append", sometimes)
    answer = page.send("vote", item=item, choice="a", ms=1)
    assert (answer.status_code, answer.json()["code"]) == (507, "full")
    assert "disk is full" in answer.json()["error"]
    full[0] = False
    assert page.send("vote", item=item, choice="a", ms=1).status_code == 200


def test_the_order_is_of_this_project_alone(log, tmp_path):
    other = Log(tmp_path / "other")
    items = pairs(64)
    same = [order_of(i.id, "p", log.people.salt, 2) == order_of(i.id, "p", other.people.salt, 2) for i in items]
    assert 10 < sum(same) < 54
