"""Print untrusted text on a terminal, escaped and wrapped; read keys and restore the terminal's mode."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import termios
import time
import tty
from collections.abc import Callable, Generator
from types import FrameType
from typing import TextIO

from pipeline.base.terminal_text import columns, escape_lines

WIDEST = 100
SETTLE_SECONDS = 0.3
"""Keys within this time of showing an item are dropped: a key that bounces or is held down."""


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, broken at white space where possible. Indents and empty lines stay."""
    lines: list[str] = []
    for whole in text.split("\n"):
        line, used = "", 0
        for piece in re.findall(r"\s+|\S+", whole):
            size = columns(piece)
            if used + size <= width:
                line, used = line + piece, used + size
                continue
            if used:
                lines.append(line.rstrip())
                line, used = "", 0
            for char in "" if piece.isspace() else piece:
                if used + columns(char) > width:
                    lines.append(line)
                    line, used = "", 0
                line, used = line + char, used + columns(char)
        lines.append(line)
    return lines


class Screen:
    """Output to a terminal or a file. ANSI codes only on a terminal, and not with NO_COLOR set."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.styled = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Columns of a line, which follow the terminal's size."""
        return max(20, min(shutil.get_terminal_size().columns - 1, WIDEST))

    def put(self, text: str) -> None:
        """Write trusted text; characters that the terminal's encoding lacks are escaped."""
        encoding = self.out.encoding or "utf-8"
        self.out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self.out.flush()

    def line(self, text: str = "", bold: bool = False) -> None:
        self.put((f"\x1b[1m{text}\x1b[0m" if bold and self.styled else text) + "\n")

    def rule(self, title: str = "") -> None:
        """A horizontal line with a title."""
        start = f"{title} " if title else ""
        self.line(start + "─" * max(2, self.width - columns(start)), bold=True)

    def text(self, text: str, indent: str = "") -> None:
        """Untrusted text, escaped and wrapped."""
        if not text.strip():
            self.line(indent + ("(only white space)" if text else "(empty)"))
            return
        for line in wrap(escape_lines(text), self.width - len(indent)):
            self.line((indent + line).rstrip())


class Keys:
    """Keys from a file or a pipe, one per line."""

    def __init__(self, source: TextIO, screen: Screen) -> None:
        self.source, self.screen = source, screen
        self.away = 0.0
        """Seconds that this program was suspended."""

    def key(self, question: str) -> str:
        """The next key in lower case, an arrow ("left", "up" ...), or "". Raises EOFError at the end."""
        return self.line(question).strip()[:1].lower()

    def line(self, question: str) -> str:
        """The next line. Raises EOFError at the end."""
        self.screen.put(question)
        line = self.source.readline()
        self.screen.line()
        if not line:
            raise EOFError
        # The log rejects lone surrogates and NUL.
        return line.encode("utf-8", "replace").decode().replace("\0", "").rstrip("\n")

    def settle(self) -> None:
        """Drop keys typed before the person could read the item."""

    def pause(self, seconds: float) -> str:
        """Wait; returns the key that ended it."""
        time.sleep(seconds)
        return ""


_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
_ESCAPE = re.compile(r"\x1b(?:\[|O)[0-9;]*(.)|\x1b", re.DOTALL)


class TerminalKeys(Keys):
    """Single keys from a terminal, whose mode is changed only while waiting for one."""

    def __init__(self, source: TextIO, screen: Screen) -> None:
        super().__init__(source, screen)
        self.fd = source.fileno()
        self._before = termios.tcgetattr(self.fd)
        self._typed = ""
        self._question = ""

    def key(self, question: str) -> str:
        with self._single(), self._asking(question):
            while not self._typed:
                self._read()
        key = self._next()
        self.screen.line(escape_lines(key))
        return key

    def line(self, question: str) -> str:
        self._typed = ""
        with self._asking(question):
            data = os.read(self.fd, 1 << 16)
        if not data:
            raise EOFError
        return data.decode(errors="replace").replace("\0", "").rstrip("\r\n")

    def settle(self) -> None:
        # Each repeat of a held key restarts the wait.
        with self._single():
            while select.select([self.fd], [], [], SETTLE_SECONDS)[0]:
                self._read()
        self._typed = ""

    def pause(self, seconds: float) -> str:
        with self._single():
            if not self._typed and select.select([self.fd], [], [], seconds)[0]:
                self._read()
        return self._next() if self._typed else ""

    def suspend(self) -> None:
        """Restore the terminal and stop, as Ctrl-Z does; returns when continued."""
        left, mode = time.monotonic(), termios.tcgetattr(self.fd)
        self.restore()
        own = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, own)
        termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)
        self.away += time.monotonic() - left
        self.screen.put("\n" + self._question)

    def restore(self) -> None:
        """Restore the terminal's mode."""
        termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)

    @contextlib.contextmanager
    def _asking(self, question: str) -> Generator[None]:
        self._question = question
        self.screen.put(question)
        try:
            yield
        finally:
            self._question = ""

    @contextlib.contextmanager
    def _single(self) -> Generator[None]:
        tty.setcbreak(self.fd, termios.TCSADRAIN)
        try:
            yield
        finally:
            self.restore()

    def _read(self) -> None:
        data = os.read(self.fd, 256)
        # In cbreak mode Ctrl-D is a character; typed just before it, a NUL.
        if data in (b"", b"\x04", b"\0"):
            raise EOFError
        self._typed += data.decode(errors="ignore")

    def _next(self) -> str:
        """Remove one key from the typed ones."""
        if escape := _ESCAPE.match(self._typed):
            self._typed = self._typed[escape.end() :]
            return _ARROWS.get(escape[1] or "", "")
        key, self._typed = self._typed[:1], self._typed[1:]
        return key.strip().lower()


@contextlib.contextmanager
def keyboard(source: TextIO, screen: Screen) -> Generator[Keys]:
    """The keys of ``source``: single keys from a terminal, whose mode is restored however the block ends."""
    if not source.isatty():
        yield Keys(source, screen)
        return
    keys = TerminalKeys(source, screen)

    def suspend(number: int, frame: FrameType | None) -> None:
        keys.suspend()

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handling({signal.SIGTSTP: suspend, signal.SIGTERM: end, signal.SIGHUP: end}):
        try:
            yield keys
        finally:
            with contextlib.suppress(termios.error):  # it may have been closed
                keys.restore()


@contextlib.contextmanager
def _handling(handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]]) -> Generator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
