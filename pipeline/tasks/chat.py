"""Conversations of several turns, of which the last reply is learnt. Needs no download.

The user tells of themselves and asks for it later, so a reply has to go by the history. The grammar is in
:mod:`pipeline.tasks.grammars.conversations`, the gold score in :mod:`pipeline.tasks.truths.helpful_reply`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.base.records import split_of
from pipeline.formats.messages import Message
from pipeline.tasks import Split
from pipeline.tasks._chat import chat_render
from pipeline.tasks._pool import PromptPool
from pipeline.tasks.grammars.conversations import conversation, reply
from pipeline.tasks.truths.helpful_reply import HELPFUL_REPLY_NAME, helpful_replies

Messages = list[Message]


@dataclass
class Task:
    """Prompts are conversations up to the opening of the last reply, as a chat template writes them.

    Args:
        conversations: to ask about, of both splits; the same ones for every seed.
        corpus_size: other conversations to train a base on, each with a last reply, good or bad.
        completion_tokens: most tokens in a reply.
        chat_template: ``base``, the base's own, which one from scratch has too; or a tokenizer (directory or Hub
            id); None writes turns out plainly, for a base that is no chat model.
        system: the system turn; None leaves it to the template, whose own some insert.
        unknown_share: of the conversations that ask for what was never told.
        test_share: share of the conversations that are test prompts.
    """

    conversations: int = 3000
    corpus_size: int = 12_000
    completion_tokens: int = 40
    chat_template: str | None = "base"
    system: str | None = None
    unknown_share: float = 0.15
    test_share: float = 0.2
    gold_name: str | None = field(init=False, default=HELPFUL_REPLY_NAME)

    def corpus(self, seed: int) -> list[Messages]:
        """Whole conversations, none of which asks what a test prompt asks after the same history."""
        rng = random.Random(f"corpus {seed}")
        held_out = {_identity(messages) for messages in self._sides["test"]}
        texts: list[Messages] = []
        while len(texts) < self.corpus_size:
            talk = conversation(rng, self.unknown_share, lambda rng: rng.choice((0, 1, 2)))
            if _identity(talk.messages) not in held_out:
                texts.append([*self._before, *talk.messages, {"role": "assistant", "content": reply(rng, talk)}])
        return texts

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`."""
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The worth of a reply to the last turn: :func:`pipeline.tasks.truths.helpful_reply.helpful_reply`."""
        return helpful_replies(prompts, completions)

    @property
    def _before(self) -> Messages:
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    @cached_property
    def _sides(self) -> dict[str, list[Messages]]:
        rng = random.Random("conversations")
        sides: dict[str, list[Messages]] = {"train": [], "test": []}
        for _ in range(self.conversations):
            messages = conversation(rng, self.unknown_share).messages
            sides[split_of(_identity(messages), self.test_share)].append(messages)
        return sides

    @cached_property
    def _pool(self) -> PromptPool:
        render = chat_render(self.chat_template)
        written = {
            split: list(dict.fromkeys(render([*self._before, *messages], "")[0] for messages in side))
            for split, side in self._sides.items()
        }
        return PromptPool(written["train"], written["test"])


def _identity(messages: Sequence[Message]) -> str:
    """The conversation without its template."""
    return "\n".join(message["content"] for message in messages)
