"""Rows of answers with scores, ratings or ranks, of which pairs are made."""

from __future__ import annotations

import pytest

from pipeline.formats.detect import JudgedRow, Reading, detect_format, read_judged
from tests.helpers.read_rows import first, said, short_stripped

P = "User: Why?\n\nAssistant:"


def test_nectar() -> None:
    answers = [{"answer": a, "rank": r} for a, r in (("x", 2), ("y", 1), ("z", 2), ("", 4), ("w", None))]
    row = {"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": answers, "turns": 1}
    assert short_stripped(row) == ["empty answer", "no rank", "y > x", "x = z", "y > z"]
    assert first({**row, "answers": answers[:2]}).prompt == P


def test_responses_with_scores() -> None:
    row = {"prompt": "Why?", "responses": ["x", "y", "z"], "scores": [1, "2", 1]}
    assert short_stripped(row) == ["y > x", "x = z", "y > z"]
    assert (first(row).prompt, first(row).scores) == ("Why?", (2, 1))
    assert short_stripped({"prompt": "Why?", "completions": ["x", "y"], "rewards": [1, 2]}) == ["y > x"]
    assert first({**row, "prompt": [said("user", "Why?")]}).prompt == P
    assert short_stripped({**row, "scores": [1, 2]}) == ["responses and scores are not equally many"]
    assert short_stripped({**row, "scores": [1, "n/a", 2]}) == ["a score is not a number", "z > x"]
    # Two columns could be the responses: nobody guesses.
    both = {"prompt": "Why?", "completions": ["x"], "answers": ["y"], "scores": [1]}
    with pytest.raises(Exception, match="no column"):
        detect_format(both, "x")


def test_ultrafeedback_tens_that_should_be_ones() -> None:
    completions = [
        {"response": "x", "overall_score": 10, "fine-grained_score": 1.5},
        {"response": "y", "overall_score": 10, "fine-grained_score": 4.75},
        {"response": "z", "overall_score": 3, "fine-grained_score": 2},
    ]
    found = short_stripped({"instruction": "Why?", "completions": completions})
    assert found[0].startswith("overall_score 10 beside a fine-grained_score of 2 or less")
    assert found[1:] == ["y > z"]


def test_ratings_of_one_answer_a_row_become_pairs() -> None:
    rows = [
        {"prompt": "Why?", "response": r, "helpfulness": h, "correctness": 1, "coherence": 1, "verbosity": 1}
        for r, h in (("x", 1), ("y", 3), ("z", 1))
    ]
    how = Reading()
    found = [f for _, f in read_judged((("x", row) for row in rows), "helpsteer_rated", how)]
    assert [(f.prompt, f.chosen, f.rejected) for f in found if isinstance(f, JudgedRow)] == [
        (P, " y", " x"),
        (P, " y", " z"),
    ]
    assert how.notices.lines() == ["columns not used: verbosity"]
