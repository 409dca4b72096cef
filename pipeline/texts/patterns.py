"""Reduce a sentence to its pattern: frequent words stay, each run of others becomes one slot. Needs no torch.

A policy can write thousands of different sentences in one form: "The story is charming.", "The lid felt great." No
sentence and no phrase repeats, the form does. Shaib et al. 2024 ("Detection and Measurement of Syntactic Templates
in Generated Text", arXiv:2407.00211) look for it in sequences of parts of speech, by a tagger of one language. The
words that the base itself writes most often need none: of a language they are function words and marks, of code or
another notation its keywords, brackets and separators.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable

from pipeline.texts.sentences import same, sentences
from pipeline.texts.words import words

SLOT = "…"

COVERED = 0.5
"""Of all words, the share that the words of the frame make up."""

MOST = 100
"""Words of a frame, at most."""


def frame_words(texts: Iterable[str]) -> frozenset[str]:
    """The most frequent words (marks count), as few as make up half of the texts; 100 at most.

    Of a base's completions, whose patterns and whose policy's are then told by the same words. Equally frequent
    words are taken in the order of their letters.
    """
    counts = Counter(word for text in texts for word in words(text))
    left = COVERED * counts.total()
    frame: set[str] = set()
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if left <= 0 or len(frame) == MOST:
            break
        frame.add(word)
        left -= count
    return frozenset(frame)


@functools.lru_cache(1 << 14)
def pattern(sentence: str, frame: frozenset[str]) -> str:
    """The words of the frame in their order, with one slot for each run of others: ``the … felt …``.

    Case, quotes and end marks do not count (:func:`pipeline.texts.sentences.same`).
    """
    kept: list[str] = []
    for word in words(same(sentence)):
        place = word if word in frame else SLOT
        if place != SLOT or kept[-1:] != [SLOT]:
            kept.append(place)
    return " ".join(kept)


def patterns(text: str, frame: frozenset[str]) -> list[str]:
    """The pattern of each sentence; ``[""]`` of a blank text."""
    return [pattern(sentence, frame) for sentence in sentences(text) or [""]]
