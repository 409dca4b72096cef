"""VADER sentiment (Hutto and Gilbert 2014) as a gold score. English only; it knows words, not meaning."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

VADER_NAME = "VADER compound (-1..1)"


def vader_scores(texts: Iterable[str]) -> list[float]:
    """The compound score of each text, in [-1, 1]; 0 for a text without any word of the lexicon."""
    analyser = _analyser()
    return [float(analyser.polarity_scores(text)["compound"]) for text in texts]


@lru_cache(maxsize=1)
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
