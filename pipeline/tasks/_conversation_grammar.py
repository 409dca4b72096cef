"""The grammar of ``chat``: what users tell of themselves, what they ask at last, and all kinds of replies.

A user tells two or three facts over some turns, may correct one, may ask for one on the way, and asks for one at
last, or for one that was never told. Replies in the corpus are right about half of the time: others take the value
of another fact, an old value or one that nobody said, evade, or talk of something else; some are polite and some
rude, some brief and some long.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pipeline.formats.messages import Message

VALUES = {
    "name": (
        *("Ada", "Ben", "Carl", "Dora", "Emil", "Fay", "Greta", "Hugo", "Ida", "Jonas", "Kim", "Lena"),
        *("Max", "Nora", "Otto", "Pia", "Ruth", "Sam", "Tilda", "Vera"),
    ),
    "colour": ("red", "blue", "green", "yellow", "purple", "orange", "white", "black", "brown", "grey"),
    "city": ("Oslo", "Rome", "Lima", "Cairo", "Paris", "Tokyo", "Berlin", "Madrid", "Dublin", "Athens"),
    "pet": ("dog", "cat", "horse", "rabbit", "parrot", "turtle", "goat", "hamster"),
    "drink": ("tea", "coffee", "milk", "juice", "cocoa", "lemonade", "soda", "cider"),
    "number": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
"""The values of each fact."""

TOLD = {
    "name": ("My name is {}.", "I am {}.", "Please call me {}."),
    "colour": ("My favourite colour is {}.", "The colour I like most is {}."),
    "city": ("I live in {}.", "My home is in {}."),
    "pet": ("I have a {}.", "My pet is a {}."),
    "drink": ("I always drink {}.", "My favourite drink is {}."),
    "number": ("My lucky number is {}.", "The number I like most is {}."),
    "day": ("My day off is {}.", "I am free on {}."),
}
"""How a user tells a fact."""

CORRECTED = {
    "colour": "Actually, my favourite colour is {} now.",
    "city": "Actually, I have moved, and now I live in {}.",
    "drink": "Actually, my favourite drink is {} now.",
    "number": "Actually, my lucky number is {} now.",
    "day": "Actually, my day off is {} now.",
}
"""How a user changes a fact."""

SUBJECTS = {
    "name": "your name",
    "colour": "your favourite colour",
    "city": "your city",
    "pet": "your pet",
    "drink": "your favourite drink",
    "number": "your lucky number",
    "day": "your day off",
}
"""What an assistant calls a fact; a user says ``my``."""

QUESTIONS = ("What is {}?", "Do you remember {}?", "Can you tell me {}?", "Please tell me {} again.")

GREETINGS = ("Hello.", "Hi there.", "Good morning.", "Good evening.")
SMALL_TALK = ("It is a long day.", "I slept well.", "The bus was late.", "I just came home.", "We had rain here.")
HEARD = ("Good to know.", "I see.", "Noted.", "That is nice.", "All right.", "Thank you.")

POLITE_BEFORE = ("Of course.", "Certainly.", "Gladly.", "With pleasure.", "Sure, happy to help.")
POLITE_AFTER = ("Happy to help.", "You are welcome.", "I am glad to help.")
RUDE = ("As I said before.", "You ask too much.", "That is a silly question.", "Not again.", "Pay attention.")
UNKNOWN = ("I am sorry, you have not told me {}.", "Sorry, I do not know {} yet.")
EVASIONS = ("I am not sure.", "I cannot say.", "Maybe you know it yourself.", "Let us talk about that later.")
ASIDES = (
    "Many people ask me that.",
    "The weather is fine today.",
    "I could talk about this all day.",
    "There is always a lot to say.",
    "I like to talk with people like you.",
    "Some questions are easier than others.",
)
ANSWERS = ("{Subject} is {value}.", "It is {value}.", "You said {value}.", "{Subject} is {value}, as you told me.")


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


def conversation(rng: random.Random, unknown_share: float) -> Conversation:
    """A conversation up to the user's last question.

    Args:
        unknown_share: of the conversations that ask for a fact that was not told.
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
        talk.assistant(rng.choice(HEARD))
    changed = [kind for kind in told if kind in CORRECTED]
    if changed and rng.random() < 0.2:
        kind = rng.choice(changed)
        talk.stale[kind] = talk.facts[kind]
        talk.facts[kind] = rng.choice([v for v in VALUES[kind] if v != talk.facts[kind]])
        talk.user(CORRECTED[kind].format(talk.facts[kind]))
        talk.assistant(rng.choice(HEARD))
    if rng.random() < 0.2:
        before = rng.choice(told)
        _ask(rng, talk, before)
        talk.assistant(reply(rng, talk))
        talk.asked_before.append(before)
    rest = [kind for kind in VALUES if kind not in told]
    _ask(rng, talk, rng.choice(rest if rng.random() < unknown_share else told))
    return talk


def reply(rng: random.Random, talk: Conversation) -> str:
    """A reply of any quality to the last question."""
    subject = SUBJECTS[talk.asked]
    value = _value(rng, talk)
    if value is None and talk.asked not in talk.facts and rng.random() < 0.5:
        core = rng.choice(UNKNOWN).format(subject)
    elif value is None:
        core = rng.choice(EVASIONS)
    else:
        core = _said(rng.choice(ANSWERS), talk.asked, value)
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
            asides[0] = _said(ANSWERS[0], kind, talk.facts[kind])
        sentences += asides
    return " ".join(sentences)


def _value(rng: random.Random, talk: Conversation) -> str | None:
    """The value that a reply gives: the right one, a wrong one, or none."""
    right, draw = talk.facts.get(talk.asked), rng.random()
    if right is not None and draw < 0.5:
        return right
    if (right is None and draw < 0.5) or draw >= 0.8:
        return None
    if talk.asked in talk.stale and rng.random() < 0.5:
        return talk.stale[talk.asked]
    others = [value for kind, value in talk.facts.items() if kind != talk.asked]
    if others and rng.random() < 0.4:
        return rng.choice(others)
    return rng.choice([value for value in VALUES[talk.asked] if value != right])


def _said(answer: str, kind: str, value: str) -> str:
    """An answer about a fact, with the value's article."""
    article = "a " if value in VALUES["pet"] else ""
    return answer.format(Subject=SUBJECTS[kind].capitalize(), value=f"{article}{value}")


def _tell(rng: random.Random, talk: Conversation, kind: str) -> str:
    talk.facts[kind] = rng.choice(VALUES[kind])
    return rng.choice(TOLD[kind]).format(talk.facts[kind])


def _ask(rng: random.Random, talk: Conversation, kind: str) -> None:
    talk.asked = kind
    talk.user(rng.choice(QUESTIONS).format(SUBJECTS[kind].replace("your", "my", 1)))
