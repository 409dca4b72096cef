"""Where the rules of texts turn: sentences, n-grams, a phrase that spreads."""

from __future__ import annotations

from pipeline.texts.collapse import NGRAMS_LEFT
from tests.helpers.histories import bent, from_update, healthy, names


def test_where_the_text_rules_turn():
    """Just below and just above each limit; a collapse needs all three of its signs."""
    least = {"diversity/closings": from_update(20, 27.0), "diversity/common_closing": from_update(20, 0.26)}
    least |= {"diversity/trigrams": from_update(20, (NGRAMS_LEFT - 0.01) * 760)}
    start = {"diversity/closings": 55.0, "diversity/common_closing": 0.07, "diversity/trigrams": 760.0}
    start |= {"diversity/spread": 0.02}
    rows = [row | (start if "diversity/closings" in row else {}) for row in healthy()]
    assert names(bent(rows, least)) == {"sentences-collapse"}
    for name, value in (
        ("diversity/closings", 28.0),
        ("diversity/common_closing", 0.24),
        ("diversity/trigrams", (NGRAMS_LEFT + 0.01) * 760),
    ):
        assert names(bent(rows, {**least, name: from_update(20, value)})) == set()
    for value, found in ((0.34 * 760, set()), (0.33 * 760, {"ngrams-collapse"})):
        assert names(bent(rows, {"diversity/trigrams": from_update(20, value)})) == found
    for value, found in ((0.29, set()), (0.3, {"phrase-spreads"})):
        assert names(bent(rows, {"diversity/spread": from_update(20, value)})) == found
