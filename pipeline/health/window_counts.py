"""Count the sentences, phrases, n-grams and texts of a window of completions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.texts.diversity import NGRAM
from pipeline.texts.sentences import last_of, same, sentences
from pipeline.texts.words import words

# Words of a phrase; a language repeats shorter ones by itself.
PHRASE = 4

Words = tuple[str, ...]
"""Words that follow each other."""


@dataclass(frozen=True)
class CountedText:
    """A completion with its parts."""

    text: str
    prompt: str
    score: float
    opening: str
    closing: str
    sentences: list[str]
    phrases: frozenset[Words]
    ngrams: list[Words]


@dataclass
class Counts:
    """Counts of the sentences, phrases, n-grams and texts of a window."""

    closings: Counter[str] = field(default_factory=Counter[str])
    openings: Counter[str] = field(default_factory=Counter[str])
    sentences: Counter[str] = field(default_factory=Counter[str])
    phrases: Counter[Words] = field(default_factory=Counter[Words])
    ngrams: Counter[Words] = field(default_factory=Counter[Words])
    texts: Counter[str] = field(default_factory=Counter[str])

    def add(self, text: CountedText) -> None:
        for counter, items in self._of(text):
            counter.update(items)

    def remove(self, text: CountedText) -> None:
        for counter, items in self._of(text):
            for item in items:
                left = counter[item] - 1
                if left:
                    counter[item] = left
                else:
                    del counter[item]

    def _of(self, text: CountedText) -> list[tuple[Counter[Any], Iterable[Hashable]]]:
        return [
            (self.closings, (text.closing,)),
            (self.openings, (text.opening,)),
            (self.sentences, set(text.sentences)),
            (self.phrases, text.phrases),
            (self.ngrams, text.ngrams),
            (self.texts, (text.text,)),
        ]


def counted(prompt: str, text: str, ended: bool, score: float) -> CountedText:
    """Take a completion apart; its sentences are keys of :func:`pipeline.texts.sentences.same`."""
    pieces, split = sentences(text) or [""], words(text)
    keys = [same(piece) for piece in pieces]
    last = last_of(pieces, ended)
    runs = [tuple(split[i : i + PHRASE]) for i in range(len(split) - PHRASE + 1)]
    return CountedText(
        text,
        prompt,
        score,
        keys[0],
        keys[-1] if last is pieces[-1] else keys[-2],
        keys,
        frozenset(runs),
        [tuple(split[i : i + NGRAM]) for i in range(len(split) - NGRAM + 1)],
    )
