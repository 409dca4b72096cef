"""VADER sentiment (Hutto and Gilbert 2014), a lexicon's opinion of an English text. It knows words, not meaning.

An imperfect view, fit for an annotator (``annotator_args: {view: vader}``) and, where a task has no truth, for a
score to watch; not for the judge of what was learnt from its labels. Known holes:

- Words count wherever they stand. *friends* is a kind word: "My friends disliked it too." has +.10.
- What follows ", but" counts half as much again and what goes before it half, even between two praises.
- A comma without a space behind it makes one word of two, which the lexicon has not: "great,awful" has 0.
- The sum is squashed by x / sqrt(x^2 + 15): two praises have .85, six .98, and long texts are all near 1 or -1.
- Every word is compared with every other: a text of twice the length takes four times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

VADER_NAME = "VADER's opinion (-1..1)"


def vader_scores(texts: Iterable[str]) -> list[float]:
    """The compound score of each text, in [-1, 1]; 0 for a text without any word of the lexicon."""
    analyser = _analyser()
    return [float(analyser.polarity_scores(text)["compound"]) for text in texts]


def lexicon_words(texts: Iterable[str]) -> list[int]:
    """How many words and faces of each text the lexicon knows: what its score is made of."""
    from vaderSentiment.vaderSentiment import SentiText

    known = _analyser()
    return [sum(word.lower() in known.lexicon for word in SentiText(text).words_and_emoticons) for text in texts]


def vader_view(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """VADER's score of each completion alone, in the form of a task's gold score."""
    del prompts
    return vader_scores(completions)


@lru_cache(maxsize=1)
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
