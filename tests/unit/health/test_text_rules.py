"""Where the rules of texts turn: sentences, n-grams, patterns, a phrase that spreads."""

from __future__ import annotations

from pipeline.health import Facts
from pipeline.texts.collapse import NGRAMS_LEFT, Collapse
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


def test_where_the_rule_of_patterns_turns():
    """Just below and just above each limit: .4 of the patterns, .4 of the sentences, .15 more of them."""
    start = {"diversity/patterns": 45.0, "diversity/common_pattern": 0.2, "diversity/sentences": 3.0}
    rows = [row | (start if "diversity/patterns" in row else {}) for row in healthy()]
    least = {"diversity/patterns": from_update(20, 17.9), "diversity/common_pattern": from_update(20, 0.4)}
    assert names(bent(rows, least)) == {"patterns-collapse"}
    for name, value in (
        ("diversity/patterns", 18.1),
        ("diversity/common_pattern", 0.39),
        ("diversity/sentences", 1.4),  # answers, which may all be of one form
    ):
        assert names(bent(rows, {**least, name: from_update(20, value)})) == set()
    common = {"diversity/common_pattern": from_update(1, 0.3)}
    assert names(bent(bent(rows, common), least)) == set()


def test_the_evaluation_tells_of_one_pattern_too():
    """A run that began with an earlier policy shows only its own part of the way from the base."""
    assert names(healthy(), Facts(one_pattern=Collapse("pattern", "…", 0.44, 0.21, 48.0, 13.0))) == {
        "patterns-collapse"
    }
    assert names(healthy(), Facts()) == set()
