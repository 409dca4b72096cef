"""Bars, lengths and pitches of ABC tunes, by hand arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pipeline.texts.abc_tunes import parse_key, parse_tune

HEAD = "X:1\nM:3/4\nL:1/8\nK:{key}\n"


def lengths(body: str) -> list[Fraction]:
    return [bar.length * 8 for bar in parse_tune(HEAD.format(key="C") + body).bars]


def pitches(body: str, key: str = "C") -> list[int]:
    return [pitch for bar in parse_tune(HEAD.format(key=key) + body).bars for pitch in bar.pitches]


def test_lengths_in_eighths() -> None:
    assert lengths("A2 B/ c// d3/2 z4 | A/2 A3/4 |]") == [
        2 + Fraction(1, 2) + Fraction(1, 4) + Fraction(3, 2) + 4,
        Fraction(5, 4),
    ]


def test_pitches() -> None:
    assert pitches("C, C c c' B, B") == [48, 60, 72, 84, 59, 71]
    assert pitches("F ^F F | F _B =F __B", "G") == [66, 66, 66, 66, 70, 65, 69]
    assert pitches("B E A", "Eb") == [70, 63, 68]


@pytest.mark.parametrize(
    ("name", "tonic", "sharps"),
    [
        ("C", 0, 0),
        ("G", 7, 1),
        ("Bb", 10, -2),
        ("F#", 6, 6),
        ("Am", 9, 0),
        ("C#m", 1, 4),
        ("D minor", 2, -1),
        ("Cb", 11, -7),
    ],
)
def test_keys(name: str, tonic: int, sharps: int) -> None:
    key = parse_key(name)
    assert key is not None
    assert (key.tonic, key.sharps) == (tonic, sharps)


@pytest.mark.parametrize("name", ["", "H", "none", "Gb minor", "G#", "C dorian"])
def test_other_keys_are_unread(name: str) -> None:
    assert parse_key(name) is None


def test_scales() -> None:
    assert parse_key("D").scale == {2, 4, 6, 7, 9, 11, 1}  # type: ignore[union-attr]
    assert parse_key("Am").scale == {9, 11, 0, 2, 4, 5, 7, 8}  # type: ignore[union-attr]


# Mutations caught: the text of an unread bar is dropped; an empty bar is dropped; a repeat makes an empty one.
def test_bar_lines() -> None:
    bars = parse_tune(HEAD.format(key="C") + "|: A6 | | B6 :|\n|: c6 || [CE]6 what |]").bars
    assert [(bar.line, len(bar.notes), bar.unread) for bar in bars] == [
        ("|", 1, ""),
        ("|", 0, ""),
        (":|", 1, ""),
        ("||", 1, ""),
        ("|]", 3, "[]6wht"),
    ]
    assert [bar.line for bar in parse_tune("K:C\nA | B").bars] == ["|", ""]


@pytest.mark.parametrize(
    "text", ["", "K:C", "M:3/4\n", "||||", "\x00\n%%", "K:\nA2 | M:9/0 |", "1/", "L:0/8\nK:C\nA0/0"]
)
def test_every_text_is_read(text: str) -> None:
    assert all(bar.end <= len(text) for bar in parse_tune(text).bars)
