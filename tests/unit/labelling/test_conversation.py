"""Prompts split into turns: four spellings, and everything that only looks like one."""

from __future__ import annotations

import random

import pytest

from pipeline.formats.detect import render_plain
from pipeline.labelling.conversation import shown_prompt, turns

ASKED = "<|im_start|>user\nHow do I wash wool?<|im_end|>\n"
OPEN = "<|im_start|>assistant\n"


def test_hh_with_the_place_of_the_completion():
    prompt = "\n\nHuman: Hi there\n\nAssistant: Hello\n\nHuman: And now?\n\nIn two lines\n\nAssistant:"
    assert turns(prompt) == [("user", "Hi there"), ("assistant", "Hello"), ("user", "And now?\n\nIn two lines")]


def test_only_the_blank_after_the_colon_goes():
    assert turns("Human:  two\n\nAssistant:none \n\nHuman: x") == [
        ("user", " two"),
        ("assistant", "none "),
        ("user", "x"),
    ]


def test_plain_rendering_comes_back():
    messages = [
        {"role": "system", "content": "Be short.\nBe kind."},
        {"role": "user", "content": " two blanks  "},
        {"role": "assistant", "content": "a: b"},
        {"role": "user", "content": "Human: not a turn here"},
    ]
    text, _ = render_plain(messages, "")
    assert turns(text) == [(m["role"], m["content"]) for m in messages]


def test_chatml():
    prompt = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na\n\nb<|im_end|>\n<|im_start|>assistant\n"
    assert turns(prompt) == [("system", "Be kind."), ("user", "a\n\nb")]


def test_llama_3():
    prompt = (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert turns(prompt) == [("user", "Hi")]


def test_a_begun_answer_stays():
    assert turns("User: Hi\n\nAssistant: Well,") == [("user", "Hi"), ("assistant", "Well,")]
    assert turns("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nWell,")[-1] == ("assistant", "Well,")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The film was",
        "  leading and trailing \n\n",
        "User: a manual of 1990",  # one marker is a plain text
        "User: x\n\nHuman: y",
        "Assistant: I was first",
        "He said:\n\nHuman: hi\n\nAssistant: ho",  # text before the first turn
        "see <|im_start|>user\nHi<|im_end|>",
        "<|im_start|>user\nHi<|im_end|> and a rest<|im_start|>assistant\n",
        "<|im_start|>no role ends here",
        "<|im_start|>Rôle\nx",
        "<|start_header_id|>user",
        "\0\ud800\u202e<b>",
    ],
)
def test_anything_else_is_one_turn_with_every_character(text):
    assert turns(text) == [("", text)]


def test_random_texts_never_raise_and_lose_nothing_but_markers():
    # Seen failing: `before, *pieces` without the check of `before` (text before the first marker is lost).
    pieces = [
        "\n\nHuman:", "\n\nAssistant:", "User: ", "\n\nUser: ", "\n\nSystem:", "<|im_start|>", "<|im_end|>",
        "user", "assistant", "\n", "\n\n", " ", "x1", "y2", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>", ":",
    ]  # fmt: skip
    rng = random.Random(0)
    for _ in range(20_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(10)))
        said = "".join(content for _, content in turns(text))
        for word in ("x1", "y2"):
            assert said.count(word) == text.count(word), text


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        (f"<|im_start|>system\nBe brief.<|im_end|>\n{ASKED}{OPEN}", "How do I wash wool?"),
        (
            f"{ASKED}{OPEN}By hand.<|im_end|>\n<|im_start|>user\nHow warm?<|im_end|>\n{OPEN}",
            "user: How do I wash wool?\n\nassistant: By hand.\n\nuser: How warm?",
        ),
        ("\n\nHuman: How warm?\n\nAssistant:", "How warm?"),
        ("I bought this lamp last week.", "I bought this lamp last week."),
        (" A prompt that begins with a blank", " A prompt that begins with a blank"),
        ("", ""),
    ],
)
def test_a_prompt_as_it_is_shown(prompt: str, shown: str):
    assert shown_prompt(prompt) == shown


def test_a_judge_reads_the_system_turn():
    prompt = f"<|im_start|>system\nBe brief.<|im_end|>\n{ASKED}{OPEN}"
    assert shown_prompt(prompt, system=True) == "system: Be brief.\n\nuser: How do I wash wool?"
    assert shown_prompt(f"{ASKED}{OPEN}", system=True) == "How do I wash wool?"
