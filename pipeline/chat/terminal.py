"""The body of ``chat``: a conversation in the terminal with base and policy, whose answers stream in turn.

A line is a message; a line that begins with a slash is a command. From a pipe it works the same.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any, TextIO

from pipeline.base.errors import DataError, PipelineError
from pipeline.base.process import say
from pipeline.base.terminal_text import escape_lines
from pipeline.chat import options, project, votes
from pipeline.chat.asking import Talk
from pipeline.chat.conversation import NO_TEMPLATE
from pipeline.chat.engine import Engine
from pipeline.chat.exchange import Shown, ticket
from pipeline.chat.questions import Update
from pipeline.chat.talk import parser
from pipeline.chat.web.server import CONSENT
from pipeline.chat.why import ask_why, printed
from pipeline.formats.messages import Message
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewConsent
from pipeline.labelling.log.people import Person
from pipeline.labelling.terminal.keys import Screen
from pipeline.labelling.web.server import read_consent

HELP = """\
/1 /2            the first, or the second, answer is better
/tie /bad        both are as good; both are bad
/like N          thumbs up for answer N
/dislike N       thumbs down
/edit N          write a better answer than N
/undo            take your choice between the two back
/why N           the reward model's score after each token of answer N
/why N divided   the score divided over the tokens (needs captum)
/go N            go on from answer N; by default from the one you chose, else the policy's
/new             begin a new conversation
/turns on|off    whether messages belong to one conversation
/help  /quit"""
CHOICES = {"/1": "a", "/2": "b", "/tie": "tie", "/bad": "both_bad", "/undo": None}
LOOK_SECONDS = 0.2


def main(argv: list[str]) -> int:
    """Talk until the input ends.

    Raises:
        PipelineError: see :func:`pipeline.chat.talk.main`.
    """
    args = parser().parse_args(argv)
    store, served, settings = options.served_of(args)
    screen = Screen(sys.stdout)
    with contextlib.closing(project.open_log(store, served.project)) as log:
        person = log.people.add(args.person)
        say("chat", f"loading {served.policy.ref} and {served.base_answerer.ref}")
        with contextlib.closing(Engine.load(store, served, settings)) as engine:
            session = Session(log, person, Talk(engine, served, args.blind), screen)
            with contextlib.suppress(EOFError):
                session.run()
        screen.line()
        if lines := votes.standing(log).lines():
            for line in [*lines, f"To make a dataset of the votes: {options.publishing('chat', args, served)}"]:
                screen.line(line)
    return 0


@dataclass
class Answered:
    """The exchange on the screen, and what was said of it."""

    shown: Shown
    text: str
    signature: str
    question: str
    answers: list[str]
    goes_on: int
    better: dict[int, str] = field(default_factory=dict[int, str])


class Session:
    """One person's conversation."""

    def __init__(self, log: Log, person: Person, talk: Talk, screen: Screen, stdin: TextIO | None = None) -> None:
        self.log, self.person, self.talk, self.screen = log, person, talk, screen
        self.blind, self.stdin = talk.blind, stdin or sys.stdin
        self.turns = talk.engine.prompting.has_template
        self.history: list[Message] = []
        self.last: Answered | None = None

    def run(self) -> None:
        """Talk until the input ends. Raises EOFError then."""
        if not self.agreed():
            return
        base, policy = self.talk.served.answerers
        self.screen.line(f"{policy.ref} beside its base, {base.ref}. Write a message, or /help.")
        if self.talk.served.note is not None:
            self.screen.text(self.talk.served.note)
        if not self.talk.engine.prompting.has_template:
            self.screen.text(f"{NO_TEMPLATE} Here each message stands alone, unless you say /turns on.")
        while True:
            line = self.line("you> ")
            if not line.strip():
                continue
            try:
                if line.startswith("/"):
                    if not self.command(*line.split()):
                        return
                else:
                    self.ask(line)
            except PipelineError as err:
                self.screen.text(str(err))

    def agreed(self) -> bool:
        """Whether the person has agreed to the text; asks them first."""
        consent = read_consent(str(CONSENT))
        if self.log.answers.consent_of(self.person.id) == consent.sha256:
            return True
        self.screen.text(consent.text)
        while (key := self.line("Do you agree? [y]es  [n]o ").strip()[:1].lower()) not in ("y", "n"):
            pass
        if key == "n":
            return False
        event = NewConsent(
            key=uuid.uuid4().hex, annotator=self.person.id, version=consent.version, sha256=consent.sha256
        )
        self.log.events.append(event)
        return True

    def line(self, question: str) -> str:
        """The next line; one that ends with a backslash goes on. Raises EOFError at the end."""
        lines = [self._line(question)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._line("...> "))
        return "\n".join(lines)

    def _line(self, question: str) -> str:
        if self.stdin is sys.stdin and sys.stdin.isatty():
            try:
                text = input(question)
            except KeyboardInterrupt:
                raise EOFError from None
        else:
            self.screen.put(question)
            text = self.stdin.readline()
            self.screen.line()
            if not text:
                raise EOFError
        # The log rejects lone surrogates and NUL.
        return text.encode("utf-8", "replace").decode().replace("\0", "").rstrip("\n")

    # Asking

    def ask(self, text: str) -> None:
        """Ask both, and show the answers as they come."""
        before = list(self.history), self.last
        messages = [*self.so_far(), {"role": "user", "content": text}]
        updates: queue.SimpleQueue[Update] = queue.SimpleQueue()
        try:
            asked = self.talk.ask(self.person.id, messages, updates.put, self.log.people)
        except PipelineError:  # too long, such as: the last answers can still be voted on
            self.history, self.last = before
            raise
        try:
            exchange = asked.exchange(self.show(updates, asked.order))
        except KeyboardInterrupt:
            asked.stop()
            self.screen.line("\n(stopped)")
            return
        shown = Shown.of(exchange, self.log.people)
        answers = list(exchange.completions)
        self.last = Answered(shown, *ticket(exchange, self.log.people), text, answers, 0 if self.blind else 1)

    def so_far(self) -> list[Message]:
        """The conversation up to now, with the last exchange in it."""
        last = self.last
        if not self.turns:
            self.history = []
        elif last is not None:
            answer = last.better.get(last.goes_on, last.answers[last.goes_on])
            self.history += [
                {"role": "user", "content": last.question},
                {"role": "assistant", "content": answer},
            ]
        self.last = None
        return self.history

    def show(self, updates: queue.SimpleQueue[Update], order: tuple[int, ...]) -> dict[int, Update]:
        """Print the answers, the second once the first has ended; returns both by side."""
        done: dict[int, Update] = {}
        texts, printed, place = ["", ""], 0, 0
        self.screen.line(self.name(0, order), bold=True)
        for update in _until_over(updates):
            if update.kind == "waits":
                self.screen.line(f"({update.number} before you)")
                continue
            texts[update.side] = update.text
            if update.kind == "done":
                done[update.side] = update
            while place < 2:
                side = order[place]
                self.screen.put(escape_lines(texts[side][printed:]))
                printed = len(texts[side])
                if side not in done:
                    break
                self.screen.line("\n" + _about(done[side], self.blind))
                place, printed = place + 1, 0
                if place < 2:
                    self.screen.line(self.name(place, order), bold=True)
        return done

    def name(self, place: int, order: tuple[int, ...]) -> str:
        return f"{place + 1}" if self.blind else f"{place + 1} {('base', 'policy')[order[place]]}"

    # Commands

    def command(self, word: str, *rest: str) -> bool:
        """Run a command; False for the last one."""
        if word == "/quit":
            return False
        if word == "/help":
            self.screen.line(HELP)
        elif word == "/new":
            self.history, self.last = [], None
            self.screen.line("A new conversation.")
        elif word == "/turns" and rest in (("on",), ("off",)):
            self.turns = rest == ("on",)
            self.screen.line("Messages are turns." if self.turns else "Each message stands alone.")
        elif word == "/why":
            self.why(word, *rest)
        elif word in CHOICES or word in ("/like", "/dislike", "/edit", "/go"):
            self.opinion(word, rest)
        else:
            raise DataError(" ".join((word, *rest)), "is no command.", "/help lists them.")
        return True

    def why(self, word: str, which: str = "", *how: str) -> None:
        """Print how the score of an answer came about."""
        last = self._last(word)
        if which not in ("1", "2") or how not in ((), ("divided",)):
            raise DataError(word, "which one?", "Write /why 1 or /why 2.")
        values = {"exchange": last.text, "signature": last.signature, "place": int(which) - 1}
        explanation = ask_why(self.talk, self.log, self.person.id, values | {"attribution": bool(how)})
        try:
            while not explanation.result.done():  # in short waits, so that Ctrl-C is heard
                wait([explanation.result], LOOK_SECONDS)
        except KeyboardInterrupt:
            explanation.stop()
            self.screen.line("\n(stopped)")
            return
        for line in printed(explanation.result.result()):
            self.screen.text(line) if line else self.screen.line()

    def _last(self, word: str) -> Answered:
        if self.last is None:
            raise DataError(word, "there is no answer yet.", "Write a message first.")
        return self.last

    def opinion(self, word: str, rest: tuple[str, ...]) -> None:
        """Record what the person says of the last exchange."""
        last = self._last(word)
        if word in CHOICES:
            choice = CHOICES[word]
            self.send(last, type="better", choice=choice)
            if choice in ("a", "b"):
                last.goes_on = "ab".index(choice)
            if self.blind and choice is not None:
                names = [last.shown.exchange.answerers[side].ref for side in last.shown.order]
                self.screen.line(f"1 was {names[0]}, 2 was {names[1]}.")
            return
        if rest not in (("1",), ("2",)):
            raise DataError(word, "which one?", f"Write {word} 1 or {word} 2.")
        place = int(rest[0]) - 1
        if word == "/go":
            last.goes_on = place
            went_on = f"The next message goes on from answer {place + 1}."
            self.screen.line(went_on if self.turns else "Each message stands alone: /turns on changes that.")
        elif word == "/edit":
            self.screen.line("Your better answer; an empty line ends it:")
            text = "\n".join(iter(lambda: self._line(""), ""))
            self.send(last, type="edit", place=place, text=text)
            last.better[place] = text
        else:
            self.send(last, type="thumb", place=place, choice=word[1:])

    def send(self, last: Answered, **opinion: Any) -> None:
        """Record an opinion; it is on the disk before this says so."""
        values = {"key": uuid.uuid4().hex, "exchange": last.text, "signature": last.signature, **opinion}
        votes.record(self.log, self.person.id, values)
        self.screen.line("Taken back." if opinion.get("choice", "") is None else "Saved.")


def _until_over(updates: queue.SimpleQueue[Update]) -> Iterator[Update]:
    """The updates until both answers have ended. Raises DataError where they failed."""
    while True:
        try:
            update = updates.get(timeout=LOOK_SECONDS)  # in short waits, so that Ctrl-C is heard
        except queue.Empty:
            continue
        if update.kind == "failed":
            raise DataError("the answer", update.text)
        if update.kind == "over":
            return
        yield update


def _about(update: Update, blind: bool) -> str:
    score = "" if update.score is None or blind else f"score {update.score:.2f}, "
    cut = "" if update.ended else ", cut by its length"
    return f"  ({score}{update.number} {'token' if update.number == 1 else 'tokens'}{cut})"
