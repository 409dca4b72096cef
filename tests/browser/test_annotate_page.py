"""The page around the answers: consent, trouble, all kinds of texts, phones, and use without a mouse or eyes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.labelling.items import Item
from tests.browser.desk import (
    EVERYTHING,
    GUIDELINES,
    at_rest,
    button,
    cards,
    focused,
    overflows,
    pairs,
    press,
    rankings,
    ready,
    singles,
)

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

# Consent, and the other screens


def test_consent_comes_first(page: Page, desk: Any, shot: Any, tmp_path: Any) -> None:
    guidelines = tmp_path / "guidelines.txt"
    guidelines.write_text(GUIDELINES, encoding="utf-8")
    at = desk(pairs(2), guidelines=str(guidelines))
    at.open(page, agreed=False)
    agree = page.get_by_role("button", name="I agree")
    agree.wait_for()
    shot(page, "annotate-consent")
    press(page, "1", "?", "g", "u", "Enter")
    assert page.locator("dialog[open]").count() == 0
    assert page.locator("button:visible, a:visible, input:visible").count() == 1
    assert list(at.log.events.read()) == []
    agree.dblclick()
    ready(page, 1)
    assert [event.type for event in at.log.events.read()] == ["consent"]
    page.reload()
    ready(page, 1)


def test_new_consent_text(page: Page, desk: Any, tmp_path: Any) -> None:
    """Before agreeing to the old one, and while labelling: the vote is refused, kept, and sent after agreeing."""
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(2))
    at.open(page, agreed=False)
    agree = page.get_by_role("button", name="I agree")
    agree.wait_for()

    def change(text: str) -> None:
        at.stop()
        (tmp_path / "consent.txt").write_text(text, encoding="utf-8")
        at.settings = replace(at.settings, consent=str(tmp_path / "consent.txt"))
        at.start()

    change("Another text.")
    agree.click()
    page.get_by_text("Another text.").wait_for()
    agree.click()
    ready(page, 1)
    change("A third text.")
    press(page, "t")
    page.get_by_text("A third text.").wait_for()
    assert at.log.answers.votes() == []
    agree.click()
    ready(page, 2)
    assert [vote.choice for vote in at.log.answers.votes()] == ["tie"]


def test_waiting_and_done(page: Page, desk: Any, shot: Any) -> None:
    at = desk(pairs(1), whole=False)
    at.open(page)
    press(page, "1")
    at_rest(page, "Waiting for more items")
    shot(page, "annotate-waiting")
    at.log.batches.add_items(pairs(2))
    page.clock.run_for(5100)
    ready(page, 2)
    at.log.batches.finish()
    press(page, "1")
    at_rest(page, "All done")
    shot(page, "annotate-finished")
    assert focused(page) == "rest-heading"


def test_progress(page: Page, desk: Any) -> None:
    at = desk(pairs(7))
    at.open(page)
    bar, text = page.locator("#progress-bar"), page.locator("#progress-text")
    assert text.text_content() == "0 done · 7 left"
    for number in range(1, 6):
        ready(page, number)
        press(page, "t")
    ready(page, 6)
    assert re.fullmatch(r"5 done · 2 left · (less than a|about \d+) min(ute)?", text.text_content())
    assert bar.evaluate("bar => [bar.value, bar.max]") == [5, 7]


def test_link_withdrawn(page: Page, desk: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(2))
    at.open(page)
    at.log.people.withdraw(at.id_of("p1"))
    press(page, "1")
    at_rest(page, "This link no longer works")
    assert at.log.answers.votes() == []


# Trouble


def test_server_stops(page: Page, desk: Any, shot: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(3))
    at.open(page)
    at.stop()
    press(page, "t")
    banner = page.get_by_role("alert").filter(has_text="Your answer is kept")
    banner.wait_for()
    shot(page, "annotate-trouble")
    press(page, "1", "2", "u", "s")  # one answer at a time
    assert page.locator("dialog[open]").count() == 0
    at.start()
    page.get_by_role("button", name="Try again").click()
    ready(page, 2)
    assert banner.count() == 0 or not banner.is_visible()
    assert [vote.choice for vote in at.log.answers.votes()] == ["tie"]


def test_tries_again_by_itself(page: Page, desk: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(2))
    at.open(page)
    at.stop()
    press(page, "t")
    page.locator("#banner").wait_for()
    at.start()
    page.clock.run_for(4000)
    ready(page, 2)
    assert len(at.log.answers.votes()) == 1


def test_kept_over_a_reload(page: Page, desk: Any) -> None:
    """The answer reached the log, its acknowledgement did not reach the page: sent again, it counts once."""
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(3))
    at.open(page)
    keys = []

    def lose(route: Any) -> None:
        keys.append(route.request.post_data_json["key"])
        route.fetch()
        route.abort()

    page.route("**/api/events", lose)
    press(page, "b")
    page.locator("#banner").wait_for()
    assert len(at.log.answers.votes()) == 1
    page.unroute_all(behavior="wait")  # the page tries again by itself, maybe just now
    page.on("request", lambda r: r.method == "POST" and keys.append(r.post_data_json["key"]))
    page.reload()
    ready(page, 2)
    assert len(set(keys)) == 1
    assert len(keys) >= 2
    assert [vote.choice for vote in at.log.answers.votes()] == ["both_bad"]


def test_disk_full(page: Page, desk: Any, monkeypatch: Any) -> None:
    from pipeline.labelling.log.database import LogFull

    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(2))
    at.open(page)

    def full(event: Any) -> None:
        raise LogFull("data/demo-labels", "the disk is full.", "Make room.")

    monkeypatch.setattr(at.log.events, "append", full)
    press(page, "1")
    page.get_by_role("alert").filter(has_text="the disk is full").wait_for()
    monkeypatch.undo()
    page.clock.run_for(1000)
    ready(page, 2)
    assert len(at.log.answers.votes()) == 1


def test_edit_refused(page: Page, desk: Any) -> None:
    """Too long for the server: the text stays in the editor, with the reason."""
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(1), ask=["edit"])
    at.open(page)
    press(page, "e", "1")
    page.locator("#edit-text").fill("x" * 150_000)
    page.get_by_role("button", name="Save").click()
    page.locator("#edit-problem").get_by_text("longer than").wait_for()
    assert len(page.locator("#edit-text").input_value()) == 150_000
    assert page.locator(".edited").count() == 0
    page.locator("#edit-text").fill("Short.")
    page.get_by_role("button", name="Save").click()
    press(page, "1")
    at_rest(page, "All done")
    assert [edit.payload["text"] for edit in at.log.answers.edits()] == ["Short."]


# Texts


def test_conversation(page: Page, desk: Any, shot: Any) -> None:
    prompt = (
        "System: You are a patient cook who answers briefly.\n\nUser: My bread does not rise. I used fresh yeast, "
        "warm water and half a kilo of flour.\n\nAssistant: How warm was the water?\n  And how long did you wait?"
        "\n\nUser: About 60 degrees. I waited for an hour.\n\nAssistant:"
    )
    hot = "Water at 60 °C kills yeast. Use water at 30 to 35 °C and wait for an hour and a half."
    fine = "Water at 60 °C is fine. Use more yeast, and wait for two hours before you bake it."
    at = desk([Item(prompt, (hot, fine))])
    at.open(page)
    roles = page.locator("#prompt h4").all_text_contents()
    assert roles == ["System", "User", "Assistant", "User"]
    assert (
        page.locator("#prompt .assistant .text").text_content()
        == "How warm was the water?\n  And how long did you wait?"
    )
    assert page.locator("#prompt .text").first.evaluate("e => getComputedStyle(e).whiteSpace") == "pre-wrap"
    press(page, "d")
    marks = page.locator("#completions mark")
    assert marks.count() == 6
    style = "e => getComputedStyle(e).textDecorationLine"
    assert marks.first.evaluate(style) == "underline"  # not by colour alone
    shot(page, "annotate-conversation")
    page.reload()
    marks.first.wait_for()  # remembered
    button(page, "Differences").or_(page.locator("#diff")).first.click()
    assert marks.count() == 0


def test_hostile_texts(page: Page, desk: Any, shot: Any) -> None:
    html = "<script>alert(1)</script><img src=x onerror=alert(2)><b>bold</b>&lt;"
    bidi = "total: \u202e001\u202c \x00\x1b[31m\x07 \ud83d and \u200b\ufeff"
    at = desk([Item(html, (html + "\n\tone", bidi)), Item("", ("", " \n\t"))])
    at.open(page)
    assert page.locator("#prompt .text").text_content() == html
    plain, boxed = sorted(cards(page), key=lambda text: "<" not in text)
    assert plain == html + "\n\tone"
    assert boxed == "total: RLO001PDF NULESC[31mBEL U+D83D and ZWSPBOM"
    assert page.locator(".symbol").first.get_attribute("title") == "U+202E"
    assert page.locator("main script, main img, main b").count() == 0
    assert page.locator("#completions .text").first.evaluate("e => [e.dir, getComputedStyle(e).unicodeBidi]") == [
        "auto",
        "isolate",
    ]
    shot(page, "annotate-hostile")
    press(page, "t")
    ready(page, 2)
    assert page.locator("#prompt .text").text_content() == "(empty)"
    assert sorted(cards(page)) == ["(empty)", "(only white space)"]


@pytest.mark.thorough
def test_long_texts(page: Page, desk: Any, shot: Any) -> None:
    words = "many words and 1 more. " * 4400  # 100 kB
    wall = "\x00\x01" * 50_000
    at = desk([Item("Go on. " * 400, (words, wall)), *pairs(1)])
    at.open(page)
    press(page, "d")
    page.get_by_text("Differences are not marked: more than 2,000 words.").wait_for()
    shot(page, "annotate-long")
    assert not overflows(page)
    for name in ("A is better", "Both bad", "Skip", "Undo"):
        assert button(page, name).bounding_box()["y"] < 768 - 40
    assert page.locator("main *").count() < 3000
    started = page.evaluate("performance.now()")
    press(page, "t")
    ready(page, 2)
    assert page.evaluate("performance.now()") - started < 4000
    assert page.locator("#completions .pane[tabindex]").count() == 0  # nothing to scroll in short texts


# Phone


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["pairwise", "rating", "ranking", "everything"])
def test_phone(phone: Page, desk: Any, shot: Any, mode: Any) -> None:
    items = {"pairwise": pairs(2), "everything": pairs(2), "ranking": rankings(2)}.get(mode) or singles(mode, 2)
    at = desk(items, ask=EVERYTHING if mode == "everything" else [])
    at.open(phone)
    shot(phone, f"annotate-phone-{mode}")
    assert not overflows(phone)
    for one in phone.locator("button:visible").all():
        box = one.bounding_box()
        assert box["height"] >= 44, one.text_content()
        assert box["width"] >= 44, one.text_content()
    for one in phone.locator(".bar button:visible").all():
        box = one.bounding_box()
        assert 844 / 2 < box["y"] < 844 - box["height"], one.text_content()
    if mode == "pairwise":
        at_b = phone.locator("#completions .card").nth(1).bounding_box()
        assert at_b["y"] > phone.locator("#completions .card").nth(0).bounding_box()["y"] + 50
        button(phone, "B is better").tap()
        ready(phone, 2)
        assert at.log.answers.votes()[0].order[1] == "ab".index(at.log.answers.votes()[0].choice)
    if mode == "ranking":
        for place in (3, 0, 1, 2):
            phone.locator(".rank").nth(place).tap()
        button(phone, "Send").tap()
        ready(phone, 2)


def test_phone_show_all(phone: Page, desk: Any, shot: Any) -> None:
    at = desk([Item("Go on. " * 400, ("word " * 2000, "x" * 3000))])
    at.open(phone)
    panes = phone.locator("#completions .pane").all()
    assert all(pane.evaluate("e => e.scrollWidth <= e.clientWidth") for pane in panes)
    shot(phone, "annotate-phone-long")
    assert not overflows(phone)
    more = phone.locator("#prompt-card").get_by_role("button", name="Show all")
    before = phone.locator("#prompt").bounding_box()["height"]
    more.tap()
    assert phone.locator("#prompt").bounding_box()["height"] > 2 * before
    phone.locator("#prompt-card").get_by_role("button", name="Show less").tap()
    assert phone.locator("#prompt").bounding_box()["height"] == before


# For everybody


def violations(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.thorough
@pytest.mark.parametrize("dark", [False, True])
def test_axe(contexts: Callable[..., BrowserContext], desk: Any, shot: Any, tmp_path: Any, dark: bool) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs axe: pip install axe-playwright-python")
    guidelines = tmp_path / "guidelines.txt"
    guidelines.write_text(GUIDELINES, encoding="utf-8")
    page = contexts(dark=dark).new_page()
    look = "dark" if dark else "light"
    at = desk(pairs(1), ask=EVERYTHING, guidelines=str(guidelines))
    at.open(page, agreed=False)
    page.get_by_role("button", name="I agree").wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="I agree").click()
    ready(page, 1)
    press(page, "1", "c", "d")
    shot(page, f"annotate-{look}")
    assert violations(page) == []
    for keys in (["s"], ["f"], ["e", "1"], ["?"]):
        press(page, *keys)
        shot(page, f"annotate-dialog-{keys[0].replace('?', 'help')}-{look}")
        assert violations(page) == []
        press(page, "Escape")
    press(page, "Enter")
    at_rest(page, "All done")
    assert violations(page) == []


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["thumbs", "rating", "ranking"])
def test_axe_modes(page: Page, desk: Any, mode: Any) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs axe: pip install axe-playwright-python")
    desk(rankings(1) if mode == "ranking" else singles(mode, 1)).open(page)
    assert violations(page) == []
    assert page.locator("h1").count() == 1


def test_tab_and_enter_alone(page: Page, desk: Any, tmp_path: Any) -> None:
    guidelines = tmp_path / "guidelines.txt"
    guidelines.write_text(GUIDELINES, encoding="utf-8")
    at = desk(pairs(2), ask=EVERYTHING, tags=["clear"], guidelines=str(guidelines))
    at.open(page, agreed=False)
    page.get_by_role("button", name="I agree").wait_for()
    press(page, "Tab", "Tab", "Enter")
    ready(page, 1)
    assert focused(page) == "item-heading"
    order = []
    for _ in range(30):
        press(page, "Tab")
        order.append(focused(page))
        if order[-1] == "help-button":
            break
    choices = [
        "A much better⇧1",
        "A slightly better1",
        "Tiet",
        "Both badb",
        "B slightly better2",
        "B much better⇧2",
    ]
    wanted = ["clearc", "note", *choices, "skip", "flag", "edit", "diff", "guidelines-button", "help-button"]
    assert [name for name in order if name in wanted] == wanted
    while focused(page) != "Tiet":
        press(page, "Tab")
    press(page, "Enter", "Tab", "Tab", "Tab", "Tab")
    assert focused(page) == "send"
    press(page, "Enter")
    ready(page, 2)
    assert focused(page) == "item-heading"
    assert page.locator("#said").text_content() == "Saved. Item 2."
    assert at.log.answers.votes()[0].choice == "tie"


@pytest.mark.thorough
def test_guidelines(page: Page, phone: Page, desk: Any, shot: Any, tmp_path: Any) -> None:
    """Beside the items on a laptop, where one can answer meanwhile; over them on a phone."""
    guidelines = tmp_path / "guidelines.txt"
    guidelines.write_text(GUIDELINES, encoding="utf-8")
    at = desk(pairs(3), people=2, guidelines=str(guidelines))
    at.open(page)
    panel = page.locator("#guidelines")
    assert panel.is_visible()
    assert panel.bounding_box()["x"] >= page.locator("#completions").bounding_box()["width"]
    assert not overflows(page)
    press(page, "1")
    ready(page, 2)
    press(page, "g")
    assert not panel.is_visible()
    page.reload()
    ready(page, 2)
    assert not panel.is_visible()
    press(page, "g")
    assert panel.is_visible()
    assert focused(page) == "guidelines-text"
    at.open(phone, "p2")
    assert not phone.locator("#guidelines").is_visible()
    phone.get_by_role("button", name="Guidelines").tap()
    shot(phone, "annotate-phone-guidelines")
    assert phone.locator("#guidelines:modal").is_visible()
    phone.get_by_role("button", name="Close the guidelines").tap()
    assert not phone.locator("#guidelines").is_visible()
