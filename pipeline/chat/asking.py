"""Ask base and policy on somebody's behalf, and seal what they answered for votes on it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.chat.engine import Engine
from pipeline.chat.exchange import Exchange, shown_order
from pipeline.chat.questions import Question, Tell, Update
from pipeline.chat.served import Served
from pipeline.formats.messages import Message
from pipeline.labelling.log.people import People


@dataclass(frozen=True)
class Talk:
    """A policy that can be talked to.

    Attributes:
        blind: hide which answer is whose until the person has chosen.
    """

    engine: Engine
    served: Served
    blind: bool = False

    def ask(self, who: str, messages: Sequence[Message], tell: Tell, people: People) -> Asked:
        """Ask both. Raises as :meth:`pipeline.chat.engine.Engine.ask`."""
        id = secrets.token_hex(8)
        order = shown_order(id, who, self.blind, people)
        return Asked(self, id, who, tuple(messages), order, self.engine.ask(who, messages, tell, order=order))


@dataclass(frozen=True)
class Asked:
    """A question of a person; place ``i`` of its answers shows side ``order[i]``."""

    talk: Talk
    id: str
    who: str
    messages: tuple[Message, ...]
    order: tuple[int, ...]
    question: Question

    def stop(self) -> None:
        """End it; nothing more is told of it."""
        self.talk.engine.stop(self.question)

    def exchange(self, done: Mapping[int, Update]) -> Exchange:
        """The exchange of the ended answers, given by side."""
        a, b = (done[side] for side in self.order)
        settings = self.talk.engine.settings
        sampling = {"temperature": settings.temperature, "completion_tokens": settings.completion_tokens}
        return Exchange(
            id=self.id,
            who=self.who,
            prompt=self.question.prompt,
            opening=self.messages[0]["content"],
            completions=(a.text, b.text),
            answerers=self.talk.served.answerers,
            scores=(a.score, b.score),
            sampling={**sampling, "seed": self.question.seed},
            blind=self.talk.blind,
        )
