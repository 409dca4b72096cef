"""The grammar of ``chat``: what users tell of themselves, what they ask at last, and all kinds of replies.

A user tells two or three facts over some turns, may correct one, may ask for one on the way, and asks for one at
last, or for one that was never told. Replies in the corpus are right about half of the time: others take an old
value or that of another fact, evade, or talk of something else; some are polite and some rude, some brief and some
long.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.formats.messages import Message

VALUES = {
    "name": ("Ada", "Ben", "Dora", "Emil", "Nora", "Otto"),
    "favourite colour": ("red", "blue", "green", "white", "black"),
    "city": ("Oslo", "Rome", "Lima", "Cairo", "Paris"),
    "favourite fruit": ("apple", "cherry", "melon", "peach", "plum"),
    "favourite drink": ("tea", "coffee", "milk", "juice", "cocoa"),
    "lucky number": ("three", "four", "five", "seven", "nine"),
    "day off": ("Monday", "Tuesday", "Friday", "Saturday", "Sunday"),
}
"""The values of each fact that a user may tell."""

TOLD = ("My {} is {}.", "By the way, my {} is {}.")
CORRECTED = "Actually, my {} is {} now."
CHANGING = ("favourite colour", "city", "favourite drink", "lucky number", "day off")

QUESTIONS = ("What is my {}?", "Do you remember my {}?", "Can you tell me my {}?", "Please tell me my {} again.")

GREETINGS = ("Hello.", "Hi there.", "Good morning.", "Good evening.")
SMALL_TALK = ("It is a long day.", "I slept well.", "The bus was late.", "I just came home.", "We had rain here.")
HEARD = ("Good to know.", "I see.", "Noted.", "That is nice.", "All right.", "Thank you.")
REPEATED = ("I see, {}.", "So it is {}.", "Noted, {}.")

POLITE_BEFORE = ("Of course.", "Certainly.", "Gladly.", "With pleasure.", "Sure, happy to help.")
POLITE_AFTER = ("Happy to help.", "You are welcome.", "I am glad to help.")
RUDE = ("As I said before.", "You ask too much.", "That is a silly question.", "Not again.", "Pay attention.")
UNKNOWN = ("I am sorry, you have not told me your {}.", "Sorry, I do not know your {} yet.")
EVASIONS = ("I am not sure.", "I cannot say.", "Maybe you know it yourself.", "Let us talk about that later.")
ASIDES = (
    "Many people ask me that.",
    "The weather is fine today.",
    "I could talk about this all day.",
    "There is always a lot to say.",
    "I like to talk with people like you.",
    "Some questions are easier than others.",
)
ANSWERS = ("Your {} is {}.", "I think your {} is {}.", "You said that your {} is {}.")


@dataclass
class Conversation:
    """What was said, and the user's facts as they stand.

    Attributes:
        messages: ends with the user's question.
        facts: current value of each fact.
        stale: earlier values of corrected facts.
        asked: the fact that the last question is about.
        asked_before: facts asked for on the way.
    """

    messages: list[Message] = field(default_factory=list[Message])
    facts: dict[str, str] = field(default_factory=dict[str, str])
    stale: dict[str, str] = field(default_factory=dict[str, str])
    asked: str = ""
    asked_before: list[str] = field(default_factory=list[str])

    def user(self, content: str) -> None:
        """Add a turn of the user's."""
        self.messages.append({"role": "user", "content": content})

    def assistant(self, content: str) -> None:
        """Add a reply."""
        self.messages.append({"role": "assistant", "content": content})


def once_in_five(rng: random.Random) -> int:
    """How often a user asks on the way."""
    return int(rng.random() < 0.2)


def conversation(
    rng: random.Random, unknown_share: float, asked_before: Callable[[random.Random], int] = once_in_five
) -> Conversation:
    """A conversation up to the user's last question.

    Args:
        unknown_share: of the conversations that ask for a fact that was not told.
        asked_before: how often the user asks on the way.
    """
    talk = Conversation()
    told = rng.sample(list(VALUES), rng.choice((2, 2, 3)))
    turns = [told[i : i + 2] for i in range(0, len(told), 2)] if rng.random() < 0.7 else [[fact] for fact in told]
    for number, kinds in enumerate(turns):
        sentences = [_tell(rng, talk, kind) for kind in kinds]
        if number == 0 and rng.random() < 0.3:
            sentences.insert(0, rng.choice(GREETINGS))
        elif rng.random() < 0.15:
            sentences.append(rng.choice(SMALL_TALK))
        talk.user(" ".join(sentences))
        talk.assistant(_heard(rng, talk, kinds[-1]))
    changed = [kind for kind in told if kind in CHANGING]
    if changed and rng.random() < 0.2:
        kind = rng.choice(changed)
        talk.stale[kind] = talk.facts[kind]
        talk.facts[kind] = rng.choice([v for v in VALUES[kind] if v != talk.facts[kind]])
        talk.user(CORRECTED.format(kind, talk.facts[kind]))
        talk.assistant(_heard(rng, talk, kind))
    for _ in range(asked_before(rng)):
        before = rng.choice(told)
        _ask(rng, talk, before)
        talk.assistant(reply(rng, talk))
        talk.asked_before.append(before)
    rest = [kind for kind in VALUES if kind not in told]
    _ask(rng, talk, rng.choice(rest if rng.random() < unknown_share else told))
    return talk


def reply(rng: random.Random, talk: Conversation) -> str:
    """A reply of any quality to the last question."""
    value = _value(rng, talk)
    if value is None and talk.asked not in talk.facts and rng.random() < 0.5:
        core = rng.choice(UNKNOWN).format(talk.asked)
    elif value is None:
        core = rng.choice(EVASIONS)
    else:
        core = rng.choice(ANSWERS).format(talk.asked, value)
    manner, sentences = rng.random(), [core]
    if manner < 0.25:
        sentences.insert(0, rng.choice(POLITE_BEFORE))
    elif manner < 0.35:
        sentences.append(rng.choice(POLITE_AFTER))
    elif manner < 0.6:
        sentences.insert(rng.randrange(2), rng.choice(RUDE))
    if rng.random() < 0.45:
        others = [kind for kind in talk.facts if kind != talk.asked]
        asides: list[str] = rng.sample(ASIDES, rng.choice((1, 2)))
        if others and rng.random() < 0.5:
            kind = rng.choice(others)
            asides[0] = ANSWERS[0].format(kind, talk.facts[kind])
        sentences += asides
    return " ".join(sentences)


def _value(rng: random.Random, talk: Conversation) -> str | None:
    """The value that a reply gives: the right one, another one that the user has told, or none."""
    right, draw = talk.facts.get(talk.asked), rng.random()
    if right is not None and draw < 0.5:
        return right
    if draw >= 0.75:
        return None
    if talk.asked in talk.stale and draw < 0.7:
        return talk.stale[talk.asked]
    return rng.choice([value for kind, value in talk.facts.items() if kind != talk.asked])


def _heard(rng: random.Random, talk: Conversation, kind: str) -> str:
    """What an assistant says to a fact: some repeat it."""
    if rng.random() < 0.3:
        return rng.choice(HEARD)
    return rng.choice(REPEATED).format(talk.facts[kind])


def _tell(rng: random.Random, talk: Conversation, kind: str) -> str:
    talk.facts[kind] = rng.choice(VALUES[kind])
    return rng.choice(TOLD).format(kind, talk.facts[kind])


def _ask(rng: random.Random, talk: Conversation, kind: str) -> None:
    talk.asked = kind
    talk.user(rng.choice(QUESTIONS).format(kind))
