"""The course of a score on the page: what is marked, how the line runs, what is folded, text that stays text."""

from __future__ import annotations

import re

import pytest

from pipeline.reporting.courses import with_courses
from pipeline.reporting.page import Report, render_page
from pipeline.reporting.samples import Sample
from pipeline.texts.score_course import FOLDED, HEIGHT, WIDTH, Scores

ATTACK = '<script>alert(1)</script>"><img src=x>'


def test_marks_are_relative_to_the_largest_change_of_both_sides():
    before = Scores(0.0, [" a", "b"], [0.1, -0.3])
    after = Scores(0.0, [" c", " d", "e"], [1.0, 0.35, 0.35])
    sample = with_courses(Sample("p", " ab", " c de"), before, after)
    assert sample.before_course is not None
    assert sample.after_course is not None
    # Largest 1.0: 0.1 no mark, -0.4 weak, 1.0 strong, -0.65 strong, 0 none. Mutation: each by its own.
    assert [p.mark for p in sample.before_course.pieces] == ["", "down"]
    assert [p.mark for p in sample.after_course.pieces] == ["up strong", "down strong", ""]
    assert [(p.space, p.word) for p in sample.after_course.pieces] == [(" ", "c"), (" ", "d"), ("", "e")]


def test_the_line_runs_from_the_prompt_alone_to_the_whole_text_in_one_scale():
    sample = with_courses(Sample("p", "a", "bc"), Scores(0.0, ["a"], [-1.0]), Scores(0.0, ["b", "c"], [0.5, 1.0]))
    assert sample.before_course is not None
    assert sample.after_course is not None
    middle, top, bottom = HEIGHT / 2, 2.0, HEIGHT - 2
    assert points(sample.before_course.points) == [(0, middle), (WIDTH, bottom)]
    assert points(sample.after_course.points) == [(0, middle), (WIDTH / 2, 9.5), (WIDTH, top)]
    assert sample.after_course.level == middle
    assert sample.before_course.label == (
        "score from 0.00 for the prompt alone to -1.00, lowest -1.00, highest 0.00"
    )


def test_nothing_to_draw():
    assert with_courses(Sample("p", "", ""), None, None) == Sample("p", "", "")
    drawn = with_courses(Sample("p", "", "b"), Scores(0.2, [], []), Scores(0.2, ["b"], [0.2]))
    assert drawn.before_course is None
    assert drawn.after_course is not None  # flat: neither a division by zero nor a mark
    assert [p.mark for p in drawn.after_course.pieces] == [""]


def test_long_texts_are_folded_between_words():
    words = [" word"] * 200
    sample = with_courses(Sample("p", "", "".join(words)), None, Scores(0.0, words, [i / 9 for i in range(200)]))
    assert sample.after_course is not None
    shown, rest = sample.after_course.shown, sample.after_course.rest
    assert FOLDED / 2 < sum(len(p.text) for p in shown) <= FOLDED
    assert [*shown, *rest] == list(sample.after_course.pieces)
    page = render_page(Report("r", samples=[sample]))
    assert f"all {len(''.join(words))} characters" in page


def test_tokens_stay_text():
    sample = with_courses(Sample("p", "", ATTACK, kind="gain"), None, Scores(0.0, [ATTACK, " "], [1.0, 0.5]))
    page = render_page(Report("r", samples=[sample], courses_note=ATTACK))
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert 'class="up strong"' in page
    assert "not why it gave the score" in page
    assert "not why it gave the score" not in render_page(Report("r", samples=[Sample("p", "a", "b")]))


def points(text: str) -> list[tuple[float, float]]:
    assert re.fullmatch(r"[\d., ]+", text)
    pairs = [pair.split(",") for pair in text.split()]
    return [pytest.approx((float(x), float(y))) for x, y in pairs]  # type: ignore[misc]
