"""Write a conversation as the prompt that a model reads: by its chat template, or plainly if it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.base.errors import DataError
from pipeline.formats.messages import Message, bot, render_plain
from pipeline.modeling.tokens import chat_render, encode_prompts, prompt_limit
from pipeline.modeling.types import CausalLM, Tokenizer

NO_TEMPLATE = (
    "This base has no chat template: it continues a first message as it stands; "
    "later turns are written out, with User: and Assistant: before them."
)


@dataclass(frozen=True)
class Prompting:
    """How conversations become prompts.

    Attributes:
        system: the system turn before every conversation; None leaves it to the template.
        completion_tokens: room that an answer needs.
    """

    model: CausalLM
    tokenizer: Tokenizer
    system: str | None
    completion_tokens: int

    @cached_property
    def has_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def text(self, messages: Sequence[Message]) -> str:
        """The prompt of a conversation whose last turn is the user's.

        Raises:
            ModelError: the chat template refuses it.
        """
        system: list[Message] = [] if not self.system else [{"role": "system", "content": self.system}]
        if self.has_template:
            return chat_render(self.tokenizer)([*system, *messages], "")[0]
        if len(messages) == 1 and not system:
            return messages[0]["content"]
        turns = [bot(m["content"])[0] if m["role"] == "assistant" else m for m in messages]
        return render_plain([*system, *turns], "")[0]

    def ids(self, prompt: str) -> list[int]:
        """The prompt's tokens. Raises DataError where the base has no room for them and an answer."""
        ids = encode_prompts(self.tokenizer, [prompt])[0]
        limit = prompt_limit(self.model, self.completion_tokens)
        if len(ids) > limit:
            what = (
                f"has {len(ids):,} tokens; this base reads {limit:,} and then answers in {self.completion_tokens}."
            )
            raise DataError("the conversation", what, "Shorten it, or start a new one.")
        return ids
