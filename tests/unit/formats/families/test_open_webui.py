"""Open WebUI's export: thumbs, siblings, branches, and answers whose rated text is not known."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.formats.detect import JudgedRow, Reading, Unusable, detect_format, read_judged
from pipeline.formats.judged import person
from tests.helpers.read_rows import Row

P = "User: Why?\n\nAssistant:"


def message(id: str, parent: str | None, content: Any, **more: Any) -> Row:
    role = more.pop("role", "assistant" if parent else "user")
    own = {"id": id, "parentId": parent, "childrenIds": [], "role": role, "content": content, "timestamp": 1}
    return own | ({"model": "m1", "done": True} if role == "assistant" else {"models": ["m1"]}) | more


def chat(*messages: Row, **inner: Any) -> Row:
    """As the API gives a chat: the page's own state is one level down."""
    tree = {"messages": {m["id"]: m for m in messages}, "currentId": messages[-1]["id"]}
    return {"id": "c", "user_id": "ann", "title": "Why", "chat": {"models": ["m1"], "history": tree, **inner}}


def record(rating: Any, of: str, snapshot: Row | None, who: str = "ann", **more: Any) -> Row:
    own = {
        "id": f"{who}-{of}-{rating}",
        "user_id": who,
        "version": 0,
        "type": "rating",
        "data": {"rating": rating, "model_id": "m1", "reason": None, "comment": "ok", "tags": ["general"]},
        "meta": {
            "arena": False,
            "chat_id": "c",
            "message_id": of,
            "message_index": 2,
            "base_models": {"m1": None},
        },
        "snapshot": {"chat": snapshot},
        "created_at": 100,
        "updated_at": 100,
    }
    return own | more


def read(*rows: Row, how: Reading | None = None) -> tuple[set[tuple[str, str, str]], list[str]]:
    """((prompt, chosen, rejected) of the pairs, reasons of the rest)."""
    assert detect_format(rows[0], "f") == "open_webui"
    found = [f for _, f in read_judged((("f", row) for row in rows), "open_webui", how or Reading())]
    pairs = {(f.prompt, f.chosen.strip(), f.rejected.strip()) for f in found if isinstance(f, JudgedRow)}
    assert len(pairs) == sum(isinstance(f, JudgedRow) for f in found)
    return pairs, [f.reason for f in found if isinstance(f, Unusable)]


TWO = chat(message("q", None, "Why?"), message("a", "q", "Because."), message("b", "q", "No idea.", model="m2"))
SAME = "all opinions on the prompt are the same"


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        # Mutation caught: a like not read as a win over what stood beside it; numbers as text.
        ([record(1, "a", TWO)], {(P, "Because.", "No idea.")}),
        ([record("-1", "a", TWO)], {(P, "No idea.", "Because.")}),
        # Mutation caught: two ratings of one pair counted twice.
        ([record(1, "a", TWO), record(-1, "b", TWO)], {(P, "Because.", "No idea.")}),
        # Mutation caught: a sibling that the same person likes too taken for the loser.
        ([record(1, "a", TWO), record(1, "b", TWO)], set()),
        # Of the same answer the last rating counts, in whatever order they stand.
        (
            [record(-1, "a", TWO, updated_at=300), record(1, "a", TWO, updated_at=200)],
            {(P, "No idea.", "Because.")},
        ),
    ],
)
def test_thumbs_and_siblings(records: list[Row], expected: set[tuple[str, str, str]]):
    pairs, reasons = read(*records)
    assert pairs == expected
    # Mutation caught: a like that has become a pair reported as left out.
    assert reasons == ([] if pairs else [SAME])


def test_likes_and_dislikes_of_two_people_meet_in_one_prompt():
    likes = record(1, "a", chat(message("q", None, "Why?"), message("a", "q", "Yes.")), who="ann")
    elsewhere = record(-1, "x", chat(message("u", None, "Why?"), message("x", "u", "Go away.")), who="bo")
    elsewhere["meta"]["chat_id"] = "d"
    assert read(likes, elsewhere) == ({(P, "Yes.", "Go away.")}, [])
    assert read(likes) == (set(), [SAME])


def test_the_prompt_is_the_branch_of_the_rated_answer():
    tree = chat(
        message("q", None, "Why?"),
        message("a", "q", '<details type="reasoning" done="true">\n<summary>x</summary>\n> hm\n</details>\nOne.'),
        message("b", "q", "Two."),
        message("q2", "a", "And?", role="user"),
        message("c", "q2", "Three."),
        message("d", "q2", "Four."),
        params={"system": "Be brief."},
    )
    pairs, _ = read(record(1, "d", tree))
    turns = ["System: Be brief.", "User: Why?", "Assistant: One.", "User: And?", "Assistant:"]
    assert pairs == {("\n\n".join(turns), "Four.", "Three.")}


def test_people_are_pseudonyms():
    how = Reading(salt="s")
    found = [f for _, f in read_judged([("f", record(1, "a", TWO))], "open_webui", how)]
    assert [f.annotator for f in found if isinstance(f, JudgedRow)] == [person("ann", "s")]
    assert how.notices.lines() == []


THOUGHT = '<details type="reasoning" done="true" duration="3"><summary>Thought</summary>\n> so\n</details>\n'
CALLED = '<details type="tool_calls" done="true" id="1"><summary>Tool Executed</summary>\n</details>\n'


def test_reasoning_is_left_out_and_said():
    how = Reading()
    tree = chat(message("q", None, "Why?"), message("a", "q", THOUGHT + "Yes."), message("b", "q", "No."))
    assert read(record(1, "a", tree), how=how)[0] == {(P, "Yes.", "No.")}
    assert how.notices.lines() == ["the reasoning before an answer was left out: 1 row"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"content": CALLED + "Yes."}, "an answer with tools, code or files, which the text does not hold"),
        (
            {"content": "Yes!", "originalContent": "Yes."},
            "an answer that was changed after it was written: which text was rated is not known",
        ),
        ({"content": "Ye", "done": False}, "an answer that was not finished"),
        ({"content": "", "error": {"content": "boom"}}, "an answer that was not finished"),
        ({"content": " "}, "empty completion"),
        ({"content": "Hm?", "role": "user"}, "a rating of a message that is no answer"),
        ({"parentId": "lost"}, "a message whose parent is not in its chat"),
    ],
)
def test_answers_whose_text_was_not_what_was_rated(answer: Row, reason: str):
    rated = message("a", "q", "Yes.") | answer
    assert read(record(1, "a", chat(message("q", None, "Why?"), rated))) == (set(), [reason])


def test_an_edited_answer_is_nobodys_worse_one():
    # Mutation caught: siblings read without the checks of the rated one.
    edited = message("b", "q", "No!", originalContent="No.")
    tree = chat(message("q", None, "Why?"), message("a", "q", "Yes."), edited)
    reasons = read(record(1, "a", tree))[1]
    assert reasons == ["an answer that was changed after it was written: which text was rated is not known", SAME]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "note"}, "a record that is no rating"),
        ({"data": {"comment": "nice"}}, "a comment without a rating"),
        ({"data": {"rating": 7}}, "data.rating is neither 1 nor -1"),
        ({"snapshot": None}, "a rating without its chat (snapshot)"),
        ({"snapshot": {"chat": None}}, "a rating without its chat (snapshot)"),
        ({"meta": {"chat_id": "c"}}, "a rating of a message that its chat does not hold"),
    ],
)
def test_records_without_a_rated_text(change: Row, reason: str):
    pairs, reasons = read(record(1, "a", TWO) | change)
    assert (pairs, reasons) == (set(), [reason])


def test_files_are_more_than_text():
    question = message("q", None, "What is on it?", files=[{"type": "image"}])
    reason = "a conversation with files, which the text does not hold"
    assert read(record(1, "a", chat(question, message("a", "q", "A cat.")))) == (set(), [reason])
