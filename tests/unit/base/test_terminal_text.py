"""Texts of others on a terminal: nothing in them is obeyed, and they keep to their columns."""

from __future__ import annotations

import io
import json
import sys

import pytest

from pipeline.base.terminal_text import columns, cut, escape_for_terminal, is_control, put, put_json, put_table


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\nb\tc", "a␊b␉c"),
        ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        ("\x7f\x9b31m", "␡<U+009B>31m"),  # C1's one-character CSI, which xterm obeys
        ("admin\u202etxt.exe", "admin<U+202E>txt.exe"),
        ("a\u2028b\ud800", "a<U+2028>b<U+D800>"),
        ("सी\u200dता é 中", "सी\u200dता é 中"),
    ],
)
def test_what_a_terminal_would_obey_is_a_sign(text: str, seen: str) -> None:
    assert escape_for_terminal(text) == seen


@pytest.mark.parametrize(
    ("text", "width", "start", "end"),
    [
        ("abcdef", 6, "abcdef", "abcdef"),
        ("abcdef", 4, "abc…", "…def"),
        ("中文字", 5, "中文…", "…文字"),
        ("中文字", 4, "中…", "…字"),  # two columns each: half of one does not fit
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…", "…e\u0301"),
    ],
)
def test_cut_by_columns(text: str, width: int, start: str, end: str) -> None:
    assert (cut(text, width), cut(text, width, end=True)) == (start, end)
    assert max(columns(start), columns(end)) <= width


def test_a_terminal_that_lacks_a_character_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    put("né → 中")
    assert raw.getvalue() == "né ? ?\n".encode("latin-1")


def test_json_reads_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a\x1b[2J": "\x9b\x7f\u202e\u2028\U000e0041\ud800 é 中\n"}
    put_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert said.isprintable() or not [c for c in said if is_control(c) and c != "\n"]
    assert "é 中" in said


def test_a_table_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    put_table([("中文", "1", "x"), ("a\nb", "100", "\x1b[2J")], right={1}, indent="  ")
    assert capsys.readouterr().out == "  中文    1  x\n  a␊b   100  ␛[2J\n"
    put_table([])
