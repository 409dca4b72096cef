"""Continue a tune in ABC notation: a base of our own grammar, and a gold score from the notation.

The prompt is the header (metre, unit, key) and the first bar; the completion is the rest of the tune, which pages
draw as a score and play. Needs no download. One voice without chords, tuplets or words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.tasks import Split
from pipeline.tasks._pool import PromptPool, pool_by_hash
from pipeline.tasks.grammars.tunes import prompt, tune
from pipeline.texts.abc_tunes import CLOSING, Bar, Tune, parse_tune

GOLD_NAME = "tune by its notation (0..1)"
LEAST_BARS = 4
"""Whole bars of a tune, the prompt's included; a shorter one lacks the others."""


@dataclass
class Task:
    """Continue the first bar of a tune.

    Args:
        corpus_size: tunes to pretrain on, every second of them careless.
        openings: prompts in all.
        test_share: share of the prompts that are test prompts.
        completion_tokens: most tokens in a completion.
    """

    corpus_size: int = 8000
    openings: int = 3000
    test_share: float = 0.15
    completion_tokens: int = 64
    gold_name: str | None = field(init=False, default=GOLD_NAME)
    renderer: str | None = field(init=False, default="abc")

    @cached_property
    def _pool(self) -> PromptPool:
        rng = random.Random("openings")
        return pool_by_hash((prompt(rng) for _ in range(self.openings)), self.test_share, "task music")

    def corpus(self, seed: int) -> list[str]:
        rng = random.Random(f"corpus {seed}")
        return [tune(rng) for _ in range(self.corpus_size)]

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """See :class:`Marks`."""
        return [marks(p, c).score for p, c in zip(prompts, completions, strict=True)]


@dataclass(frozen=True)
class Marks:
    """What the notation says about a completion, each from 0 to 1.

    Attributes:
        fills: share of the bars that fill the metre exactly; the last one is the pickup's complement. Bars that
            are missing to :data:`LEAST_BARS` count as bars that do not fill.
        closes: the text ends with ``|]`` or ``:|``, and had no ``|]`` before.
        home: the last note is the tonic.
        in_key: 1 less five times the share of notes outside the key.
        moves: share of the bars but the last that have two pitches or more, differ from the bar before, and have
            not been there twice: one long note, and one bar again and again, are worth nothing.
    """

    fills: float
    closes: float
    home: float
    in_key: float
    moves: float

    @property
    def score(self) -> float:
        """The mean of ``closes``, ``home`` and ``in_key``, times ``fills``, times a third to one by ``moves``.

        Nothing makes up for overfull bars, and a tune of long notes is worth a third.
        """
        return self.fills * (1 + 2 * self.moves) / 3 * (self.closes + self.home + self.in_key) / 3


def marks(prompt: str, completion: str) -> Marks:
    """The marks of ``completion`` after ``prompt``; bars that the prompt has ended are not judged."""
    whole = parse_tune(prompt + completion)
    judged = [bar for bar in whole.bars if bar.end > len(prompt.rstrip())]
    pitches = [pitch for bar in judged for pitch in bar.pitches]
    if whole.key is None or not pitches:
        return Marks(0.0, 0.0, 0.0, 0.0, 0.0)
    outside = sum(pitch % 12 not in whole.key.scale for pitch in pitches) / len(pitches)
    lines = [bar.line for bar in judged]
    closes = lines[-1] in CLOSING and "|]" not in lines[:-1]
    return Marks(
        fills=_fills(whole, judged),
        closes=float(closes),
        home=float(judged[-1].pitches[-1:] == pitches[-1:] and pitches[-1] % 12 == whole.key.tonic),
        in_key=max(0.0, 1 - 5 * outside),
        moves=_moves(whole, judged),
    )


def _fills(whole: Tune, judged: list[Bar]) -> float:
    if whole.metre is None:
        return 0.0
    first = whole.bars[0].length
    pickup = first if first < whole.metre and whole.bars[0] not in judged[:1] else 0
    ends = [bar is judged[-1] or bar.line in CLOSING for bar in judged]
    full = sum(
        bar.length == (whole.metre - pickup if end else whole.metre) and not bar.unread
        for bar, end in zip(judged, ends, strict=True)
    )
    before = len(whole.bars) - len(judged) - bool(pickup)
    return full / max(len(judged), LEAST_BARS - before)


def _moves(whole: Tune, judged: list[Bar]) -> float:
    """See :class:`Marks`."""
    times: Counter[tuple[object, ...]] = Counter()
    moving: list[bool] = []
    previous: tuple[object, ...] = ()
    for at, bar in enumerate(whole.bars):
        notes = bar.notes
        if at >= len(whole.bars) - len(judged):
            moving.append(not bar.unread and len(set(bar.pitches)) > 1 and notes != previous and times[notes] < 2)
        times[notes] += 1
        previous = notes
    return sum(moving[:-1]) / len(moving[:-1]) if len(moving) > 1 else 0.0
