"""The grammar of ``chat``: what users choose and change, what they ask for at last, and all kinds of replies.

A user tells the assistant of an order desk two or three choices over some turns, may change one, may ask for one
on the way, and asks for one at last, or for one that was never made. Replies in the corpus are right about half of
the time: others take an old value or another choice, evade, or talk of something else; some are polite and some
rude, some brief and some long.

A value follows the name of its kind wherever it is told (``the colour green``), in replies too: a base so small
learns to go by the history from few conversations only where it can be done in one step of attention.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.formats.messages import Message

VALUES = {
    "name": ("Ada", "Ben", "Dora", "Emil", "Greta", "Hugo", "Nora", "Otto"),
    "colour": ("red", "blue", "green", "white", "black", "brown"),
    "city": ("Oslo", "Rome", "Lima", "Cairo", "Paris", "Tokyo"),
    "fruit": ("apple", "cherry", "mango", "melon", "peach", "plum"),
    "drink": ("tea", "coffee", "milk", "juice", "cocoa", "cider"),
    "number": ("three", "four", "five", "six", "seven", "nine"),
    "day": ("Monday", "Tuesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
"""The values of each choice."""

TOLD = ("I choose the {} {}.", "Please note the {} {}.", "I take the {} {}.")
CHANGED = "No, I change to the {} {}."
QUESTIONS = (
    "Which {} did I choose?",
    "What was the {}?",
    "Can you tell me the {}?",
    "Please tell me the {} again.",
)

GREETINGS = ("Hello.", "Hi there.", "Good morning.", "Good evening.")
SMALL_TALK = ("It is a long day.", "I slept well.", "The bus was late.", "We had rain here.")
HEARD = ("Good to know.", "I see.", "Noted.", "That is nice.", "All right.", "Thank you.")
REPEATED = ("Good, the {} {}.", "I noted the {} {}.", "So it is the {} {}.")

POLITE_BEFORE = ("Of course.", "Certainly.", "Gladly.", "With pleasure.", "Sure, happy to help.")
POLITE_AFTER = ("Happy to help.", "You are welcome.", "I am glad to help.")
RUDE = ("As I said before.", "You ask too much.", "That is a silly question.", "Not again.", "Pay attention.")
UNKNOWN = ("I am sorry, you have not told me the {}.", "Sorry, I do not know the {} yet.")
EVASIONS = ("I am not sure.", "I cannot say.", "Maybe you know it yourself.", "Let us talk about that later.")
ASIDES = (
    "Many people ask me that.",
    "The weather is fine today.",
    "I could talk about this all day.",
    "There is always a lot to say.",
    "I like to talk with people like you.",
    "Some questions are easier than others.",
)
ANSWERS = ("You chose the {} {}.", "It is the {} {}.", "I noted the {} {}.")


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
    if rng.random() < 0.2:
        kind = rng.choice(told)
        talk.stale[kind] = talk.facts[kind]
        talk.facts[kind] = rng.choice([v for v in VALUES[kind] if v != talk.facts[kind]])
        talk.user(CHANGED.format(kind, talk.facts[kind]))
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
    return rng.choice(REPEATED).format(kind, talk.facts[kind])


def _tell(rng: random.Random, talk: Conversation, kind: str) -> str:
    talk.facts[kind] = rng.choice(VALUES[kind])
    return rng.choice(TOLD).format(kind, talk.facts[kind])


def _ask(rng: random.Random, talk: Conversation, kind: str) -> None:
    talk.asked = kind
    talk.user(rng.choice(QUESTIONS).format(kind))
