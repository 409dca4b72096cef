"""VADER sentiment of English texts (Hutto and Gilbert 2014), from a lexicon: it knows words, not meaning.

An imperfect score, fit for an annotator (``annotator_args: {view: vader}``) and for monitoring a task without gold
score; not for judging a model trained on its own labels. Known holes:

- Words count wherever they stand. *friends* is a positive word: "My friends disliked it too." has +.10.
- Words after ", but" count 1.5 times and words before it half, even between two praises.
- A comma without a space joins two words into an unknown one: "great,awful" has 0.
- The sum is squashed by x / sqrt(x^2 + 15): two praises have .85, six .98, and long texts are all near 1 or -1.
- Time is quadratic in the length of a text.
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
    """The number of words and emoticons of each text that the lexicon contains."""
    from vaderSentiment.vaderSentiment import SentiText

    lexicon = _analyser().lexicon
    return [sum(word.lower() in lexicon for word in SentiText(text).words_and_emoticons) for text in texts]


def vader_view(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """VADER's score of each completion alone, in the form of a task's gold score."""
    del prompts
    return vader_scores(completions)


@lru_cache(maxsize=1)
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
