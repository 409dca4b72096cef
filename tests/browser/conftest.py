"""A labelling page in a real browser: a log and a server in a test's own directory, and Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.labelling.items import Item
from tests.browser.desk import Desk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

LAPTOP = {"viewport": {"width": 1366, "height": 768}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
# The first takes half the time of the second.
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One for all tests here, and gone after them: its event loop would be in the way of others."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium-headless-shell")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """What a context's pages did: addresses asked for, and what went wrong in their scripts."""

    addresses: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refusals_are_expected: bool = False

    def watch(self, page: Page) -> None:
        page.on("request", lambda request: self.addresses.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, kind: str, text: str) -> None:
        # The browser itself reports an answer of 4xx, 5xx or none; that is no fault of the page.
        expected = self.refusals_are_expected and text.startswith("Failed to load resource")
        if kind in ("error", "warning") and not expected:
            self.errors.append(text)


@pytest.fixture
def contexts(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes contexts: each a browser of its own, with its own cookies. After the test: no error, no other host."""
    made: list[tuple[BrowserContext, Seen]] = []

    def make(*, dark: bool = False, **options: Any) -> BrowserContext:
        look = {"color_scheme": "dark" if dark else "light", "reduced_motion": "reduce"}
        context = browser.new_context(**(LAPTOP | look | options))
        context.set_default_timeout(30_000)  # only what never comes takes as long
        context.clock.install()  # the page's own clock runs on, and tests may turn it forward instead of waiting
        seen = Seen()
        context.on("page", seen.watch)
        context.seen = seen  # pyright: ignore[reportAttributeAccessIssue]
        made.append((context, seen))
        return context

    yield make
    for context, seen in made:
        context.close()
        assert not seen.errors
        assert all(url.startswith(("http://127.0.0.1:", "data:")) for url in seen.addresses), seen.addresses


@pytest.fixture
def context(contexts: Callable[..., BrowserContext]) -> BrowserContext:
    return contexts()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def phone(contexts: Callable[..., BrowserContext]) -> Page:
    return contexts(**PHONE).new_page()


@pytest.fixture
def shot() -> Callable[[Page, str], None]:
    """Keeps a picture of a page under RLHF_SCREENSHOTS, where that is set."""
    folder = os.environ.get("RLHF_SCREENSHOTS")

    def take(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{folder}/{name}.png")

    return take


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Opens desks: ``desk(items, people=1, **settings)``."""
    made: list[Desk] = []

    def make(items: list[Item], people: int = 1, *, whole: bool = True, **settings: Any) -> Desk:
        made.append(Desk(tmp_path / str(len(made)), items, people, **settings))
        if whole:
            made[-1].log.batches.finish()
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()
        one.log.close()
