"""Tunes and drawings on the labelling page: seen, heard, and harmless whatever a model wrote."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.labelling.items import Item
from pipeline.tasks.grammars.scenes import Thing, scene, sentence
from tests.browser.desk import press, ready
from tests.browser.test_annotate_page import violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, Page

HEADER = "X:1\nM:3/4\nL:1/8\nK:G\nD2 | G2 B2 A G |"
TUNE = " F2 A2 d2 | B2 G2 A F | G4 |]"
FLAWED = " F2 A2 d2 c2 | B2 ^G2 A F | A6"
HOUSE_AND_SUN = (Thing("house", "red"), Thing("tree", "green"), Thing("sun", "yellow"))


def tunes(*completions: str) -> list[Item]:
    return [Item(HEADER, completions)]


def drawings() -> list[Item]:
    careful = scene(random.Random(3), HOUSE_AND_SUN, faults=False)
    return [
        Item(
            sentence(HOUSE_AND_SUN),
            (careful, "\nbox red 3 4 6 4\ntri brown 3 8 6 3\nbox brown 12 0 1 3\ndisc green 15 8 3\nsun up there"),
        )
    ]


def shown(page: Page) -> dict[str, str]:
    """The line under each picture, by the first characters of its text; empty without one."""
    cards = page.locator("#completions .card").all()
    return {
        (card.locator(".text").text_content() or "").strip(): " ".join(
            card.locator(".problem-line").all_text_contents()
        )
        for card in cards
    }


# Heard: every oscillator that the page starts, with its frequency.
LISTEN = """
window.heard = [];
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (at) {
  window.heard.push(Math.round(this.frequency.value));
  start.call(this, at);
};
"""


def test_a_tune_is_drawn_and_played(page: Page, desk: Any, shot: Any) -> None:
    page.add_init_script(LISTEN)
    at = desk(tunes(TUNE, FLAWED), renderer="abc")
    at.open(page)
    scores = page.locator("#completions svg.score")
    assert scores.count() == 2
    assert all(score.bounding_box()["width"] > 300 for score in scores.all())
    shot(page, "annotate-tune")
    button = page.get_by_role("button", name="Play completion A")
    press(page, "p")
    assert button.get_attribute("aria-pressed") == "true"
    heard = page.evaluate("window.heard")
    assert heard[:5] == [294, 392, 494, 440, 392]  # D4 G4 B4 A4 G4
    press(page, "p")  # stops
    assert button.get_attribute("aria-pressed") == "false"
    press(page, "p")
    assert page.get_by_role("button", name="Play completion B").get_attribute("aria-pressed") == "true"
    press(page, "1")
    page.locator("#rest-heading").wait_for()
    assert len(at.log.answers.votes()) == 1


@pytest.mark.thorough
def test_a_drawing_is_drawn_from_its_numbers(page: Page, desk: Any, shot: Any) -> None:
    at = desk(drawings(), renderer="shapes")
    at.open(page)
    scenes = page.locator("#completions svg.scene")
    assert scenes.count() == 2
    lines = shown(page)
    assert lines[drawings()[0].completions[0].strip()] == ""
    assert lines[drawings()[0].completions[1].strip()] == "1 line is no shape: see the text."
    # box red 3 4 6 4, measured upwards: its top is at 16 - 4 - 4 of the picture.
    wall = page.locator('svg.scene rect[x="3"][fill="#c0392b"][width="6"]')
    assert wall.get_attribute("y") == "8"
    assert page.locator(".play").count() == 0
    shot(page, "annotate-drawing")
    press(page, "d")
    assert page.locator("#completions .source[open]").count() == 2
    assert page.locator("#completions mark").count() > 0


@pytest.mark.thorough
def test_without_the_script_texts_stay_texts(page: Page, desk: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    page.route("**/abcjs-basic-min.js", lambda route: route.abort())
    desk(tunes(TUNE, FLAWED), renderer="abc").open(page)
    assert sorted(page.locator("#completions .text").all_text_contents()) == sorted((TUNE, FLAWED))
    assert page.get_by_role("alert").filter(has_text="The pictures did not load").is_visible()


HOSTILE = (
    '\n%%svg <script>alert(1)</script>\n%%beginsvg\n<svg onload="alert(2)"/>\n%%endsvg\n'
    '"<img src=x onerror=alert(3)>"c2 |]',
    ' c2 "^<b>bold</b>" d2 |\nw:<script>alert(4)</script>\nT:</text><script>alert(5)</script>\n'
    "F:javascript:alert(6)\nG8 |]",
    " [I:setfont-1 <x>] !<script>! (((((3 c99999999999 | [CEG [ CE |: |: |: {g ~H",
    " ",
    "%%pagewidth 1e99cm\n%%scale 1e9\n",
    " " + "c2 d2 |" * 2000,
    " \u202e\x00\ud83d<!-- ]]> &lt; &amp; |]",
)


@pytest.mark.thorough
@pytest.mark.parametrize("renderer", ["abc", "shapes"])
def test_what_a_model_wrote_runs_nothing(page: Page, desk: Any, shot: Any, renderer: str) -> None:
    """At the end the fixture asserts that there was no dialog, no error, and no address but this page's own."""
    at = desk([Item(HEADER, (text, HOSTILE[i - 1])) for i, text in enumerate(HOSTILE)], renderer=renderer)
    at.open(page)
    for number in range(1, len(HOSTILE) + 1):
        ready(page, number)
        assert (
            page.locator("main script, main img, main iframe, main a, main foreignObject, main style").count() == 0
        )
        assert page.locator("main [onload], main [onerror], main [href], main [style*=url]").count() == 0
        assert page.locator("main svg *").count() < 5000
        undrawn = page.locator("#completions .pictured:not(:has(svg))")
        assert all(card.locator(".problem-line").count() == 1 for card in undrawn.all())
        assert all(card.locator(".source").get_attribute("open") is not None for card in undrawn.all())
        press(page, "p")
        shot(page, f"annotate-hostile-{renderer}-{number}")
        press(page, "t")
    page.locator("#rest-heading").wait_for()
    assert len(at.log.answers.votes()) == len(HOSTILE)


@pytest.mark.thorough
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(contexts: Callable[..., BrowserContext], desk: Any, shot: Any, dark: bool) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs axe: pip install axe-playwright-python")
    for renderer, items in (("abc", tunes(TUNE, FLAWED + " what?")), ("shapes", drawings())):
        page = contexts(dark=dark).new_page()
        desk(items, renderer=renderer).open(page)
        assert violations(page) == []
        for summary in page.locator("#completions summary").all():
            summary.click()
        assert violations(page) == []
        shot(page, f"annotate-{renderer}-{'dark' if dark else 'light'}")


@pytest.mark.thorough
def test_on_a_phone(contexts: Callable[..., BrowserContext], desk: Any, shot: Any) -> None:
    phone = contexts(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).new_page()
    desk(tunes(TUNE, FLAWED), renderer="abc").open(phone)
    shot(phone, "annotate-phone-tune")
    assert phone.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert all(button.bounding_box()["height"] >= 44 for button in phone.locator(".play").all())
