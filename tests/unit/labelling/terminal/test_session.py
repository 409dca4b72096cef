"""Labelling in a terminal: by lines, and by keys through a pseudo-terminal with a small shell between."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.base.terminal_text import columns, escape_lines
from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.database import LogFull, Refused
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewEvent, NewVote
from pipeline.labelling.log.people import Person
from pipeline.labelling.log.queue import Queue
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.terminal import session
from pipeline.labelling.terminal.keys import Keys, wrap
from pipeline.labelling.web.context import Consent
from tests.helpers.dying import raising
from tests.unit.labelling.helpers import new_event, open_log

TEXT = "You are asked to read.\n"
CONSENT = Consent(TEXT, "1", hashlib.sha256(TEXT.encode()).hexdigest())


def items(count: int) -> list[Item]:
    return [Item(f"prompt-{i}", (f"first-{i}", f"second-{i}")) for i in range(count)]


def project(directory: Path, some: list[Item], whole: bool = True) -> tuple[Log, Person]:
    log = open_log(directory, some, whole=whole)
    return log, log.people.add("somebody")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Log, Person]]:
    log, person = project(tmp_path / "x-labels", items(3))
    yield log, person
    log.close()


def run(log: Log, person: Person, lines: str, out: Any = None, **settings: Any) -> str:
    """Answer with these words, each a line; a comma stands for an empty line."""
    out = out or io.StringIO()
    typed = "".join(f"{'' if word == ',' else word}\n" for word in lines.split())
    section = LabelSection(gold_share=0.0, **settings)
    guidelines = settings.get("guidelines")
    assert (
        session.label(log, section, person, CONSENT, guidelines=guidelines, stdin=io.StringIO(typed), stdout=out)
        == 0
    )
    return out.getvalue()


def choices(log: Log) -> dict[str, str]:
    """What was chosen, by prompt: the text, or the word where it is no text."""
    some = {i.id: i for i in log.batches.items()}
    return {
        some[v.item].prompt: dict(zip("ab", some[v.item].completions, strict=False)).get(v.choice, v.choice)
        for v in log.answers.votes()
    }


# Answers


# Mutation: the key's own letter recorded, whatever was shown there. (All orders are alike once in 2**23 times.)
def test_the_completion_shown_at_the_key_is_the_one_chosen(tmp_path: Path) -> None:
    log, person = project(tmp_path / "x-labels", items(24))
    out = run(log, person, "y" + " 1" * 24)
    for i in range(24):
        shown = re.findall(rf"(?:first|second)-{i}\b", out)
        assert choices(log)[f"prompt-{i}"] == shown[0]
        assert len(shown) == 2
    votes = log.answers.votes()
    assert {v.choice for v in votes} == {"a", "b"}
    for v in votes:
        assert v.order == order_of(v.item, person.id, log.people.salt, 2)
        assert (v.consent, v.note, v.strength, v.tags) == (CONSENT.sha256, "", None, ())
        assert v.ms is not None
        assert 0 <= v.ms < 5000


def test_tie_both_bad_and_upper_case(opened: tuple[Log, Person]) -> None:
    log, person = opened
    out = run(log, person, "Y t B 2")
    assert list(choices(log).values())[:2] == ["tie", "both_bad"]
    assert "0 answered, 3 left" in out
    assert "2 answered, 1 left" in out
    assert "No items are left for you" in out
    assert "3 answered and saved" in out


def test_a_skip_has_a_reason_and_can_be_thought_better_of(opened: tuple[Log, Person]) -> None:
    log, person = opened
    run(log, person, "y s x 1 s 2")
    assert list(choices(log)) == ["prompt-0"]
    skips = [(e.item, e.payload["reason"]) for e in log.answers.skips()]
    assert skips == [(items(2)[1].id, "not my subject")]


def test_undo_asks_again_and_says_what_was_said(opened: tuple[Log, Person]) -> None:
    log, person = opened
    out = run(log, person, "y u 2 u 1 s 1 u t")
    assert "undo: there is no answer" in out
    assert "Your earlier answer: 2 is better" in out
    assert "Your earlier answer: skip" in out
    first, second = items(2)
    assert choices(log) == {
        first.prompt: first.completions[order_of(first.id, person.id, log.people.salt, 2)[0]],
        second.prompt: "tie",
    }
    assert log.answers.skips() == []


# Mutation: what was said told in the words of the log. (All orders are alike once in 512 times.)
def test_what_was_said_is_told_as_it_was_shown(tmp_path: Path) -> None:
    log, person = project(tmp_path / "x-labels", items(10))
    out = run(log, person, "y" + " 2 u 1" * 10)
    assert out.count("Your earlier answer: 2 is better") == 10


def test_the_last_answer_can_be_taken_back_at_the_end(opened: tuple[Log, Person]) -> None:
    log, person = opened
    run(log, person, "y t t t u b")
    assert list(choices(log).values()) == ["tie", "tie", "both_bad"]


def test_a_flag_goes_on_and_off_and_answers_nothing(opened: tuple[Log, Person]) -> None:
    log, person = opened
    out = run(log, person, "y f 2 f f 1 r q")
    assert [(e.item, e.payload["reason"]) for e in log.answers.flags()] == [(items(1)[0].id, "harmful")]
    assert [e.type for e in log.events.read()] == ["consent", "flag", "flag", "flag"]
    assert out.count("You have flagged this item.") == 1
    assert log.answers.votes() == []


def test_notes_strength_and_tags_only_where_asked_for(opened: tuple[Log, Person]) -> None:
    log, person = opened
    out = run(log, person, "y n 1")
    assert "The key n has no function here" in out
    # A strength can be thought better of; a tie has none; tags may be none, and numbers without a tag are no tags.
    run(log, person, "n because 2 x 1 2 3,1,9,0 t ,", ask=["strength", "tags", "note"])
    _, second, third = log.answers.votes()
    assert (second.strength, second.tags, second.note) == ("much", ("on topic", "correct"), "because")
    assert (third.choice, third.strength, third.tags, third.note) == ("tie", None, (), "")


def test_thumbs(tmp_path: Path) -> None:
    some = [Item(f"prompt-{i}", (f"text-{i}",), "thumbs") for i in range(2)]
    log, person = project(tmp_path / "x-labels", some)
    out = run(log, person, "y t 1 2", mode="thumbs")
    assert "The key t has no function here" in out
    assert "[t]ie" not in out
    assert [v.choice for v in log.answers.votes()] == ["like", "dislike"]


@pytest.mark.parametrize("mode", ["rating", "ranking"])
def test_other_modes_need_the_page(opened: tuple[Log, Person], mode: Any) -> None:
    with pytest.raises(ConfigError, match=f"label.mode = {mode}: cannot be answered in a terminal. Use the page"):
        session.label(*opened[:1], LabelSection(mode=mode), opened[1], CONSENT, stdin=io.StringIO())


# Before and after


def test_consent_comes_first_and_only_once(opened: tuple[Log, Person]) -> None:
    log, person = opened
    out = run(log, person, "1 n")
    assert "You are asked to read." in out
    assert "prompt-0" not in out
    assert list(log.events.read()) == []
    run(log, person, "y t")
    assert log.answers.consent_of(person.id) == CONSENT.sha256
    assert "You are asked to read." not in run(log, person, "t")
    other = Consent("Another text.", "2", "0" * 64)
    out = io.StringIO()
    session.label(log, LabelSection(), person, other, stdin=io.StringIO(""), stdout=out)
    assert "Another text." in out.getvalue()


def test_the_end_of_input_is_the_end_and_the_next_time_goes_on(opened: tuple[Log, Person]) -> None:
    log, person = opened
    run(log, person, "y t s")  # in the middle of a question
    assert list(choices(log)) == ["prompt-0"]
    out = run(log, person, "q")
    assert "prompt-0" not in out
    assert "prompt-1" in out
    assert list(choices(log)) == ["prompt-0"]


def test_an_answer_is_in_the_log_before_the_next_item_is_shown(opened: tuple[Log, Person], tmp_path: Path) -> None:
    log, person = opened
    seen: list[tuple[str, int]] = []
    other = Log(tmp_path / "x-labels")

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if text.startswith("prompt-"):
                seen.append((text.strip(), len(other.answers.votes())))
            return super().write(text)

    run(log, person, "y t t t", out=Out())
    other.close()
    assert seen == [("prompt-0", 0), ("prompt-1", 1), ("prompt-2", 2)]


def test_waiting_for_items_ends_when_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, person = project(tmp_path / "x-labels", [], whole=False)
    rounds: list[Callable[[], object]] = [
        lambda: None,
        lambda: log.batches.add_items(items(1)),
        log.batches.finish,
    ]

    def pause(keys: Keys, seconds: float) -> str:
        rounds.pop(0)()
        return ""

    monkeypatch.setattr(Keys, "pause", pause)
    out = run(log, person, "y t")
    assert rounds == []
    assert out.count("Waiting for more items") == 2
    assert "No items are left" in out
    assert len(log.answers.votes()) == 1


def test_the_time_left_is_at_the_persons_own_pace(
    opened: tuple[Log, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, person = opened
    monkeypatch.setattr(Queue, "pace", lambda *_: 90_000.0)
    for counted, said in [
        ((4, 3), "4 answered, 3 left ─"),
        ((5, 3), "left, about 4 min"),
        ((9, 100), "2 h 30 min"),
    ]:
        monkeypatch.setattr(Queue, "answered_and_left", lambda *_, counted=counted: counted)
        assert said in run(log, person, "y q" if counted[0] == 4 else "q")


# What can go wrong


def test_a_disk_that_is_full_loses_no_answer_and_makes_no_second_one(
    opened: tuple[Log, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, person = opened
    run(log, person, "y q")
    append, keys = log.events.append, list[str]()

    def full(event: NewEvent) -> Any:
        keys.append(event.key)
        if len(keys) == 2:
            append(event)  # it was recorded, but the answer was lost on the way
        if len(keys) < 3:
            raise LogFull("data/x-labels", "the disk is full.")
        return append(event)

    monkeypatch.setattr(log.events, "append", full)
    out = run(log, person, "t r r q")
    assert out.count("data/x-labels: the disk is full.") == 2
    assert "prompt-1" in out
    # Mutation: a new key for each try.
    assert len(set(keys)) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", keys[0])
    assert len(log.answers.votes()) == 1


def test_an_answer_given_up_leaves_the_item_open(
    opened: tuple[Log, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, person = opened
    run(log, person, "y q")

    def full(event: NewEvent) -> Any:
        raise LogFull("data/x-labels", "the disk is full.")

    monkeypatch.setattr(log.events, "append", full)
    out = run(log, person, "t x q")
    assert "NOT recorded" in out
    assert out.count("prompt-0") == 1
    assert "prompt-1" not in out
    assert log.answers.votes() == []


def test_an_item_answered_meanwhile_on_the_page_is_left_behind(
    opened: tuple[Log, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, person = opened
    run(log, person, "y q")
    append = log.events.append

    def late(event: NewEvent) -> Any:
        monkeypatch.setattr(log.events, "append", append)
        assert isinstance(event, NewVote)
        order = order_of(event.item, person.id, log.people.salt, 2)
        append(new_event("vote", person.id, event.item, key="from-the-page", choice="a", order=tuple(order)))
        return append(event)

    monkeypatch.setattr(log.events, "append", late)
    out = run(log, person, "t t q")
    assert "prompt-2" in out
    assert [v.choice for v in log.answers.votes()] == ["a", "tie"]


def test_somebody_who_was_withdrawn_is_told(opened: tuple[Log, Person]) -> None:
    log, person = opened
    run(log, person, "y q")
    log.people.withdraw(person.id)
    with pytest.raises(Refused):
        run(log, person, "t")


# Texts


HOSTILE = (
    "\x1b[2J\x1b]0;title\x07 \x1b[8m hidden \x9b31m \u202ereversed\u202c \u2066x\u2069 z\u200bw \ud800 "
    "bell\x07 back\x08\x08 \r over \x7f \u2028 \U000e0041 soft\xad"
)


def controls(text: str) -> set[str]:
    """Characters that a terminal obeys or that cannot be seen, told by their category."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def test_nothing_in_a_text_reaches_the_terminal_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = [
        Item(
            f"\n\nHuman: {HOSTILE}\n\nAssistant: {HOSTILE}\n\nHuman: x\n\nAssistant:",
            (HOSTILE + "1", HOSTILE + "2"),
        ),
        Item(HOSTILE, (HOSTILE, "b")),
    ]
    clean = hostile[0].prompt.replace("\ud800", ""), tuple(c.replace("\ud800", "") for c in hostile[0].completions)
    log, person = project(tmp_path / "x-labels", [Item(*clean)])
    consent = Consent(HOSTILE, "1", "0" * 64)
    out = io.StringIO()
    section = LabelSection(ask=["tags", "note"], tags=[HOSTILE], gold_share=0.0)
    typed = f"y\n\x1b\n\x9b\n?\ng\nn\n{HOSTILE}\n1\n1\nq\n"
    session.label(
        log, section, person, consent, guidelines=HOSTILE, title=HOSTILE, stdin=io.StringIO(typed), stdout=out
    )
    assert controls(out.getvalue()) == set()
    for sign in ("␛[2J", "␇", "<U+009B>31m", "<U+202E>reversed", "␈", "␡", "<U+200B>", "<U+2028>", "<U+E0041>"):
        assert sign in out.getvalue()
    assert len(log.answers.votes()) == 1
    # Errors quote what was given.
    for err in (LogFull(f"data/{HOSTILE}", HOSTILE), Refused(HOSTILE, HOSTILE)):
        monkeypatch.setattr(log.events, "append", raising(err))
        said = run(log, person, "y q", out=io.StringIO())
        assert "␛[2J" in said
        assert controls(said) == set()


def test_visible_keeps_what_people_write() -> None:
    text = "né 漢字 العربية नमस्ते می‌خواهم 👩‍👩‍👧 e\u0301\n\n  two"
    assert escape_lines(text) == text
    assert escape_lines("a\tb\r\nc\rd") == "a    b\nc␍d"
    assert escape_lines("\ud800") == "<U+D800>"
    assert escape_lines("\u200b" * 3) == "<U+200B>" * 3
    assert escape_lines("x" + "\u200b" * 100_000 + "----") == "x<U+200B>×100000----"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("one     two three", ["one     two", "three"]),
        ("  indent\n\nempty ", ["  indent", "", "empty "]),
        ("abcdefghijklmnopq", ["abcdefghij", "klmnopq"]),
        ("ab cdefghijklmnop", ["ab", "cdefghijkl", "mnop"]),
        ("exactly te nxt", ["exactly te", "nxt"]),
        ("漢字漢字漢字", ["漢字漢字漢", "字"]),  # each is two columns wide
        ("e\u0301" * 11, ["e\u0301" * 10, "e\u0301"]),  # each is one
    ],
)
def test_wrapping(text: str, lines: list[str]) -> None:
    assert wrap(text, 11 if "one" in text else 10) == lines


def test_no_line_is_wider_than_the_terminal() -> None:
    text = " ".join(["word", "漢字" * 30, "x" * 70, "e\u0301" * 50, "\n", "   indented"] * 5)
    lines = wrap(text, 33)
    assert max(map(columns, lines)) <= 33
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_an_ascii_terminal_is_given_ascii(opened: tuple[Log, Person]) -> None:
    log, person = opened
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    session.label(log, LabelSection(), person, CONSENT, title="é", stdin=io.StringIO("y\nt\n"), stdout=out)
    assert b"\\xe9" in raw.getvalue()
    assert len(log.answers.votes()) == 1


# On a terminal

SHELL = """
    import os, signal, sys, fcntl, termios
    from pathlib import Path
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    def mode():
        flags = termios.tcgetattr(0)[3]
        return "cooked" if flags & termios.ICANON and flags & termios.ECHO else "raw"
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
        from pipeline.base.cli import run_cli
        from pipeline.labelling.log.log import Log
        from pipeline.labelling.log.queue import Queue
        from pipeline.labelling.settings import LabelSection
        from pipeline.labelling.terminal import keys, session
        from pipeline.labelling.web.context import Consent
        def main(argv):
            log = Log(Path(sys.argv[1]))
            person = log.people.all()[0]
            if sys.argv[3] == "crash":
                Queue.answered_and_left = lambda *_: 1 / 0
            if sys.argv[3] == "slow":
                keys.SETTLE_SECONDS = 2.0
            section = LabelSection(gold_share=0.0, ask=["note"])
            return session.label(log, section, person, Consent(sys.argv[2], "1", "0" * 64))
        run_cli(main)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        os.tcsetpgrp(0, os.getpgrp())
        if not os.WIFSTOPPED(status):
            break
        print("SHELL: stopped,", mode(), flush=True)
        input()
        os.tcsetpgrp(0, child)
        os.killpg(child, signal.SIGCONT)
    print("SHELL: ended", os.waitstatus_to_exitcode(status), mode(), flush=True)
"""


class Tty:
    """A person before a terminal of so many columns."""

    def __init__(self, directory: Path, width: int = 60, how: str = "", **env: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SHELL), str(directory), "Please read.", how],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={
                **{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")},
                "TERM": "xterm",
                **env,
            },
        )
        os.close(slave)
        self.output = ""
        self.read = 0

    def expect(self, text: str) -> str:
        """Read on until ``text`` comes; gives what came, up to and including it."""
        deadline = time.monotonic() + 60
        while (at := self.output.find(text, self.read)) < 0:
            if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} did not come after: {self.output[-500:]}")
            try:
                self.output += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"{text!r} did not come before the end: {self.output[-2000:]}") from None
        start, self.read = self.read, at + len(text)
        return self.output[start : self.read]

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def answer(self, *keys: str) -> None:
        """Each key when the item's keys are shown."""
        for key in keys:
            self.expect("[q]uit ")
            self.send(key)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        os.close(self.master)
        self.process.wait()


@pytest.fixture
def tty(opened: tuple[Log, Person], tmp_path: Path) -> Iterator[Callable[..., Tty]]:
    made: list[Tty] = []

    def start(**settings: Any) -> Tty:
        made.append(Tty(tmp_path / "x-labels", **settings))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_key_is_enough(opened: tuple[Log, Person], tty: Callable[..., Tty]) -> None:
    log, person = opened
    person_at = tty()
    person_at.expect("[n]o ")
    person_at.send("y")
    person_at.answer("T")
    person_at.answer("\x1b[C")
    person_at.answer("n")
    person_at.expect("note: ")
    person_at.send("why: \x1b[2J\n")
    person_at.answer("\x1b[A", "b")  # arrow up scrolls elsewhere, and answers nothing here
    person_at.expect("No items are left")
    person_at.expect("end) ")
    person_at.send("x")
    assert person_at.expect("SHELL: ended").count("3 answered") == 1
    person_at.expect("0 cooked")
    second = items(2)[1]
    right = second.completions[order_of(second.id, person.id, log.people.salt, 2)[1]]
    assert list(choices(log).values()) == ["tie", right, "both_bad"]
    assert log.answers.votes()[2].note == "why: \x1b[2J"
    assert "\x1b[2J" not in person_at.output
    assert "\x1b[1m" in person_at.output


@pytest.mark.thorough
def test_a_key_held_down_answers_one_item(opened: tuple[Log, Person], tty: Callable[..., Tty]) -> None:
    person_at = tty(how="slow")
    person_at.expect("[n]o ")
    person_at.send("y")
    # The first of these answers; the others were typed before the next item could be read.
    person_at.answer("ttt")
    person_at.expect("prompt-1")
    person_at.send("t")
    person_at.answer("q")
    person_at.expect("SHELL: ended 0 cooked")
    assert len(opened[0].answers.votes()) == 1


def test_lines_fit_the_width_and_no_color_is_heeded(opened: tuple[Log, Person], tty: Callable[..., Tty]) -> None:
    log, _ = opened
    long = Item("word " * 60, ("x" * 150, "漢" * 60))
    log.batches.add_items([long], [-1.0])
    person_at = tty(width=30, NO_COLOR="1")
    person_at.expect("[n]o ")
    person_at.send("y")
    shown = person_at.expect("[1] or")
    assert max(columns(line) for line in shown.replace("\r", "").split("\n")) <= 30
    assert shown.count("word") == 60
    assert shown.count("漢") == 60
    assert "\x1b" not in person_at.output
    person_at.answer("q")
    person_at.expect("SHELL: ended 0 cooked")


@pytest.mark.parametrize("key", ["\x03", pytest.param("\x04", marks=pytest.mark.thorough)])
def test_however_it_is_stopped_the_terminal_is_as_before(
    opened: tuple[Log, Person], tty: Callable[..., Tty], key: str
) -> None:
    person_at = tty()
    person_at.expect("[n]o ")
    person_at.send("y")
    person_at.answer("t", key)
    person_at.expect("1 answered and saved.")
    person_at.expect("SHELL: ended 0 cooked")
    assert len(opened[0].answers.votes()) == 1


def test_a_signal_or_a_bug_leaves_the_terminal_as_before(
    opened: tuple[Log, Person], tty: Callable[..., Tty]
) -> None:
    person_at = tty()
    person_at.expect("[n]o ")
    person_at.send("y")
    person_at.answer("t")
    person_at.expect("[q]uit ")
    # The shell's child is the group in the foreground.
    os.killpg(os.tcgetpgrp(person_at.master), signal.SIGTERM)
    person_at.expect("SHELL: ended 143 cooked")
    assert len(opened[0].answers.votes()) == 1
    crashing = tty(how="crash")
    crashing.expect("ZeroDivisionError")
    crashing.expect("SHELL: ended 1 cooked")


@pytest.mark.thorough
def test_suspended_and_continued(opened: tuple[Log, Person], tty: Callable[..., Tty]) -> None:
    log, _ = opened
    person_at = tty()
    person_at.expect("[n]o ")
    person_at.send("y")
    person_at.expect("[q]uit ")
    started = time.monotonic()
    person_at.send("\x1a")
    # Mutation: no handler for SIGTSTP: raw.
    person_at.expect("SHELL: stopped, cooked")
    time.sleep(0.8)
    person_at.send("\n")
    # The question is asked again, and single keys are read again.
    person_at.answer("t", "\x1a")
    seconds = time.monotonic() - started
    person_at.expect("SHELL: stopped, cooked")
    person_at.send("\n")
    person_at.answer("q")
    person_at.expect("SHELL: ended 0 cooked")
    (vote,) = log.answers.votes()
    assert vote.ms is not None
    # Mutation: the time away is counted as spent on the item.
    assert vote.ms < (seconds - 0.75) * 1000
