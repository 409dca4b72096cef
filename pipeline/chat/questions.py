"""A question in progress, and the messages that its asker gets while it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pipeline.chat.streaming import Stream


@dataclass(frozen=True)
class Update:
    """What happened to a question.

    Attributes:
        kind: ``waits`` behind ``number`` others; ``text``: the whole text so far of ``side``; ``done``: it has
            ended, with ``number`` tokens; ``over``: both have; ``failed``: with the error ``text``.
        side: 0 base, 1 policy.
        score: the reward model's, of a text that is done.
        ended: the model ended the text; False where its length did.
    """

    kind: Literal["waits", "text", "done", "over", "failed"]
    side: int = 0
    text: str = ""
    number: int = 0
    score: float | None = None
    ended: bool = False


Tell = Callable[[Update], object]
"""Called on the engine's thread; it must not wait."""


@dataclass(eq=False)
class Question:
    """A question in progress."""

    who: str
    prompt: str
    prompt_ids: list[int]
    seed: int
    tell: Tell
    order: tuple[int, ...] = (0, 1)
    streams: list[Stream] = field(default_factory=list[Stream])
    told: list[str] = field(default_factory=lambda: ["", ""])
    reported: set[int] = field(default_factory=set[int])
    place: int | None = None
    stopped: bool = False
