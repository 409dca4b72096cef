"""Play a tune into a WAV file small enough for a page: one voice, 8 bits, 8 kHz."""

from __future__ import annotations

import base64
import io
import wave

import numpy as np

from pipeline.texts.abc_tunes import Tune

RATE = 8000
SECONDS_OF_WHOLE_NOTE = 1.6
SECONDS_AT_MOST = 20.0


def sounding(tune: Tune) -> bool:
    """Whether there is anything to hear."""
    return any(bar.pitches for bar in tune.bars)


def wav(tune: Tune) -> str:
    """The tune, repeats played once, as a ``data:`` URL; cut after :data:`SECONDS_AT_MOST`."""
    tones, seconds = [np.zeros(RATE // 20)], 0.0
    for note in (note for bar in tune.bars for note in bar.notes):
        length = min(float(note.length) * SECONDS_OF_WHOLE_NOTE, SECONDS_AT_MOST - seconds)
        if length <= 0:
            break
        seconds += length
        tones.append(_tone(note.pitch, length))
    samples = (127.5 + 100 * np.concatenate(tones)).astype(np.uint8)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"


def _tone(pitch: int | None, seconds: float) -> np.ndarray:
    """A tone that fades, or silence. ``pitch`` in semitones, 69 is 440 Hz."""
    at = np.arange(int(seconds * RATE)) / RATE
    hertz = 0.0 if pitch is None else 440 * 2 ** ((pitch - 69) / 12)
    if not len(at) or not 20 < hertz < RATE / 4:
        return np.zeros_like(at)
    wave_form = np.sin(2 * np.pi * hertz * at) + 0.3 * np.sin(4 * np.pi * hertz * at)
    return wave_form / 1.3 * np.exp(-1.5 * at) * np.minimum(1, np.minimum(at, at[-1] - at) * 100)
