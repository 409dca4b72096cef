"""Draw a tune on a staff as SVG: clef, key, metre, notes and bar lines."""

from __future__ import annotations

from fractions import Fraction

from pipeline.texts.abc_tunes import Bar, Key, Note, Tune

GAP = 8.0
"""Between two lines of the staff; the unit of all else."""

WIDTH = 400.0
"""Of a row; a bar that does not fit begins the next one."""

ROW = 11 * GAP
MOST_NOTES = 160
"""A tune with more is drawn up to here."""

_SHARPS, _FLATS = (10, 7, 11, 8, 5, 9, 6), (6, 9, 5, 8, 4, 7, 3)
"""Steps above middle C of a signature's signs."""

_SIGNS = {"^": "♯", "^^": "𝄪", "_": "♭", "__": "𝄫", "=": "♮"}
_LEDGERS = ((0, -40, -2), (12, 40, 2))
_CLEF = "M7 21c-4 0-4-6 1-6c6 0 6 10-1 10c-9 0-9-12-1-18c6-5 6-14 2-14c-4 0-4 9-2 18l3 22c0 5-6 4-5 1"


def staff_svg(tune: Tune) -> str:
    """An ``<svg>`` of the first :data:`MOST_NOTES` notes in rows of :data:`WIDTH`."""
    rows: list[str] = []
    drawn, x = _head(tune)
    left = MOST_NOTES
    for bar in tune.bars[:MOST_NOTES]:
        notes, width = _bar(bar, left)
        if x + width > WIDTH and x > 60:
            rows.append(_row(drawn, x, len(rows)))
            drawn, x = _clef(tune.key)
        drawn += f'<g transform="translate({x:.0f} 0)">{notes}</g>'
        x += width
        left -= len(bar.notes)
        if left <= 0:
            break
    rows.append(_row(drawn, x, len(rows)))
    height = ROW * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="the tune as a score" fill="currentColor" font-family="serif">{"".join(rows)}</svg>'
    )


def _y(step: float) -> float:
    """Of a step above middle C: B above it is on the middle line, at 0."""
    return (6 - step) * GAP / 2


def _line(x1: float, y1: float, x2: float, y2: float, width: float = 1) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="currentColor" stroke-width="{width}"/>'


def _text(x: float, y: float, size: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.0f}">{text}</text>'


def _row(drawn: str, width: float, number: int) -> str:
    lines = "".join(_line(0, i * GAP, width, i * GAP, 0.7) for i in (-2, -1, 0, 1, 2))
    return f'<g transform="translate(0 {ROW * (number + 0.5):.0f})">{lines}{drawn}</g>'


def _clef(key: Key | None) -> tuple[str, float]:
    drawn = f'<path d="{_CLEF}" transform="translate(5 -8)" fill="none" stroke="currentColor" stroke-width="1.6"/>'
    x, sharps = 24.0, key.sharps if key else 0
    for step in (_SHARPS if sharps > 0 else _FLATS)[: abs(sharps)]:
        drawn += _text(x, _y(step) + 5, 16, "♯" if sharps > 0 else "♭")
        x += 8
    return drawn, x + 6


def _head(tune: Tune) -> tuple[str, float]:
    """The clef with its key and the metre, and where the bars begin."""
    drawn, x = _clef(tune.key)
    if tune.metre is None:
        return drawn, x
    above, below = tune.metre_signature
    return drawn + _text(x, -1, 19, str(above)) + _text(x, 2 * GAP - 1, 19, str(below)), x + 20


def _bar(bar: Bar, most: int) -> tuple[str, float]:
    """At most so many notes and the line at their end, and the width of all."""
    drawn, x = "", 6.0
    for note in bar.notes[:most]:
        if note.accidental:
            x += 7
            drawn += _text(x - 8, _y(note.step) + 5, 15, _SIGNS[note.accidental])
        drawn += _note(note, x)
        x += 11 + 11 * min(float(note.length) * 8, 8) ** 0.5
    if not bar.line:
        return drawn, x
    bottom, top = 2 * GAP, -2 * GAP
    if ":" in bar.line:
        drawn += _head_of(x - 4, -GAP / 2, True, 1.5) + _head_of(x - 4, GAP / 2, True, 1.5)
    if bar.line in ("|]", ":|", "||", "::", ":|:"):
        drawn += _line(x, top, x, bottom)
        drawn += _line(x + 4, top, x + 4, bottom, 1 if bar.line == "||" else 3)
        return drawn, x + 6
    return drawn + _line(x, top, x, bottom), x


def _head_of(x: float, y: float, full: bool, size: float = 4.6) -> str:
    fill = "currentColor" if full else "none"
    flat = size * 0.75
    path = f"M{x - size:.1f} {y:.1f}a{size} {flat} 0 1 0 {2 * size} 0a{size} {flat} 0 1 0 {-2 * size} 0Z"
    return f'<path d="{path}" fill="{fill}" stroke="currentColor" stroke-width="1.2"/>'


def _note(note: Note, x: float) -> str:
    eighths = note.length * 8
    if note.pitch is None:
        return f'<rect x="{x:.1f}" y="{-GAP / 2}" width="7" height="{GAP / 2}"/>'
    y = _y(note.step)
    drawn = _head_of(x + 5, y, eighths < 4)
    for first, last, way in _LEDGERS:
        for step in range(first, last, way):
            if (note.step - step) * way >= 0:
                drawn += _line(x - 2, _y(step), x + 12, _y(step))
    if eighths < 8:
        up = note.step < 6
        stem, tip = (x + 9.3, y - 3.4 * GAP) if up else (x + 0.7, y + 3.4 * GAP)
        drawn += _line(stem, y, stem, tip)
        for flag in range(_flags(eighths)):
            at = tip + (6 if up else -6) * flag
            drawn += _line(stem, at, stem + 7, at + (9 if up else -9), 2)
    if eighths.numerator in (3, 7):
        drawn += _head_of(x + 14, y - 2, True, 1.3)
    return drawn


def _flags(eighths: Fraction) -> int:
    """An eighth has one, a sixteenth two."""
    return 0 if eighths >= 2 else 1 if eighths >= 1 else 2
