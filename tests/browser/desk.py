"""A labelling project with its page, and what one does there. Leaves out the browser, which is conftest.py's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.labelling.items import Item
from tests.unit.labelling.helpers import agree

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROMPT = "Write a short review of a film you saw last week. Say what you liked and what you would have cut."
LIKED = """The film starts slowly, but the last half hour is worth the wait. The two leads play off each other \
with real warmth, and the ending surprised me without cheating.

I would have cut the subplot about the lighthouse: it goes nowhere."""
DISLIKED = """The film starts slowly, and it never really picks up. The two leads are fine, but the ending \
surprised nobody in the room.

I would have cut an hour. The lighthouse was pretty, though."""
GUIDELINES = """What to look for

1. Is it correct? A wrong answer is worse than a short one.
2. Does it answer what was asked?
3. Is it pleasant to read?

Choose a tie only where you really cannot tell. Where both are useless, say so: both bad."""
EVERYTHING = ["strength", "tags", "note", "edit"]


def pairs(n: int = 3) -> list[Item]:
    return [Item(f"{PROMPT} ({i})", (f"{LIKED} ({i})", f"{DISLIKED} ({i})")) for i in range(n)]


def singles(mode: Any, n: int = 3) -> list[Item]:
    return [Item(f"{PROMPT} ({i})", (f"{LIKED} ({i})",), mode) for i in range(n)]


def rankings(n: int = 3) -> list[Item]:
    texts = ("The Salty Loaf", "Sea Bread", "Crumbs and Waves", "I cannot name bakeries.")
    return [
        Item(f"A name for bakery {i}, please.", tuple(f"{text} ({i})" for text in texts), "ranking")
        for i in range(n)
    ]


def at_rest(page: Page, heading: str) -> None:
    page.locator("#rest-heading").get_by_text(heading).wait_for()


def cards(page: Page) -> list[str]:
    return page.locator("#completions .text").all_text_contents()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def button(page: Page, name: str) -> Any:
    return page.locator("main").get_by_role("button", name=re.compile(rf"^{name}\b"))


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")


def overflows(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def meant(log: Any, vote: Any) -> str:
    """The text that a pairwise vote chose, or tie, or both_bad."""
    texts = dict(zip("ab", log.batches.item(vote.item).completions, strict=True))
    return texts.get(vote.choice, vote.choice)


def ready(page: Page, number: int) -> None:
    """Until this person's item of that number is there, and may be answered: not in its first 300 ms."""
    page.locator("#item-heading").get_by_text(f"Item {number}", exact=True).wait_for()
    page.clock.run_for(300)
    assert state(page) == "ready"


def state(page: Page) -> str:
    return page.evaluate("document.body.dataset.state")


class Desk:
    """A labelling project, served. ``p1``, ``p2`` ... are the names of its people."""

    def __init__(
        self, directory: Path, items: list[Item], people: int = 1, renderer: str | None = None, **settings: Any
    ) -> None:
        from pipeline.labelling.log.log import Log
        from pipeline.labelling.settings import LabelSection

        self.log = Log(directory / "demo-labels")
        for n in range(people):
            self.log.people.add(f"p{n + 1}")
        self.log.batches.open("batch", {})
        self.log.batches.add_items(items)
        self.settings = LabelSection(**({"mode": items[0].mode, "port": 0, "title": "Demo"} | settings))
        self.server: Any = None
        self.renderer = renderer

    def __enter__(self) -> Desk:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.log.close()

    def start(self) -> None:
        """Serve; after a stop, at the same address."""
        from pipeline.labelling.web.server import Server

        self.server = Server(self.log, self.settings, "demo", None, self.renderer)
        self.server.__enter__()
        self.settings = replace(self.settings, port=self.server.port)

    def stop(self) -> None:
        if self.server is not None:
            self.server.__exit__(None, None, None)
            self.server = None

    def id_of(self, name: str) -> str:
        return next(person.id for person in self.log.people.all() if person.name == name)

    def agree(self, name: str = "p1") -> None:
        """Consent, as if given on the page before."""
        from pipeline.labelling.web.server import read_consent

        consent = read_consent(self.settings.consent)
        agree(self.log, self.id_of(name), consent.sha256, consent.version)

    def open(self, page: Page, name: str = "p1", *, agreed: bool = True) -> None:
        """Follow the person's link, and wait for the first item."""
        if agreed and self.log.answers.consent_of(self.id_of(name)) is None:
            self.agree(name)
        page.goto(dict(self.server.links())[name])
        if agreed:
            ready(page, 1)
