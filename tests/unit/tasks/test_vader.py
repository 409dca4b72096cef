"""VADER as an opinion: what its score is made of, and the holes that its module names."""

from __future__ import annotations

from pipeline.tasks._vader import lexicon_words, vader_scores


# Catches: all words counted, case, marks that stick to a word, faces left out.
def test_known_words_by_hand() -> None:
    texts = ["The lid is GREAT, truly great!", "It is about the size of a lamp.", ":) good,bad", ""]
    assert lexicon_words(texts) == [3, 0, 1, 0]
    # Without one there is nothing to score.
    assert [s == 0 for s in vader_scores(texts)] == [False, True, False, True]


def test_the_holes_are_as_told() -> None:
    kind, glued, two, six = vader_scores(
        [
            "My friends disliked it too.",
            "It was great,awful.",
            "Great and superb.",
            "Great, superb, lovely, nice, good, fine.",
        ]
    )
    assert kind > 0
    assert glued == 0
    assert 0.8 < two < six > 0.95
