"""The gold score of ``requests``: how clear a reply of a few words is, in 0..1.

The mean of three things that readers of a short reply want, and that no single word gives:

- *whole*: it ends where a sentence ends; a reply that the limit cuts is not one.
- *on topic*: words of the request come back. Two are enough, so that repeating the request gains nothing.
- *plain*: Flesch's reading ease (1948) of its words and sentences, from 30 (difficult) to 90 (very easy).

It counts in full for a reply that says something, in sentences, once; else less, in proportion:

- six different content words that the request did not have ("Yes." has none);
- three of ten words are function words (prose has four to six): a list of keywords is no sentence;
- seven of ten content words are different ones: what comes again is not new.

What it does not know: whether the reply is true, kind or useful. Syllables are counted by vowels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from pipeline.texts.sentences import sentences

CLEAR_REPLY_NAME = "clear reply (0..1)"

DIFFICULT, EASY = 30.0, 90.0
ENOUGH_NEW, ENOUGH_SHARED = 6, 2
FUNCTION_SHARE, DIFFERENT_SHARE = 0.3, 0.7

_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
_VOWELS = re.compile(r"[aeiouy]+")
_END = re.compile(r"[^\W\d_][\"'”’)\]*]*[.!?…]+[\"'”’)\]*]*$")  # a letter before it: "1." begins an item


def clear_reply(request: str, reply: str) -> float:
    """The score of one reply."""
    words = _WORD.findall(reply.lower())
    if not words:
        return 0.0
    asked = set(_content_stems(_WORD.findall(request.lower())))
    stems = _content_stems(words)
    said = set(stems)
    whole = float(_END.search(reply.strip()) is not None)
    topic = min(1.0, len(asked & said) / min(ENOUGH_SHARED, max(1, len(asked))))
    new = min(1.0, len(said - asked) / ENOUGH_NEW)
    in_sentences = min(1.0, (1 - len(stems) / len(words)) / FUNCTION_SHARE)
    once = min(1.0, len(said) / max(1, len(stems)) / DIFFERENT_SHARE)
    return new * in_sentences * once * (whole + topic + plainness(reply)) / 3


def plainness(text: str) -> float:
    """Flesch's reading ease of a text, scaled to 0..1; 0 without words."""
    words = _WORD.findall(text.lower())
    if not words:
        return 0.0
    parts = max(1, len(sentences(text)))
    ease = 206.835 - 1.015 * len(words) / parts - 84.6 * sum(map(syllables, words)) / len(words)
    return min(1.0, max(0.0, (ease - DIFFICULT) / (EASY - DIFFICULT)))


def syllables(word: str) -> int:
    """Groups of vowels, without a silent e at the end."""
    silent = word.endswith("e") and not word.endswith(("le", "ee"))
    silent |= word.endswith("es") and not word.endswith("ses")
    return max(1, len(_VOWELS.findall(word)) - silent)


def clear_replies(requests: Sequence[str], replies: Sequence[str]) -> list[float]:
    """:func:`clear_reply` of each reply to its request."""
    return [clear_reply(request, reply) for request, reply in zip(requests, replies, strict=True)]


def _content_stems(words: Sequence[str]) -> list[str]:
    return [_stem(w) for w in words if len(w) > 2 and w not in _function_words()]


@lru_cache(maxsize=1)
def _function_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return ENGLISH_STOP_WORDS


def _stem(word: str) -> str:
    """The first five letters, without an ending of plural or past: *plants* and *planting* are one word."""
    return re.sub(r"(?:'s|’s|ing|ed|es|s)$", "", word)[:5] or word
