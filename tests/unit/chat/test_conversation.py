"""Conversations as prompts: by a chat template, or written out."""

from __future__ import annotations

from pipeline.base.errors import ModelError
from pipeline.chat.conversation import Prompting
from pipeline.formats.messages import Message
from pipeline.labelling.conversation import turns
from tests.conftest import tiny_gpt2, tiny_tokenizer
from tests.helpers.refusals import refusal

TALK: list[Message] = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": " Hello."},
    {"role": "user", "content": "Who are you?"},
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def prompting(template: str | None = None, system: str | None = None) -> Prompting:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return Prompting(tiny_gpt2(), tokenizer, system, 12)


def test_without_a_template_a_first_message_is_the_prompt_itself() -> None:
    assert prompting().text(TALK[:1]) == "Hi."
    assert not prompting().has_template


# What the page of labelling shows of it are the turns again.
def test_without_a_template_later_turns_are_written_out() -> None:
    text = prompting().text(TALK)
    assert text == "User: Hi.\n\nAssistant: Hello.\n\nUser: Who are you?\n\nAssistant:"
    assert turns(text) == [("user", "Hi."), ("assistant", "Hello."), ("user", "Who are you?")]


def test_with_a_template_it_writes_the_turns() -> None:
    text = prompting(CHATML, "Be brief.").text(TALK)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n")
    assert text.endswith("Who are you?<|im_end|>\n<|im_start|>assistant\n")
    assert prompting(CHATML, "").text(TALK[:1]).startswith("<|im_start|>user")


def test_a_template_that_refuses_says_so_in_one_line() -> None:
    refusing = prompting("{{ raise_exception('no system turns') }}", "Be brief.")
    assert "no system turns" in refusal(ModelError, refusing.text, TALK)
