"""Prompts as a server gets them: the text itself, or the turns it was written from.

``/completions`` continues the text that versions hold, so the chat template is this experiment's.
``/chat/completions`` writes turns with the server's template: there a prompt is read back into turns, and refused
where that is not exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pipeline.base.errors import ConfigError, ModelError
from pipeline.formats.judged import Refused
from pipeline.formats.messages import Message, Render, render_plain, turns_of, user
from pipeline.labelling.conversation import turns
from pipeline.modeling import tokens
from pipeline.modeling.types import Tokenizer


class Turns:
    """Reads prompts back into the messages they were written from.

    Args:
        render: how this experiment writes messages: by a chat template, or plainly.
        templated: whether that is by a template.
        where: the config, for messages.
    """

    def __init__(self, render: Render, templated: bool, where: str) -> None:
        self.render, self.templated, self.where = render, templated, where

    def messages(self, prompt: str) -> list[Message]:
        """The turns of a prompt; a text that is no conversation is a user's only turn.

        Raises:
            ConfigError: the template makes another text of them, so the server would too.
        """
        if not self.templated:
            return turns_of(prompt) or user(prompt)
        read = [{"role": role, "content": text} for role, text in turns(prompt) if role]
        # A template may write a system turn of its own, which is then read as if it had been given.
        for messages in (read, [m for m in read if m["role"] != "system"]):
            with contextlib.suppress(Refused, ModelError):
                if messages and self.render(messages, "")[0] == prompt:
                    return messages
        raise ConfigError(
            self.where,
            f"collect.sampler.api: chat sends turns, and this prompt is not to be read as such: {prompt[:80]!r}.",
            "Use api: completions, which continues the prompt as it is.",
        )

    def completion(self, answer: str) -> str:
        """An answer as the text that follows its prompt."""
        return answer if self.templated else self.render([], answer)[1]


def turns_reader(tokenizer: Tokenizer, template: str | None, where: str) -> Turns:
    """The reader of prompts that a task's ``chat_template`` wrote; None wrote them plainly.

    Args:
        tokenizer: the base's.
    """
    if template is None:
        return Turns(render_plain, False, where)
    render = (
        tokens.chat_render(tokenizer) if template == tokens.BASE_TEMPLATE else tokens.template_render(template)
    )
    return Turns(render, True, where)


def text_of(tokenizer: Tokenizer, ids: Sequence[int], ended: bool | None) -> str:
    """The text of sampled tokens as this process decodes its own: without the token that ended them."""
    row = list(ids)
    if (
        ended and row and row[-1] in tokenizer.all_special_ids
    ):  # a chat model may end by another than the tokenizer's
        row = row[:-1]
    return tokens.decode(tokenizer, row)
