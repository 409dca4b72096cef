"""Label in a terminal, one item at a time. Ratings, rankings, edits and marked differences need the page."""

from __future__ import annotations

import re
import sys
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.terminal_text import escape_lines
from pipeline.labelling.conversation import turns
from pipeline.labelling.items import Item, as_meant, as_shown, order_of
from pipeline.labelling.log.database import Refused
from pipeline.labelling.log.event_checks import Asked
from pipeline.labelling.log.events import Event, Receipt
from pipeline.labelling.log.new_event import Malformed, parse_event
from pipeline.labelling.log.people import Person
from pipeline.labelling.log.queue import Assignment, Plan
from pipeline.labelling.settings import FLAG_REASONS, SKIP_REASONS, LabelSection
from pipeline.labelling.terminal.keys import Keys, Screen, keyboard

if TYPE_CHECKING:
    from pipeline.labelling.log.log import Log
    from pipeline.labelling.web.context import Consent

POLL_SECONDS = 2.0

CHOICES = {
    "pairwise": {"1": "a", "left": "a", "2": "b", "right": "b", "t": "tie", "b": "both_bad"},
    "thumbs": {"1": "like", "up": "like", "2": "dislike", "down": "dislike"},
}
WORDS = {"a": "1 is better", "b": "2 is better", "tie": "tie", "both_bad": "both bad"}
HELP = {
    "pairwise": """\
1 2  the first, or the second, is better (also arrow left, arrow right)
t    tie
b    both are bad""",
    "thumbs": "1 2  you like it, or you do not (also arrow up, arrow down)",
}
HELP_ALWAYS = """\
s    skip, with a reason
u    undo your last answer: the item is asked again
f    flag the item, or remove the flag
r    show the item again
q    stop; the same command continues"""


def label(
    log: Log,
    settings: LabelSection,
    person: Person,
    consent: Consent,
    *,
    guidelines: str | None = None,
    title: str = "",
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> int:
    """Ask ``person`` about one item after another until none is left or they stop.

    Every answer is in the log before the next item is shown. A terminal is read by keys, a file or a pipe by
    lines, one key each.

    Returns:
        0, also where the person stopped or did not agree to the text.
    Raises:
        ConfigError: the mode needs the page.
        Refused: the person is unknown or was withdrawn.
    """
    if settings.mode not in CHOICES:
        remedy = "Use the page: make label, without TERMINAL=1."
        raise ConfigError(f"label.mode = {settings.mode}", "cannot be answered in a terminal.", remedy)
    screen = Screen(stdout or sys.stdout)
    with keyboard(stdin or sys.stdin, screen) as keys:
        session = _Session(log, settings, person, screen, keys, guidelines)
        try:
            if title:
                screen.line(escape_lines(title), bold=True)
            if session.agreed(consent):
                session.run()
        except (EOFError, KeyboardInterrupt):
            screen.line()
    answered, _ = log.queue.answered_and_left(person.id, settings.votes)
    screen.line(f"{answered} answered and saved. The same command continues.")
    return 0


class _Session:
    """One person's session, from the consent to the last answer."""

    def __init__(
        self, log: Log, settings: LabelSection, person: Person, screen: Screen, keys: Keys, guidelines: str | None
    ) -> None:
        self.log, self.settings, self.person = log, settings, person
        self.screen, self.keys, self.guidelines = screen, keys, guidelines
        self.plan = Plan.of(settings)
        self.note = ""

    def agreed(self, consent: Consent) -> bool:
        """Whether the person has agreed to this text; asks them first."""
        if self.log.answers.consent_of(self.person.id) == consent.sha256:
            return True
        self.screen.text(consent.text)
        while (key := self.keys.key("Do you agree? [y]es  [n]o ")) not in ("y", "n", "q"):
            pass
        if key != "y":
            self.screen.line("You can label only after you agree.")
            return False
        return self.send("consent", version=consent.version, sha256=consent.sha256) is not None

    def run(self) -> None:
        """Ask until nothing is left or the person stops."""
        if self.guidelines:
            self.screen.text(self.guidelines)
        go_on = True
        while go_on:
            if assignment := self.log.queue.next(self.person.id, self.plan):
                go_on = self.item(assignment)
            else:
                go_on = self.nothing_left() if self.log.batches.whole else self.waiting()

    def item(self, assignment: Assignment) -> bool:
        """Show one item and record an answer; False where the person stops."""
        item = assignment.item
        order = order_of(item.id, self.person.id, self.log.people.salt, len(item.completions))
        self.note = ""
        self.show(item, order, assignment.undone)
        started, self.keys.away = time.monotonic(), 0.0
        self.keys.settle()
        choices = CHOICES[item.mode]
        done: Receipt | None = None
        while done is None:
            key = self.keys.key(self.keys_line())
            ms = round((time.monotonic() - started - self.keys.away) * 1000)
            if key == "q":
                return False
            if key in choices:
                done = self.vote(item, order, choices[key], ms)
            elif key == "s":
                done = self.skip(item, ms)
            elif key == "u":
                done = self.send("undo")
            else:
                self.aside(key, item, order)
        return True

    def aside(self, key: str, item: Item, order: Sequence[int]) -> None:
        """Handle a key that records no answer."""
        if key == "f":
            self.flag(item)
        elif key == "n" and "note" in self.settings.ask:
            self.note = self.keys.line("note: ")
        elif key == "g" and self.guidelines:
            self.screen.text(self.guidelines)
        elif key == "r":
            self.show(item, order, None)
        elif key == "?":
            self.help()
        elif key:
            self.screen.line(f"The key {escape_lines(key)} has no function here; ? lists the keys.")

    def vote(self, item: Item, order: Sequence[int], shown: str, ms: int) -> Receipt | None:
        """Record a choice by its position on screen."""
        ask = self.settings.ask
        strength = None
        if "strength" in ask and shown in ("a", "b"):
            strength = self.choose("better:", ("slightly", "much"))
            if strength is None:
                return None
        choice, tags = as_meant(shown, item.mode, order), self.tags() if "tags" in ask else []
        answer = {"choice": choice, "order": tuple(order), "strength": strength, "tags": tags}
        return self.send("vote", item, **answer, note=self.note, ms=ms)

    def tags(self) -> list[str]:
        """Ask for reasons by number."""
        names = self.settings.tags
        listed = "  ".join(f"[{n}] {escape_lines(tag)}" for n, tag in enumerate(names, 1))
        numbers = re.findall(r"\d+", self.keys.line(f"why: {listed}  (numbers, or nothing) "))
        return [names[i] for i in dict.fromkeys(int(n) - 1 for n in numbers) if 0 <= i < len(names)]

    def skip(self, item: Item, ms: int) -> Receipt | None:
        reason = self.choose("skip:", SKIP_REASONS)
        return None if reason is None else self.send("skip", item, reason=reason, note=self.note, ms=ms)

    def flag(self, item: Item) -> None:
        """Flag the item, or remove the flag."""
        on = not self.log.answers.flagged(self.person.id, item.id)
        reason = self.choose("flag:", FLAG_REASONS) if on else ""
        if reason is None:
            return
        if self.send("flag", item, on=on, reason=reason, note=self.note if on else "") is not None:
            self.screen.line(f"flagged: {reason}" if on else "no longer flagged")

    def choose(self, question: str, words: Sequence[str]) -> str | None:
        """One of ``words`` by its number; None for any other key."""
        listed = "  ".join(f"[{n}] {word}" for n, word in enumerate(words, 1))
        key = self.keys.key(f"{question} {listed}  (any other key: back) ")
        return dict(zip("123456789", words, strict=False)).get(key)

    def send(self, kind: str, item: Item | None = None, **content: Any) -> Receipt | None:
        """Record an event; after a disk error, retry it with the same key on request."""
        values = {"key": uuid.uuid4().hex, "type": kind, "annotator": self.person.id, **content}
        try:
            event = parse_event(values | ({"item": item.id} if item else {}), Asked(item, self.settings))
        except Malformed as err:  # a note that is too long
            self.screen.line(escape_lines(str(err)))
            self.note = ""
            return None
        while True:
            try:
                return self.log.events.append(event)
            except Refused as err:
                self.screen.line(escape_lines(str(err)))
                # Perhaps answered meanwhile on the page: go on to the next item.
                return Receipt(0, False, item and item.id) if kind in ("vote", "skip") else None
            except StoreError as err:
                self.screen.line(escape_lines(str(err)))
            if self.keys.key("NOT recorded. [r] try again  (any other key: discard) ") != "r":
                return None

    def nothing_left(self) -> bool:
        """Say so and offer an undo; False ends the session."""
        self.screen.rule()
        self.screen.line("No items are left for you. Thank you.")
        if self.log.answers.last(self.person.id) is None:
            return False
        self.keys.settle()
        key = self.keys.key("[u]ndo your last answer  (any other key: end) ")
        return key == "u" and self.send("undo") is not None

    def waiting(self) -> bool:
        """Wait for an item; False where the person stops."""
        self.screen.line("Waiting for more items: they are being sampled. [q]uit")
        while not self.log.batches.whole and self.log.queue.next(self.person.id, self.plan) is None:
            if self.keys.pause(POLL_SECONDS) == "q":
                return False
        return True

    def show(self, item: Item, order: Sequence[int], undone: Event | None) -> None:
        """Show the item as the page does, so that gold items and repeats look like all others."""
        screen = self.screen
        screen.rule(self.progress())
        for role, text in turns(item.prompt):
            if role:
                screen.line(escape_lines(role), bold=True)
            screen.text(text, indent="  " if role else "")
        for place, i in enumerate(order, 1):
            screen.rule(str(place) if len(order) > 1 else "")
            screen.text(item.completions[i])
        screen.rule()
        if self.log.answers.flagged(self.person.id, item.id):
            screen.line("You have flagged this item.")
        if undone is not None:
            screen.line(f"Your earlier answer: {_words_of(undone, item, order)}")

    def progress(self) -> str:
        """Items answered and left, and the time left at this person's own pace."""
        answered, left = self.log.queue.answered_and_left(self.person.id, self.settings.votes)
        seconds = self.log.queue.seconds_left(self.person.id, answered, left)
        time_left = f", about {_duration(seconds)}" if seconds is not None and left else ""
        return f"{answered} answered, {left} left{time_left}"

    def keys_line(self) -> str:
        own = {"pairwise": "[1] or [2] is better  [t]ie  [b]oth bad", "thumbs": "[1] like  [2] dislike"}
        note = "  [n]ote" if "note" in self.settings.ask else ""
        return f"{own[self.settings.mode]}  [s]kip  [u]ndo  [f]lag{note}  [?] help  [q]uit "

    def help(self) -> None:
        lines = [*HELP[self.settings.mode].splitlines(), *HELP_ALWAYS.splitlines()]
        if "note" in self.settings.ask:
            lines.append("n    a note, kept with your answer to this item")
        if self.guidelines:
            lines.append("g    the guidelines")
        if "edit" in self.settings.ask:
            lines.append("A better answer can be written on the page only.")
        for line in lines:
            self.screen.line(line)


def _words_of(undone: Event, item: Item, order: Sequence[int]) -> str:
    if undone.type == "skip":
        return "skip"
    choice = as_shown(undone.payload["choice"], item.mode, order)
    return WORDS.get(choice, choice)


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
