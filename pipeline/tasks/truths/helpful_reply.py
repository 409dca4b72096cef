"""The gold score of ``chat``: how helpful a reply is to the last question, given what was said before, in 0..1.

A reply is right or worth nothing: it names the value that the user gave last for what is asked, and no other
value of that kind; of a fact that was never told it says so, and guesses none. A right reply has half a point, a
quarter more if polite, a quarter more if brief (twelve words; none from twenty), and a quarter less if rude.
It counts in proportion where it

- repeats facts that nobody asked for: a quarter for each (parroting the history is no answer);
- ends in the middle of a sentence, or says a sentence twice: half;
- says the same words again and again: the share of different ones, below seven in ten.

Facts are read from the user's turns alone, so a reply that does not go by the history is right by luck: one time
in five or six, or one in seven where it admits to knowing nothing. What it does not know: facts told in words
that the grammar has not. To a turn that asks nothing of the grammar a reply is judged by its manners alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.labelling.conversation import turns
from pipeline.tasks.grammars import conversations as grammar
from pipeline.texts.sentences import sentences

HELPFUL_REPLY_NAME = "helpful reply (0..1)"

BRIEF, LONG = 12, 20
"""Words up to which a reply is brief, and from which it is not at all."""
RIGHT, MANNER = 0.5, 0.25
FACT_TOO_MANY, BROKEN = 0.25, 0.5
DIFFERENT_SHARE = 0.7

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_END = re.compile(r"[.!?…][\"'”’)\]]*$")
_POLITE = re.compile(
    r"\b(?:please|thanks?|thank you|of course|certainly|gladly|glad|happy to|pleasure|sorry|apologi[sz]e|welcome"
    r"|sure)\b",
    re.IGNORECASE,
)
_ADMITS = re.compile(
    r"\b(?:not|never|cannot|can['’]t|don['’]t|didn['’]t|haven['’]t|hasn['’]t)(?: \w+){0,2}? "
    r"(?:told?|tell|sa(?:id|y)|mention(?:ed)?|know|given?|shared?|information)\b",
    re.IGNORECASE,
)
_NUMBER = "number"
_DIGITS = dict(zip(grammar.VALUES[_NUMBER], (3, 4, 5, 6, 7, 9), strict=True))


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))


def _named(fact: str) -> re.Pattern[str]:
    digits = [str(n) for n in _DIGITS.values()] if fact == _NUMBER else []
    return re.compile(rf"\b(?:{_any_of([*grammar.VALUES[fact], *digits])})\b", re.IGNORECASE)


_NAMED = {fact: _named(fact) for fact in grammar.VALUES}
_STATED = {
    fact: re.compile(rf"\bthe {fact} ({_any_of(values)})\b", re.IGNORECASE)
    for fact, values in grammar.VALUES.items()
}
_ASKED = {fact: re.compile(rf"\b{fact}\b", re.IGNORECASE) for fact in grammar.VALUES}
_RUDE = re.compile(_any_of(sentence.rstrip(".") for sentence in grammar.RUDE), re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What the last turn of a conversation asks.

    Attributes:
        fact: the one that it asks for; None where it asks for none of the grammar.
        facts: those that the user has told, with their last values.
    """

    fact: str | None
    facts: dict[str, str]

    @property
    def value(self) -> str | None:
        """The right answer; None where it was not told."""
        return self.facts.get(self.fact) if self.fact is not None else None


def read(prompt: str) -> Asked:
    """What a conversation as a prompt asks, in any format that :func:`turns` knows; another text is one turn."""
    said = [text for role, text in turns(prompt) if role in ("user", "")]
    facts: dict[str, str] = {}
    for text in said[:-1]:
        for fact, pattern in _STATED.items():
            if stated := pattern.findall(text):
                facts[fact] = _spelled(fact)[stated[-1].lower()]
    last = said[-1] if said else ""
    return Asked(next((fact for fact, pattern in _ASKED.items() if pattern.search(last)), None), facts)


def helpful_reply(asked: Asked, reply: str) -> float:
    """The score of one reply."""
    words = _WORD.findall(reply.lower())
    right = _rightness(asked, reply)
    if not words or not right:
        return 0.0
    rude = bool(_RUDE.search(reply))
    polite = bool(_POLITE.search(reply)) and not rude
    brief = min(1.0, max(0.0, (LONG - len(words)) / (LONG - BRIEF)))
    score = RIGHT + MANNER * (polite + brief - rude)
    said = Counter(sentence.lower() for sentence in sentences(reply))
    broken = _END.search(reply.strip()) is None or max(said.values(), default=1) > 1
    different = min(1.0, len(set(words)) / len(words) / DIFFERENT_SHARE)
    return right * score * different * (BROKEN if broken else 1.0)


def _rightness(asked: Asked, reply: str) -> float:
    if asked.fact is None:
        return 1.0
    values = _values(asked.fact, reply)
    admits = _ADMITS.search(reply) is not None
    if asked.value is None:
        return float(admits and not values)
    if values != {asked.value} or admits:
        return 0.0
    others = [
        f for f, value in asked.facts.items() if f not in (asked.fact, "name") and value in _values(f, reply)
    ]
    return FACT_TOO_MANY ** len(others)


def _values(fact: str, reply: str) -> set[str]:
    """The values of a fact that a reply names, as the grammar spells them."""
    return {_spelled(fact)[match.lower()] for match in _NAMED[fact].findall(reply)}


def _spelled(fact: str) -> dict[str, str]:
    """A value by how it may be written, in small letters."""
    digits = {str(n): word for word, n in _DIGITS.items()} if fact == _NUMBER else {}
    return {**{value.lower(): value for value in grammar.VALUES[fact]}, **digits}


def helpful_replies(prompts: Sequence[str], replies: Sequence[str]) -> list[float]:
    """:func:`helpful_reply` of each reply to the last question of its prompt."""
    return [helpful_reply(read(prompt), reply) for prompt, reply in zip(prompts, replies, strict=True)]
