"""How far two sets of texts are apart: the Jensen-Shannon distance of their word n-grams, from 0 to 1."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from pipeline.texts.words import ngrams


def ngram_distance(first: Iterable[str], second: Iterable[str], n: int = 3) -> float:
    """The square root of the divergence in bits (Endres and Schindelin 2003). Few texts look farther apart."""
    counts = [Counter(gram for text in texts for gram in ngrams(text, n)) for texts in (first, second)]
    totals = [count.total() for count in counts]
    divergence = 0.0
    for gram in counts[0] | counts[1]:
        shares = [count[gram] / total for count, total in zip(counts, totals, strict=True)]
        mean = sum(shares) / 2
        divergence += sum(share / 2 * math.log2(share / mean) for share in shares if share)
    return math.sqrt(max(divergence, 0.0))
