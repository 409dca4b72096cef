"""A text stream whose lines begin with the name of whoever wrote them, as several processes share a terminal."""

from __future__ import annotations

import io
import time
from typing import TextIO

REDRAWN_EVERY = 30.0
"""Seconds between two lines of a progress bar that redraws itself."""


class PrefixedLines(io.TextIOBase):
    """Passes whole lines on, each in one write; of a progress bar a line now and then and its last state."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._begun = stream, prefix, ""
        self._drawn = time.monotonic()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        bar, redrawn, begun = self._begun.rpartition("\r")
        if redrawn:
            self._begun = redrawn + begun
            state = begun or bar.rpartition("\r")[2]
            if state and time.monotonic() - self._drawn > REDRAWN_EVERY:
                self._drawn = time.monotonic()
                shown.append(state)
        for line in shown:
            self._stream.write(f"{self._prefix}{line}\n")
        if shown:
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing: a line that has only begun stays here, and whole ones are passed on at once."""
