"""Tunes in ABC notation, as bars of notes: what the gold score counts and what the report draws.

Reads one voice: the fields M, L and K, notes, rests and bar lines. Whatever else stands in a bar (chords, tuplets,
words) is kept as unread text, so that no reader takes a bar for whole that it has not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

CLOSING = ("|]", ":|")
"""Bar lines that may end a tune."""

_FIELD = re.compile(r"([A-Za-z]):[ \t]*([^\n]*?)[ \t]*(?:\n|\Z)")
_TOKEN = re.compile(
    r"(?P<line>:\|:?|\|[\]:|]?|::)"
    r"|(?P<accidental>\^{1,2}|_{1,2}|=)?(?P<letter>[A-Ga-gz])(?P<octave>'{1,2}|,{1,2})?(?P<times>\d{1,2})?"
    r"(?P<parts>/{1,2}\d{0,2})?"
    r"|(?P<space>\s+)"
)
_LETTERS = "CDEFGAB"
_SEMITONES = (0, 2, 4, 5, 7, 9, 11)
_ACCIDENTALS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
_FIFTHS = "FCGDAEB"
"""Sharps are added in this order, flats in the reverse one."""
_KEY = re.compile(r"([A-G])([#b]?)\s*(maj\w*|min\w*|m)?", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A major or minor key.

    Attributes:
        tonic: pitch class, 0 (C) to 11.
        sharps: of the signature; below 0 flats.
    """

    name: str
    tonic: int
    minor: bool
    sharps: int

    @property
    def scale(self) -> frozenset[int]:
        """Its pitch classes; in minor the raised seventh too, which cadences use."""
        steps = (0, 2, 3, 5, 7, 8, 10, 11) if self.minor else _SEMITONES
        return frozenset((self.tonic + step) % 12 for step in steps)

    def alters(self, letter: str) -> int:
        """What the signature adds to the note of this letter, in semitones."""
        place = _FIFTHS.index(letter)
        if self.sharps >= 0:
            return int(place < self.sharps)
        return -int(6 - place < -self.sharps)


@dataclass(frozen=True)
class Note:
    """A note or a rest.

    Attributes:
        pitch: in semitones, middle C is 60; None is a rest.
        step: place on the staff, in steps above middle C.
        length: in whole notes.
        accidental: as written before it, or empty.
    """

    pitch: int | None
    step: int
    length: Fraction
    accidental: str = ""


@dataclass(frozen=True)
class Bar:
    """What stands between two bar lines.

    Attributes:
        line: the bar line at its end; empty where the text ends first.
        end: offset in the text, after that line.
        unread: text in it that is no note, rest or space.
    """

    notes: tuple[Note, ...]
    line: str
    end: int
    unread: str = ""

    @property
    def length(self) -> Fraction:
        """In whole notes."""
        return sum((note.length for note in self.notes), Fraction(0))

    @property
    def pitches(self) -> list[int]:
        """Of the notes that sound, in order."""
        return [note.pitch for note in self.notes if note.pitch is not None]


@dataclass(frozen=True)
class Tune:
    """A parsed tune. ``metre``: the length of a bar in whole notes; None for free metre or an unread field."""

    metre: Fraction | None
    key: Key | None
    bars: tuple[Bar, ...]
    metre_signature: tuple[int, int] = (4, 4)
    """As written: a bar of 6/8 is as long as one of 3/4."""


def parse_tune(text: str) -> Tune:
    """Parse one tune; every text is some tune, perhaps one without bars."""
    fields, at = _header(text)
    key = parse_key(fields.get("K", ""))
    unit = _fraction(fields.get("L", "1/8")) or Fraction(1, 8)
    written = {"C": "4/4", "C|": "2/2"}.get(fields.get("M", ""), fields.get("M", ""))
    above, _, below = written.partition("/")
    metre = _fraction(written)
    signature = (int(above), int(below)) if metre else (4, 4)
    return Tune(metre, key, tuple(_bars(text, at, unit, key)), signature)


def parse_key(name: str) -> Key | None:
    """``G``, ``Bb``, ``F#m``, ``A minor``; None for any other."""
    match = _KEY.fullmatch(name)
    if match is None:
        return None
    letter, sign, mode = match[1].upper(), match[2], (match[3] or "").lower()
    shift = {"#": 1, "b": -1, "": 0}[sign]
    minor = mode.startswith("m") and not mode.startswith("maj")
    sharps = _FIFTHS.index(letter) - 1 + 7 * shift - 3 * minor
    if not -7 <= sharps <= 7:
        return None
    tonic = (_SEMITONES[_LETTERS.index(letter)] + shift) % 12
    return Key(f"{letter}{sign}{'m' if minor else ''}", tonic, minor, sharps)


def _header(text: str) -> tuple[dict[str, str], int]:
    """The fields before the notes, and where the notes begin: after K, which ends a header."""
    fields: dict[str, str] = {}
    at = 0
    while (match := _FIELD.match(text, at)) is not None:
        fields[match[1]] = match[2]
        at = match.end()
        if match[1] == "K":
            break
    return fields, at


def _fraction(text: str) -> Fraction | None:
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})", text)
    return Fraction(int(match[1]), int(match[2])) if match and int(match[2]) else None


def _bars(text: str, at: int, unit: Fraction, key: Key | None) -> list[Bar]:
    bars: list[Bar] = []
    notes: list[Note] = []
    altered: dict[int, int] = {}  # by step: an accidental holds until the bar line
    unread = ""
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            unread += text[at]
            at += 1
            continue
        at = match.end()
        if match["letter"]:
            notes.append(_note(match, unit, key, altered))
        elif match["line"]:
            opens = match["line"] == "|:" or not bars  # a line before the first note, or a second part
            if notes or unread or not opens:
                bars.append(Bar(tuple(notes), match["line"], at, unread))
            notes, altered, unread = [], {}, ""
    if notes or unread:
        bars.append(Bar(tuple(notes), "", len(text), unread))
    return bars


def _note(match: re.Match[str], unit: Fraction, key: Key | None, altered: dict[int, int]) -> Note:
    parts = match["parts"] or ""
    divisor = int(parts.strip("/") or 2 ** parts.count("/")) or 1
    length = unit * int(match["times"] or 1) / divisor
    letter, accidental = match["letter"], match["accidental"] or ""
    if letter == "z":
        return Note(None, 0, length)
    octave = letter.islower() + (match["octave"] or "").count("'") - (match["octave"] or "").count(",")
    step = 7 * octave + _LETTERS.index(letter.upper())
    if accidental:
        altered[step] = _ACCIDENTALS[accidental]
    shift = altered.get(step, key.alters(letter.upper()) if key else 0)
    return Note(60 + 12 * octave + _SEMITONES[step % 7] + shift, step, length, accidental)
