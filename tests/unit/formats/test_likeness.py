"""What a row that is of no format resembles, and how its columns would be mapped."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.formats.likeness import looks_like, prompt_in


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"question": "q", "response_a": "x", "response_b": "y", "winner": "a"},
            "columns: {prompt: question, completion_a: response_a, completion_b: response_b, choice: winner}",
        ),
        (
            {"prompt": "q", "Answer 1": "x", "Answer 2": "y", "preferred_response": 1},
            "columns: {completion_a: Answer 1, completion_b: Answer 2, choice: preferred_response}",
        ),
        ({"query": "q", "better": "x", "worse": "y"}, "columns: {prompt: query, chosen: better, rejected: worse}"),
        # Mutation caught: chosen and rejected swapped.
        (
            {"input": "q", "rejected_response": "y", "chosen_response": "x"},
            "columns: {prompt: input, chosen: chosen_response, rejected: rejected_response}",
        ),
        (
            {"q": 1, "candidate_1": "x", "candidate_2": "y"},
            "two answers (candidate_1, candidate_2) and a verdict that no",
        ),
        ({"data": [{"prompt": "p"}]}, 'one object that holds the rows under "data"'),
        ({"instruction": "i", "output": "o", "source": "s"}, "examples to imitate"),
        ({"instance_id": 1, "label_annotations": {}}, "Potato's export"),
        (
            dict.fromkeys(["id", "user_id", "chat_id", "model_id", "sibling_model_ids", "rating", "reason"], ""),
            "Open WebUI's CSV",
        ),
    ],
)
def test_a_resemblance_is_a_sentence(row: dict[str, Any], said: str) -> None:
    assert said in looks_like(row)


# Three answers are no comparison of two, and a column alone is no format.
@pytest.mark.parametrize(
    "row", [{}, {"a": 1, "b": 2}, {"answer_1": "", "answer_2": "", "answer_3": "", "label": 1}, {"prompt": "p"}]
)
def test_where_there_is_none_nothing_is_said(row: dict[str, Any]) -> None:
    assert looks_like(row) == ""


def test_the_prompt_is_the_likeliest_column() -> None:
    assert prompt_in({"context": "", "Question": ""}) == "Question"
    assert prompt_in({"completion": ""}) is None
