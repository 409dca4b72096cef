"""Patterns of sentences: by hand, in words, code and a script without blanks."""

from __future__ import annotations

import pytest

from pipeline.texts.patterns import MOST, frame_words, pattern, patterns


# By hand: 12 words, "." 4, "the" 3, "is" 2, three others once. "." and "the" are 7 of 12, "." alone is 4.
# Mutations caught: types counted instead of words; one word too few or too many.
def test_the_frame_is_half_of_what_is_written() -> None:
    texts = ["The cat is. The dog is.", "The sun.", "."]
    assert frame_words(texts) == {".", "the"}
    assert frame_words(["b a"]) == {"a"}  # equally frequent: by their letters
    assert frame_words([]) == frozenset()


# Mutation caught: no limit. Of 1,000 words that are as frequent half would be 500.
def test_of_free_text_a_frame_has_a_hundred_words_at_most() -> None:
    assert len(frame_words([f"w{i:03}" for i in range(1000)])) == MOST


def test_what_is_not_in_the_frame_becomes_one_slot() -> None:
    frame = frozenset({"the", "was", "and"})
    assert pattern("The lid was really great.", frame) == "the … was …"
    assert pattern("“The final scene was loud!”", frame) == "the … was …"
    assert pattern("The lid was great and cheap.", frame) == "the … was … and …"
    assert pattern("Great.", frame) == "…"
    assert pattern("the the", frame) == "the the"
    assert patterns("Truly superb. The lid was fine!", frame) == ["…", "the … was …"]
    assert patterns(" ", frame) == [""]


@pytest.mark.parametrize(
    ("texts", "forms"),
    [
        (["x = f(a)\ny = g(b)\nz = h(c)"], {"… = … ( …"}),
        (["这是一本书。那是一支笔。这是一张纸。"], {"… 是 一 …"}),
        (["box red 2\nbox blue 2\nbox green 2"], {"box … 2"}),
    ],
)
def test_code_notation_and_scripts_without_blanks_have_patterns(texts: list[str], forms: set[str]) -> None:
    frame = frame_words(texts)
    assert {form for text in texts for form in patterns(text, frame)} == forms
