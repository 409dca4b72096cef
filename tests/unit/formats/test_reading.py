"""What people have is read as they meant it: lists stored as text, dropped parts, repeated and joined prompts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.formats.detect import (
    Format,
    JudgedRow,
    Reading,
    Unusable,
    detect_format,
    parse_prompt,
    parse_rows,
    split_columns,
)
from pipeline.formats.judged import person
from tests.helpers.read_rows import Row, said, user


def bot(text: Any, **more: Any) -> Row:
    return {**said("assistant", text), **more}


def system(text: str) -> Row:
    return said("system", text)


def one(row: Row, format: Format = "auto", how: Reading | None = None, **columns: Any) -> JudgedRow | Unusable:
    mapped, joined = split_columns(columns)
    how = how or Reading(columns=mapped, joined=joined)
    told = detect_format(row, "a.jsonl:1", format, columns)
    (found,) = parse_rows(row, told, "a.jsonl:1", how)
    return found


def texts(row: Row, format: Format = "auto", how: Reading | None = None, **columns: Any) -> tuple[str, str, str]:
    found = one(row, format, how, **columns)
    assert isinstance(found, JudgedRow), found
    return found.prompt, found.chosen, found.rejected


def refused(row: Row, format: Format = "auto", **columns: Any) -> str:
    found = one(row, format, **columns)
    assert isinstance(found, Unusable), found
    return found.reason


PAIR = {"chosen": [user("Why?"), bot("So.")], "rejected": [user("Why?"), bot("No.")]}
AS_READ = ("User: Why?\n\nAssistant:", " So.", " No.")

# Lists stored as text


@pytest.mark.parametrize(
    "written",
    [str, json.dumps, lambda v: json.dumps(v, indent=2), lambda v: f"  {v}\n"],
    ids=["python", "json", "indented", "blanks"],
)
def test_a_conversation_as_text(written: Any) -> None:
    # Catches: only a text that begins with exactly [{" is taken for messages.
    assert texts({side: written(turns) for side, turns in PAIR.items()}) == AS_READ
    assert texts({"prompt": "Why?", **{side: written(turns) for side, turns in PAIR.items()}}) == AS_READ


def test_quotes_inside_a_list_as_python_writes_it() -> None:
    turns = [user("It's \"so\"\n\\ [é] 'x' 'y'")]
    assert parse_prompt(str(turns)) == f"User: {turns[0]['content']}\n\nAssistant:"


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user', 'content': 'q'}\n {'role': 'assistant', 'content': 'good'}]",  # numpy has no commas
        "array([{'role': 'user', 'content': 'q'}], dtype=object)",
        "[array(['a'], dtype=object)]",
        "['red' 'blue']",  # Python would read the one text "redblue"
        "[{'role': 'user', 'content': nan}]",
        "['broken]",
        "[{'role': 'user', 'content': 'never ends",
        '[{"role": "user", "content": "never ends',
    ],
)
def test_a_list_that_cannot_be_read_back_is_refused_by_name(text: str) -> None:
    found = parse_prompt(text)
    assert isinstance(found, Unusable)
    assert "list" in found.reason
    with pytest.raises(DataError, match="list"):
        detect_format({"chosen": text, "rejected": text}, "a.csv:2")


@pytest.mark.parametrize("text", ['["one"]', '["a", "b"]', "['a', 'b']", '[\n "a"\n]'])
def test_a_list_of_texts_is_no_text_unless_the_format_was_named(text: str) -> None:
    row = {"prompt": "Name some.", "chosen": text, "rejected": "None."}
    assert refused(row) == "chosen is a list of texts written as text"
    assert refused(row | {"chosen": "x", "prompt": text}) == "prompt is a list of texts written as text"
    assert texts(row, how=Reading(lists_are_texts=True))[1] == text
    assert parse_prompt(text) == Unusable("prompt is a list of texts written as text")


def test_a_conversation_is_no_text_in_a_named_format_either() -> None:
    row = {"prompt": "q", "chosen": str([bot("x")]), "rejected": "y"}
    (found,) = parse_rows(row, "trl", "x", Reading(lists_are_texts=True))
    assert found == Unusable("chosen is a conversation written as text")


@pytest.mark.parametrize(
    "text", ["[1, 2, 3]", '[{"name": "x"}]', '{"a": 1}', "[Verse] la [End]", "[]", "[x]", "a]"]
)
def test_other_brackets_are_texts(text: str) -> None:
    assert texts({"prompt": "p", "chosen": text, "rejected": "r"})[1] == text
    assert parse_prompt(text) == text


def test_a_cell_is_bounded() -> None:
    found = parse_prompt("['" + "x" * 1_000_001 + "']")
    assert isinstance(found, Unusable)
    assert "1,000,000" in found.reason
    assert isinstance(parse_prompt("[" * 50_000 + "]" * 50_000), str)


# What a text cannot keep


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (bot("Let me see.", tool_calls=[{"type": "function"}]), "chosen: a message with tool_calls"),
        (bot(None, tool_calls=[{"type": "function"}]), "chosen: a message with tool_calls"),
        (bot("So.", reasoning_content="I think"), "chosen: a message with reasoning_content"),
        (bot("So.", thinking="I think"), "chosen: a message with thinking"),
        (bot("So.", images=["a.png"]), "chosen: a message with images"),
        (bot(None), "a message without content in chosen"),
        (
            bot([{"type": "text", "text": "So."}, {"type": "image"}]),
            'chosen: a message with a part of type "image"',
        ),
        (bot([{"type": "thinking", "text": "x"}]), 'chosen: a message with a part of type "thinking"'),
        ({"role": "tool", "content": "3"}, 'chosen: a turn of the role "tool"'),
        ({"role": "narrator", "content": "3"}, 'chosen: a turn of the role "narrator"'),
    ],
)
def test_parts_are_never_dropped(answer: Row, fact: str) -> None:
    row = {"prompt": [user("Why?")], "chosen": [answer], "rejected": [bot("No.")]}
    assert refused(row).startswith(fact)


def test_empty_parts_are_no_parts() -> None:
    # The Hub gives every message all keys that any of them has.
    nothing: Row = {"tool_calls": None, "reasoning_content": "", "images": [], "function_call": {}}
    row = {"prompt": [user("Why?") | nothing], "chosen": [bot("So.", **nothing)], "rejected": [bot("No.")]}
    assert texts(row) == AS_READ


@pytest.mark.parametrize(
    ("asks", "answers"), [("human", "gpt"), ("User", "Assistant"), ("user", "model"), ("prompter", "bot")]
)
def test_other_names_of_the_roles(asks: str, answers: str) -> None:
    turns = {"chosen": "So.", "rejected": "No."}
    for who, what in (("role", "content"), ("from", "value")):
        row = {side: [{who: asks, what: "Why?"}, {who: answers, what: answer}] for side, answer in turns.items()}
        assert texts(row) == AS_READ


def test_a_rejected_turn_of_the_user_is_named() -> None:
    row = {"prompt": [user("Why?")], "chosen": [bot("So.")], "rejected": [user("No.")]}
    assert refused(row) == "rejected is a turn of the user, not an answer of the assistant"
    row = {"prompt": [user("Why?")], "chosen": [system("So.")], "rejected": [bot("No.")]}
    assert refused(row) == "chosen is a turn of the system, not an answer of the assistant"


@pytest.mark.parametrize("answers", [("So.", "No."), ([bot("So.")], "No."), (bot("So."), [bot("No.")])])
def test_messages_before_answers_of_any_kind(answers: tuple[Any, Any]) -> None:
    row = {"prompt": [user("Why?")], "chosen": answers[0], "rejected": answers[1]}
    assert detect_format(row, "x") == "conversational"
    assert texts(row) == AS_READ


# Prompts


def test_a_prompt_that_both_completions_repeat_is_cut_once_and_told() -> None:
    how = Reading()
    row = {"prompt": "Why is it so?", "chosen": "Why is it so? Because.", "rejected": "Why is it so?\nNo."}
    assert texts(row, how=how) == ("Why is it so?", " Because.", "\nNo.")
    assert how.notices.lines() == ["the prompt was cut off the completions, which repeated it: 1 row"]
    blank = {"prompt": "Why is it so? ", "chosen": "Why is it so? Because.", "rejected": " Why is it so? No."}
    assert texts(blank)[1:] == ("Because.", " No.")
    choices = {
        "prompt": row["prompt"],
        "completion_a": row["chosen"],
        "completion_b": row["rejected"],
        "choice": "b",
    }
    assert texts(choices) == ("Why is it so?", "\nNo.", " Because.")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "I", "chosen": "I do", "rejected": "I do not"},  # one word
        {"prompt": "Say the word", "chosen": "Say the wordless", "rejected": "Say the wording"},  # inside a word
    ],
)
def test_what_is_no_repeated_prompt_stays(row: Row) -> None:
    how = Reading()
    assert texts(row, how=how) == tuple(row.values())
    assert how.notices.lines() == []


def test_a_prompt_that_begins_one_completion_alone_stays_and_is_said() -> None:
    how = Reading()
    row = {"prompt": "The film was", "chosen": "The film was good", "rejected": "bad"}
    assert texts(row, how=how) == tuple(row.values())
    assert how.notices.lines() == ["the prompt begins one completion and not the other, and was left there: 1 row"]


def test_a_repeated_prompt_and_nothing_after_it() -> None:
    row = {"prompt": "Why is it so?", "chosen": "Why is it so?", "rejected": "Why is it so? No."}
    assert refused(row) == "empty chosen"


WHOLE = {"chosen": [user("Hi"), bot("Yes?"), user("Why?"), bot("So.")]}
WHOLE["rejected"] = [*WHOLE["chosen"][:-1], bot("No.")]
LONG = "User: Hi\n\nAssistant: Yes?\n\nUser: Why?\n\nAssistant:"


@pytest.mark.parametrize(
    "prompt",
    ["Hi", "Why?", [user("Hi")], [user("Why?")], WHOLE["chosen"][:-1], "Hi\n\nYes?\n\nWhy?", LONG, None, []],
)
def test_a_prompt_before_whole_conversations_is_what_they_begin_with(prompt: Any) -> None:
    assert texts({"prompt": prompt, **WHOLE}, "conversational") == (LONG, " So.", " No.")


@pytest.mark.parametrize(
    "prompt", ["Who?", [user("Who?")], [user("Why?"), bot("x")], [system("Be."), user("Who?")]]
)
def test_a_prompt_that_disagrees_refuses_the_row(prompt: Any) -> None:
    assert refused({"prompt": prompt, **WHOLE}) == "the prompt disagrees with what chosen and rejected begin with"


def test_a_system_turn_that_the_sides_lack_is_put_before_them() -> None:
    how = Reading()
    row = {"prompt": [system("Be kind."), user("Why?")], **PAIR}
    assert texts(row, how=how)[0] == "System: Be kind.\n\nUser: Why?\n\nAssistant:"
    assert how.notices.lines() == [
        "the prompt's system turn, missing in chosen and rejected, was put before them: 1 row"
    ]
    theirs = {side: [system("Be rude."), *turns] for side, turns in PAIR.items()}
    assert refused({"prompt": [system("Be kind."), user("Why?")], **theirs}).startswith("the prompt disagrees")
    assert texts({"prompt": [user("Why?")], **theirs})[0].startswith("System: Be rude.")


FLAT = {"system": "Be kind.", "question": "Why?", "yes": "So.", "no": "No."}
SIDES = {"chosen": "yes", "rejected": "no"}


def test_prompts_of_several_columns() -> None:
    assert texts(FLAT, prompt=["system", "question"], **SIDES) == ("Be kind.\n\nWhy?", "So.", "No.")
    assert texts(FLAT | {"system": None}, prompt=["system", "question"], **SIDES)[0] == "Why?"
    how = Reading(columns=SIDES, joined={"prompt": ["system", "question"]})
    assert parse_rows(FLAT, "trl", "x", how)
    assert how.notices.lines() == []
    turns = FLAT | {"question": json.dumps([user("Why?")])}
    assert "map the text before it to system" in refused(turns, prompt=["system", "question"], **SIDES)
    with pytest.raises(DataError, match='no column "sistem"'):
        one(FLAT, prompt=["sistem", "question"], **SIDES)


def test_a_system_column() -> None:
    columns = {"system": "system", "prompt": "question", **SIDES}
    assert texts(FLAT, **columns) == ("Be kind.\n\nWhy?", "So.", "No.")
    assert texts(FLAT | {"system": " "}, **columns)[0] == "Why?"
    turns = FLAT | {"question": [user("Why?")], "yes": [bot("So.")], "no": [bot("No.")]}
    assert texts(turns, **columns)[0] == "System: Be kind.\n\nUser: Why?\n\nAssistant:"
    same = turns | {"question": [system("Be kind."), user("Why?")]}
    assert texts(same, **columns)[0] == "System: Be kind.\n\nUser: Why?\n\nAssistant:"
    other = turns | {"question": [system("Be rude."), user("Why?")]}
    assert refused(other, **columns) == "the system column disagrees with the system turn of the conversation"
    shp = {"s": "Be kind.", "history": "Why?", "human_ref_A": "So.", "human_ref_B": "No.", "labels": 1}
    assert texts(shp, system="s")[0] == "System: Be kind.\n\nUser: Why?\n\nAssistant:"
    hh = {"s": "x", "chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    with pytest.raises(DataError, match="system column does not go with format hh"):
        one(hh, system="s")


def test_a_system_column_that_nobody_mapped_is_told() -> None:
    how = Reading(columns={"prompt": "question", **SIDES})
    parse_rows(FLAT, "trl", "x", how)
    assert how.notices.lines() == [
        "columns not used: system (columns: {system: system} puts it before the prompt)"
    ]


def test_columns_of_later_rows_are_told_too() -> None:
    how = Reading()
    rows = [{"prompt": "p", "chosen": "c", "rejected": "r"}]
    for row in [*rows, rows[0] | {"zeta": 1}, rows[0] | {"alpha": 1, "zeta": 2}, rows[0] | {"votes_equal": 1}]:
        parse_rows(row, "trl", "x", how)
    assert how.notices.lines() == ["columns not used: alpha, zeta"]


# Scores and margins


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("score_chosen", "score_rejected"),
        ("chosen-rating", "rejected-rating"),
        ("chosen_avg_rating", "rejected_avg_rating"),
    ],
)
def test_equal_scores_are_a_tie_and_lower_ones_refused(good: str, bad: str) -> None:
    for sides in ({"prompt": "p", "chosen": "c", "rejected": "r"}, PAIR):
        even, right = one({**sides, good: 7.0, bad: "7"}), one({**sides, good: 8, bad: 7})
        assert isinstance(even, JudgedRow)
        assert isinstance(right, JudgedRow)
        assert (even.tie, right.tie) == (True, False)
        assert right.scores == (8, 7)
        assert refused({**sides, good: 6, bad: 7}) == f"{good} is lower than {bad}"
        alone = one({**sides, good: 8, bad: None})
        assert isinstance(alone, JudgedRow)
        assert alone.scores is None


def test_a_margin_in_words_is_shown() -> None:
    row = {"prompt": "p", "chosen": "c", "rejected": "r", "margin": "significantly better"}
    assert refused(row).startswith('margin is the word "significantly better", not a number')
    choices = {"prompt": "p", "completion_a": "c", "completion_b": "r", "choice": "a", "margin": "much"}
    assert refused(choices).startswith('margin is the word "much"')


def test_an_answer_that_begins_with_a_speaker_is_counted() -> None:
    how = Reading()
    row = {"chosen": "\n\nHuman: a\n\nAssistant: Human: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    assert texts(row, how=how)[1] == " Human: b"
    assert how.notices.lines() == ["an answer begins with a speaker's name: 1 row"]


# What a file looks like


@pytest.mark.parametrize(
    ("row", "likely"),
    [
        ({"prompt": "p", "answers": [], "source": "x"}, "looks like Nectar (format: nectar) without turns"),
        ({"question": {}, "answer_0": "a", "answer_1": "b", "score_0": 1}, "looks like WebGPT's comparisons"),
        ({"instruction": "i", "output_1": "a", "output_2": "b"}, "looks like AlpacaFarm's comparisons"),
        ({"instance_id": "1", "user_id": "me", "labels": {}}, "looks like Potato's export"),
        (
            {"prompt": "p", "answer_1": "a", "answer_2": "b", "better": 2},
            "{completion_a: answer_1, completion_b: answer_2",
        ),
        ({"version": 1, "data": [{"prompt": "p"}]}, 'one object that holds the rows under "data"'),
        ({"messages": [user("a"), bot("b")]}, "examples to imitate"),
        ({"instruction": "a", "output": "b"}, "examples to imitate"),
    ],
)
def test_a_file_that_is_not_read_says_what_it_looks_like(row: Row, likely: str) -> None:
    with pytest.raises(DataError) as caught:
        detect_format(row, "a.jsonl:1")
    said = str(caught.value)
    assert likely in said
    assert "\n" not in said
    # Catches: the hint of before, which named a column at random.
    assert "chosen: prompt" not in said


# Columns that say which is which, instead of holding it


@pytest.mark.parametrize(
    ("chosen", "rejected", "columns"),
    [
        ("response_b", "response_a", ("response_a", "response_b")),
        ("B", "A", ("response_a", "response_b")),
        ("second", "first", ("answer_2", "answer_1")),
        ("gpt", "llama", ("gpt", "llama")),
    ],
)
def test_chosen_and_rejected_that_are_names_are_no_answers(
    chosen: str, rejected: str, columns: tuple[str, str]
) -> None:
    row = {"prompt": "Why?", **dict.fromkeys(columns, "So."), "chosen": chosen, "rejected": rejected}
    with pytest.raises(DataError, match=r"columns: \{completion_a: \w+, completion_b: \w+, choice: chosen\}"):
        one(row)
    told = Reading(lists_are_texts=True)  # as where the format is named
    assert texts(row, "trl", how=told) == ("Why?", chosen, rejected)


def test_short_answers_are_answers() -> None:
    assert texts({"prompt": "Which?", "chosen": "A", "rejected": "B", "id": "1"})[1:] == ("A", "B")
    row = {"prompt": "Which?", "chosen": "A", "rejected": "B", "model_1": 3, "model_2": 4}
    assert texts(row)[1:] == ("A", "B")


def test_a_prompt_that_is_answered_already_is_refused() -> None:
    answered = [user("Why?"), bot("So.")]
    rows: list[Row] = [
        {"prompt": answered, "chosen": [bot("So.")], "rejected": [bot("No.")]},
        {
            "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
            "chosen": {"from": "gpt", "value": "So."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ]
    assert {refused(row) for row in rows} == {"the prompt ends with an answer of the assistant"}


def test_an_empty_prompt_before_whole_conversations_says_nothing() -> None:
    assert texts({"prompt": "", **PAIR}) == AS_READ


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"chosen": "nan"}, 'a chosen is the word "nan", as tables write an empty cell: 1 row'),
        ({"margin": -2}, "the margin is below 0, as if what was chosen were the worse one: 1 row"),
        (
            {"annotator": "ann"},
            '"annotator" was not read as people: columns: {annotator: annotator} reads it so',
        ),
        ({"votes_a": 1, "votes_b": 4}, "columns not used: votes_a, votes_b"),
        ({"votes_total": 4}, "columns not used: votes_total"),
    ],
)
def test_what_looks_like_a_mistake_is_said(more: Row, line: str) -> None:
    how = Reading()
    texts({"prompt": "Why is it so?", "chosen": "So.", "rejected": "No.", **more}, how=how)
    assert how.notices.lines() == [line]


@pytest.mark.parametrize(
    ("names", "mend"),
    [
        (("Prompt", "Chosen", "Rejected"), "{prompt: Prompt, chosen: Chosen, rejected: Rejected}"),
        (("prompt", "better", "worse"), "{chosen: better, rejected: worse}"),
        (("query", "response_chosen", "response_rejected"), "response_chosen, rejected: response_rejected}"),
        (("prompt", "accepted", "rejected"), "{chosen: accepted, rejected: rejected}"),
        (("instruction", "chosen", "rejected"), "{prompt: instruction}"),
        (("prompt", "answer_a", "answer_b", "label"), "completion_b: answer_b, choice: label}"),
        (("prompt", "answer_a", "answer_b", "zeta"), "two answers (answer_a, answer_b) and a verdict"),
        (("Question", "AnswerA", "AnswerB", "Winner"), "{prompt: Question, completion_a: AnswerA"),
    ],
)
def test_the_mend_names_the_columns_that_are_there(names: tuple[str, ...], mend: str) -> None:
    with pytest.raises(DataError) as caught:
        detect_format(dict.fromkeys(names, "x"), "a.csv:2")
    assert mend in str(caught.value)
    assert ("prompt: ..." in str(caught.value)) == ("zeta" in names)


def test_messages_beside_single_turns_are_named_as_the_prompt() -> None:
    row = {"messages": [user("Why?")], "chosen": bot("So."), "rejected": bot("No.")}
    with pytest.raises(DataError, match=r"\{prompt: messages\}"):
        detect_format(row, "a.jsonl:1")
    assert texts(row, prompt="messages") == AS_READ


def test_hh_without_blank_lines_at_its_start() -> None:
    row = {"chosen": "Human: Why?\n\nAssistant: So.", "rejected": "Human: Why?\n\nAssistant: No."}
    assert detect_format(row, "a.jsonl:1") == "hh"
    assert texts(row) == ("Human: Why?\n\nAssistant:", " So.", " No.")


def test_a_label_that_its_scores_contradict_is_refused() -> None:
    row: Row = {"history": "Why?", "human_ref_A": "So.", "human_ref_B": "No.", "score_A": 3, "score_B": 9}
    assert refused({**row, "labels": 1}) == "labels contradicts score_A and score_B"
    assert texts({**row, "labels": 0})[1:] == (" No.", " So.")


def test_a_value_that_is_no_number_is_shown() -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    for name, value in {"margin": "1,5", "tie": "maybe"}.items():
        found = one({**row, name: value})
        assert isinstance(found, Unusable)
        assert f'"{value}"' in found.line


def test_a_name_in_several_spellings_is_one_person_and_nan_is_nobody() -> None:
    assert len({person(name, "s") for name in (7, 7.0, "7", " 7 ", "7.0")}) == 1
    assert {person(name, "s") for name in (None, "", "  ", "nan", "NaN", "None", "<NA>", float("nan"))} == {None}
    assert person("7.5", "s") != person("7", "s") != person("seven", "s")
