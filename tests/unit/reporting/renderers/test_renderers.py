"""Pictures of texts in the report: from numbers alone, whatever a model wrote."""

from __future__ import annotations

import base64
import io
import re
import wave
from fractions import Fraction

import numpy as np
import pytest

from pipeline.reporting.renderers import RENDERERS, drawn
from pipeline.reporting.renderers.staff import MOST_NOTES
from pipeline.reporting.renderers.tones import RATE, SECONDS_OF_WHOLE_NOTE
from pipeline.texts.shape_pictures import MOST_SHAPES

HEADER = "X:1\nM:4/4\nL:1/8\nK:A\nA4 e4 |"


def test_no_renderer_draws_nothing() -> None:
    assert drawn(None, HEADER, " A8 |]") is None
    assert drawn("sculpture", HEADER, " A8 |]") is None


def test_a_tune_has_its_signature_and_notes() -> None:
    markup = str(drawn("abc", HEADER, " A2 =G2 c'2 z2 | A8 |]"))
    assert markup.count("♯") == 3, "the signature of A major"
    assert markup.count("♮") == 1
    heads = re.findall(r'a4\.6 3\.4\S+ 0 1 0 9\.2 0a\S+ \S+ 0 1 0 \S+ 0Z" fill="(\w+)"', markup)
    assert heads == ["none", "none", "currentColor", "currentColor", "currentColor", "none"]


# Mutations caught: a wrong length of a whole note; a pitch an octave off.
def test_a_tune_sounds_as_it_is_written() -> None:
    markup = str(drawn("abc", "L:1/4\nK:C\n", "A2 | z | a |]"))
    data = re.search(r'src="data:audio/wav;base64,([^"]+)"', markup)
    assert data
    with wave.open(io.BytesIO(base64.b64decode(data[1]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.uint8) - 127.5
    seconds = SECONDS_OF_WHOLE_NOTE * float(Fraction(2 + 1 + 1, 4))
    assert len(samples) == pytest.approx((seconds + 0.05) * RATE, abs=4)
    half = int(0.4 * SECONDS_OF_WHOLE_NOTE * RATE)
    for start, hertz in ((1000, 440), (len(samples) - half // 2, 880)):
        part = samples[start : start + half // 2]
        strongest = np.argmax(np.abs(np.fft.rfft(part))) * RATE / len(part)
        assert strongest == pytest.approx(hertz, abs=10)


def test_a_picture_is_drawn_from_its_numbers() -> None:
    markup = str(drawn("shapes", "", "\nbox red 3 4 6 4\ndisc yellow 20 13 2\ntri brown 2 8 8 3\nsun up there"))
    assert '<rect x="3" y="8" width="6" height="4" fill="#c0392b"/>' in markup
    assert 'd="M18 3.0a2.0 2.0' in markup, "a disc begins at its left: 20 - 2, and 16 - 13 from the top"
    assert 'd="M2 8H10L6.0 5Z"' in markup


HOSTILE = [
    "",
    "<script>alert(1)</script>",
    '"<svg onload=x>" c2 |]',
    "\x00\ud83d c |",
    "c9/0 " * 3000,
    "|: " * 900,
]
HOSTILE += ["\nbox red 99 99 99 99" * 500, "\nbox <b> 1 1 1 1", "\ndisc red 1 1 99\n</svg><script>"]


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_wrote_is_never_markup(renderer: str, text: str) -> None:
    markup = str(drawn(renderer, HEADER, text) or "")
    assert set(re.findall(r"</?(\w+)", markup)) <= {"svg", "g", "path", "rect", "text", "audio"}
    assert not re.search(r"\bon\w+=", markup)
    assert len(re.sub(r"base64,[^\"]*", "", markup)) < 2_000 + 500 * max(MOST_SHAPES, MOST_NOTES)
