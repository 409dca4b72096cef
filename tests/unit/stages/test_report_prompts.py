"""Prompts on the report's page: conversations without their template's marks."""

from __future__ import annotations

import pytest

from pipeline.stages.report import shown_prompt

ASKED = "<|im_start|>user\nHow do I wash wool?<|im_end|>\n"
OPEN = "<|im_start|>assistant\n"


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
