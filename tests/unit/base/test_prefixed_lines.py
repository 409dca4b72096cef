"""Lines of several processes on one terminal."""

from __future__ import annotations

import io

import pytest

from pipeline.base import prefixed_lines
from pipeline.base.prefixed_lines import PrefixedLines


class Written(io.StringIO):
    """Keeps what each write wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str, /) -> int:
        self.writes.append(text)
        return len(text)


# Mutations caught: parts of lines are passed on; a line and its end are two writes; \r\n is taken for a bar.
def test_whole_lines_each_in_one_write() -> None:
    out = Written()
    lines = PrefixedLines(out, "a | ")
    for text in ("one", " line", "\n", "two\nthree\r\nfo", "ur"):
        assert lines.write(text) == len(text)
    assert out.writes == ["a | one line\n", "a | two\n", "a | three\n"]
    print(" and its end", file=lines)
    assert out.writes[3:] == ["a | four and its end\n"]


def test_a_bar_that_redraws_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(prefixed_lines.time, "monotonic", lambda: now[0])
    out = Written()
    lines = PrefixedLines(out, "a | ")
    for seconds in range(0, 80, 10):
        now[0] = float(seconds)
        lines.write(f"\r{seconds} %")
    assert out.writes == ["a | 40 %\n"]
    lines.write("\n")
    assert out.writes[1:] == ["a | 70 %\n"]
