"""The page to try a policy, in a browser: what is written appears as text, and what is pressed is in the log."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.chat import project
from pipeline.chat.web.server import CONSENT, TryServer
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.server import read_consent
from pipeline.store.store import Store
from tests.browser.conftest import PHONE
from tests.browser.desk import focused, overflows
from tests.browser.test_annotate_page import violations
from tests.helpers.scripted_chat import ScriptedEngine, talk
from tests.unit.labelling.helpers import agree

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

LONG = "The quick brown fox jumps over the lazy dog, and the dog looks the other way. " * 12


class Table:
    """A page that is served, with a policy that answers by a script."""

    def __init__(self, directory: Path, engine: ScriptedEngine, blind: bool, port: int = 0) -> None:
        self.engine, self.directory, self.blind = engine, directory, blind
        self.log = project.open_log(Store(directory), "demo")
        self.log.people.add("Ada")
        self.server = TryServer(self.log, LabelSection(port=port), talk(engine, blind=blind))

    @property
    def ada(self) -> str:
        return self.log.people.all()[0].id

    def open(self, page: Page, *, agreed: bool = True) -> None:
        if agreed:
            consent = read_consent(str(CONSENT))
            agree(self.log, self.ada, consent.sha256, consent.version)
        page.goto(self.server.links()[0][1])
        if agreed:
            page.locator("#message").wait_for()

    def choices(self) -> list[tuple[str, str]]:
        modes = {item.id: item.mode for item in self.log.batches.items()}
        return [(modes[vote.item], vote.choice) for vote in self.log.answers.votes()]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Callable[..., Table]]:
    with contextlib.ExitStack() as stack:

        def make(*, blind: bool = False, port: int = 0, **engine: Any) -> Table:
            made = Table(tmp_path, ScriptedEngine(**engine), blind, port)
            stack.callback(made.log.close)
            stack.enter_context(made.server)
            stack.callback(made.engine.held.set)
            return made

        yield make


def ask(page: Page, text: str) -> None:
    before = page.locator(".exchange").count()
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")
    page.locator(".verdict").nth(before).locator("button, p").first.wait_for()


def press(page: Page, name: str, exchange: int = -1) -> None:
    page.locator(".exchange").nth(exchange).get_by_role("button", name=name, exact=True).click()
    page.locator("#said").get_by_text("Saved.").wait_for()


def texts(page: Page) -> list[str]:
    return page.locator(".body > .text").all_text_contents()


def test_asking_and_saying_what_one_thinks(page: Page, table: Any, shot: Any) -> None:
    at = table()
    at.open(page)
    ask(page, "cats")
    assert texts(page) == [" The base on cats.", " The policy, on cats, is brief."]
    assert page.locator(".figures").all_text_contents() == [
        "score 0.25 · 5 tokens, cut by its length",
        "score −0.75 · 7 tokens",
    ]
    press(page, "Policy is better")
    page.locator(".answer").nth(0).get_by_role("button", name="Thumbs down").click()
    page.locator(".answer").nth(1).get_by_role("button", name="Thumbs up").click()
    page.locator(".answer").nth(1).get_by_role("button", name="Thumbs up").click()  # taken back
    page.locator(".answer").nth(0).get_by_role("button", name="Write a better one").click()
    page.locator("#edit-text").fill("Cats sleep.")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Your better answer").wait_for()
    ask(page, "and dogs")
    shot(page, "try-light")
    # It goes on from the better answer that was written.
    assert at.engine.questions[1].prompt == "user: cats\n\nassistant: Cats sleep.\n\nuser: and dogs"
    assert at.choices() == [("pairwise", "b"), ("thumbs", "dislike")]
    assert [e.payload["text"] for e in at.log.answers.edits()] == [" Cats sleep."]


@pytest.mark.slow
def test_without_one_conversation_every_message_stands_alone(page: Page, table: Any) -> None:
    at = table(has_template=False)
    at.open(page)
    assert "has no chat template" in page.locator("#note").text_content()
    ask(page, "cats")
    assert page.get_by_role("button", name="Go on from here").count() == 0
    ask(page, "dogs")
    page.get_by_label("One conversation").check()
    page.locator(".answer").nth(2).get_by_role("button", name="Go on from here").click()
    ask(page, "birds")
    assert [q.prompt for q in at.engine.questions] == [
        "user: cats",
        "user: dogs",
        "user: dogs\n\nassistant:  The base on dogs.\n\nuser: birds",
    ]
    page.get_by_role("button", name="New").click()
    assert page.locator(".exchange").count() == 0


def test_blind_hides_names_and_scores_until_the_choice(page: Page, table: Any, shot: Any) -> None:
    at = table(blind=True)
    at.open(page)
    ask(page, "cats")
    shot(page, "try-blind")
    seen = page.locator("main").inner_text()
    assert "score" not in seen
    assert "@v" not in seen
    assert page.get_by_role("button", name="Why this score?").count() == 0
    press(page, "A is better")
    page.locator(".answer").first.get_by_text(re.compile(r"^demo-(base|policy)@v000001$")).wait_for()
    side = "base" if "base" in texts(page)[0] else "policy"
    assert page.locator(".answer .soft").first.text_content() == f"demo-{side}@v000001"
    assert at.choices() == [("pairwise", "a" if side == "base" else "b")]
    assert page.get_by_role("button", name="Why this score?").count() == 2
    assert page.get_by_role("button", name="Attribution").count() == 0


def explain(page: Page, place: int, name: str = "Why this score?") -> Any:
    answer = page.locator(".answer").nth(place)
    answer.get_by_role("button", name=name, exact=True).click()
    answer.locator(".explained details").wait_for()
    return answer.locator(".explained")


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_why_this_score(contexts: Callable[..., BrowserContext], table: Any, shot: Any, dark: bool) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs axe: pip install axe-playwright-python")
    page, look = contexts(dark=dark).new_page(), "dark" if dark else "light"
    html = "<b>so</b> <img src=x onerror=alert(1)> \u202e001 \x1b[31m"
    at = table(attributes=True, script=lambda text: ("It is a good and a quiet radio.", html))
    at.open(page)
    ask(page, "cats")
    panel = explain(page, 0)
    assert panel.locator(".text span[class]:not(.symbol)").first.get_attribute("class") == "up strong"
    assert panel.get_by_role("img").get_attribute("aria-label").startswith("score from 0.10 for the prompt alone")
    assert "It is not why the text got its score" in panel.inner_text()
    panel.locator("summary").click()
    assert panel.locator("tbody tr").first.inner_text() == "It\t1.10\t+1.00"
    hostile = explain(page, 1)
    assert hostile.locator(".text").text_content() == "<b>so</b> <img src=x onerror=alert(1)> RLO001 ESC[31m"
    assert page.locator("main b, main .explained img").count() == 0
    shot(page, f"try-why-{look}")
    assert violations(page) == []
    assert "residual" in explain(page, 0, "Attribution").inner_text()
    shot(page, f"try-attribution-{look}")
    assert violations(page) == []
    page.locator(".answer").nth(0).get_by_role("button", name="Attribution").click()
    assert panel.is_hidden()
    assert [(e.attribution, e.completion) for e in at.engine.explanations] == [
        (False, "It is a good and a quiet radio."),
        (False, html),
        (True, "It is a good and a quiet radio."),
    ]


def test_hostile_answers_are_text(page: Page, table: Any, shot: Any) -> None:
    html = "<script>alert(1)</script><img src=x onerror=alert(2)><b>bold</b>&lt;"
    bidi = "total: \u202e001\u202c \x1b[31m\x07 and \u200b\ufeff [link](javascript:alert(3))"
    at = table(script=lambda text: (html, bidi))
    at.open(page)
    ask(page, html)
    assert texts(page)[0] == html
    assert texts(page)[1] == "total: RLO001PDF ESC[31mBEL and ZWSPBOM [link](javascript:alert(3))"
    assert page.locator(".turn.user .text").text_content() == html
    assert page.locator("main script, main img, main b, main a").count() == 0
    shot(page, "try-hostile")
    press(page, "Both bad")
    assert at.log.batches.item(at.log.answers.votes()[0].item).completions == (html, bidi)


@pytest.mark.slow
def test_nothing_to_choose_between(page: Page, table: Any) -> None:
    at = table(script=lambda text: ("", "  "))
    at.open(page)
    ask(page, "cats")
    assert texts(page) == ["(empty)", "(only white space)"]
    page.get_by_text("there is nothing to choose between").wait_for()
    assert page.get_by_role("button", name="Thumbs up").first.is_disabled()


def test_what_is_refused_is_said_and_the_message_stays(page: Page, table: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = table()
    at.open(page)
    page.locator("#message").fill("  ")
    page.keyboard.press("Enter")
    assert page.locator("#problem").text_content() == "The message is empty: write something."
    page.locator("#message").fill("x" * 2001)
    page.keyboard.press("Enter")
    page.locator("#problem").get_by_text("this base reads 88").wait_for()
    assert page.locator("#message").input_value() == "x" * 2001
    assert page.locator(".exchange").count() == 0
    ask(page, "cats")
    assert page.locator("#problem").text_content() == ""


@pytest.mark.slow
def test_stop_ends_the_question(page: Page, table: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = table()
    at.open(page)
    at.engine.held.clear()
    page.locator("#message").fill("cats")
    page.keyboard.press("Enter")
    page.locator(".body[aria-busy=true] .text", has_text="The").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator("#said").get_by_text("Stopped.").wait_for()
    assert page.locator("#message").input_value() == "cats"
    at.engine.held.set()
    ask(page, "cats")


# A vote that the server never acknowledged is sent again, with its key, to the one that comes after.
def test_a_vote_outlives_the_server_and_the_page_a_reload(page: Page, table: Any) -> None:
    page.context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = table()
    at.open(page)
    ask(page, "cats")
    at.server.__exit__(None, None, None)
    page.get_by_role("button", name="Base is better").click()
    page.get_by_text("Not saved yet.").wait_for()
    after = table(port=at.server.port)
    page.get_by_role("button", name="Try again").click()
    page.locator("#said").get_by_text("Saved.").wait_for()
    assert after.choices() == [("pairwise", "a")]
    page.reload()
    page.locator(".exchange").wait_for()
    assert page.get_by_role("button", name="Base is better").get_attribute("aria-pressed") == "true"
    press(page, "Tie")
    assert after.choices() == [("pairwise", "tie")]


@pytest.mark.thorough
@pytest.mark.parametrize("dark", [False, True])
def test_axe(contexts: Callable[..., BrowserContext], table: Any, shot: Any, dark: bool) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs axe: pip install axe-playwright-python")
    page, look = contexts(dark=dark).new_page(), "dark" if dark else "light"
    at = table(has_template=not dark)
    at.open(page, agreed=False)
    page.get_by_role("button", name="I agree").wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="I agree").click()
    page.locator("#message").wait_for()
    assert violations(page) == []
    at.engine.held.clear()
    page.locator("#message").fill("cats")
    page.keyboard.press("Enter")
    page.locator(".body[aria-busy=true] .text", has_text="The").first.wait_for()
    assert page.locator("#heard").text_content() == ""  # not token by token
    shot(page, f"try-streaming-{look}")
    assert violations(page) == []
    at.engine.held.set()
    page.get_by_role("button", name="Policy is better").click()
    heard = page.locator("#heard p").all_text_contents()
    assert heard == [
        "the base’s answer:  The base on cats.",
        "the policy’s answer:  The policy, on cats, is brief.",
    ]
    shot(page, f"try-{look}")
    assert violations(page) == []
    page.get_by_role("button", name="Write a better one").first.click()
    shot(page, f"try-dialog-{look}")
    assert violations(page) == []


def test_on_a_phone(contexts: Callable[..., BrowserContext], table: Any, shot: Any) -> None:
    phone = contexts(**PHONE).new_page()
    at = table(script=lambda text: (LONG, LONG + "Aaaaaaa" * 60))
    at.open(phone)
    ask(phone, LONG)
    assert not overflows(phone)
    shot(phone, "try-phone")
    explain(phone, 0)
    explain(phone, 1)
    assert not overflows(phone)
    shot(phone, "try-why-phone")
    for name in ("Base is better", "Tie", "Both bad", "Policy is better"):
        assert phone.get_by_role("button", name=name).bounding_box()["height"] >= 44
    phone.get_by_role("button", name="Both bad").tap()
    phone.locator("#said").get_by_text("Saved.").wait_for()
    assert at.choices() == [("pairwise", "both_bad")]


def test_tab_and_enter_alone(page: Page, table: Any) -> None:
    at = table()
    at.open(page)
    assert focused(page) == "message"
    ask(page, "cats")
    order = []
    for _ in range(16):
        page.keyboard.press("Shift+Tab")
        order.append(focused(page))
        if order[-1] == "turns":
            break
    assert order[:4] == ["Policy is better", "Both bad", "Tie", "Base is better"]
    assert order[4:] == [
        "Go on from here", "Write a better one", "Thumbs down", "Thumbs up", "Why this score?",
        "Go on from here", "Write a better one", "Thumbs down", "Thumbs up", "Why this score?", "new", "turns",
    ]  # fmt: skip
    for _ in range(len(order) - 3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#said").get_by_text("Saved.").wait_for()
    assert focused(page) == "Tie"  # where it was
    assert at.choices() == [("pairwise", "tie")]
