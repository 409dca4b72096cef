"""The hidden tastes of simulated readers: parse a headline, and say how much a reader likes it, in -1..1.

A headline is known by its grammar. Anything else is -1 to everybody: a text cut off, a detail told twice, another
place than the prompt's, two headlines in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.tasks.grammars import news as grammar
from pipeline.tasks.grammars.news import Lead, Tone

SHORT, LONG = 8, 14
"""Words up to which a headline is short, and from which it is long."""


@dataclass(frozen=True)
class Headline:
    """A headline as it was parsed."""

    topic: str
    tone: Tone
    lead: Lead
    words: int

    @property
    def length(self) -> int:
        """-1 short, 0, 1 long."""
        return -1 if self.words <= SHORT else int(self.words >= LONG)


@dataclass(frozen=True)
class Taste:
    """What a reader likes; the weights of topic, tone, length and lead add up to 1.

    Attributes:
        likes, dislikes: topics; the others leave them cold.
        tone: of the news that they want; other news is -1, plain news 0 where that is not what they want.
        length: -1 for short ones, 1 for long ones.
        lead: the only kind that they like; None: it does not matter.
        weights: of topic, tone, length and lead.
    """

    likes: tuple[str, ...]
    dislikes: tuple[str, ...]
    tone: Tone
    length: int
    lead: Lead | None = None
    weights: tuple[float, float, float, float] = (0.6, 0.2, 0.2, 0.0)

    def of(self, read: Headline | None) -> float:
        """How much they like a headline, in [-1, 1]; -1 where it is none."""
        if read is None:
            return -1.0
        topic = (read.topic in self.likes) - (read.topic in self.dislikes)
        tone = 1 if read.tone == self.tone else 0 if read.tone == "plain" else -1
        lead = 0 if self.lead is None else 1 if read.lead == self.lead else -1
        parts = (topic, tone, read.length * self.length, lead)
        return sum(weight * part for weight, part in zip(self.weights, parts, strict=True))


LEADING = (0.5, 0.15, 0.15, 0.2)
"""Weights of a reader whom the lead matters to."""

TASTES = {
    "sim-gardener": Taste(("gardens", "food"), ("sport", "money"), "good", 1),
    "sim-commuter": Taste(("trains", "weather"), ("music", "gardens"), "good", -1, "urgent", LEADING),
    "sim-captain": Taste(("sport", "weather"), ("science", "food"), "good", -1),
    "sim-doubter": Taste(("money", "trains"), ("gardens", "music"), "bad", -1),
    "sim-cook": Taste(("food", "music"), ("trains", "science"), "good", 1, "question", LEADING),
    "sim-tinkerer": Taste(("science", "trains"), ("sport", "weather"), "plain", -1, "explainer", LEADING),
    "sim-dancer": Taste(("sport", "music"), ("money", "weather"), "good", -1),
    "sim-saver": Taste(("money", "science"), ("food", "trains"), "good", -1),
}
"""The simulated readers. On topics they differ, so that no headline pleases all; most want good, short news."""


def _one_of(choices: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, choices), key=len, reverse=True))


_SUBJECTS = {subject: name for name, topic in grammar.TOPICS.items() for subject in topic.subjects}
_DEEDS: dict[str, tuple[str, Tone]] = {
    deed: (name, tone)
    for name, topic in grammar.TOPICS.items()
    for tone, deeds in topic.deeds.items()
    for deed in deeds
}
_LEADS: dict[str, Lead] = {words: lead for lead, of in grammar.LEADS.items() for words in of}
_DETAIL = _one_of([*grammar.DETAILS, *(f"in {place}" for place in grammar.PLACES)])
_HEADLINE = re.compile(
    rf"(?:({_one_of(_LEADS)})(:?) )?({_one_of([*_SUBJECTS, *(s[0].upper() + s[1:] for s in _SUBJECTS)])}) "
    rf"({_one_of(_DEEDS)})((?:, (?:{_DETAIL}))*)\."
)


def parse(prompt: str, completion: str) -> Headline | None:
    """The headline that ``completion`` is after ``prompt``; None where it is none."""
    match = _HEADLINE.fullmatch(completion.strip())
    if match is None:
        return None
    words, colon, subject, deed, told = match.groups()
    lead: Lead = "none" if words is None else _LEADS[words]
    details = told.split(", ")[1:]
    places = [detail for detail in details if detail not in grammar.DETAILS]
    name, tone = _DEEDS[deed]
    faults = (
        (words is None) != subject[0].isupper(),
        bool(colon) != (lead == "urgent"),
        _SUBJECTS[subject[0].lower() + subject[1:]] != name,
        len(set(details)) < len(details),
        any(place != f"in {grammar.place_of(prompt)}" for place in places),
    )
    return None if any(faults) else Headline(name, tone, lead, len(completion.split()))


def taste_scores(taste: Taste, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """How much a reader likes each completion after its prompt."""
    return [taste.of(parse(p, c)) for p, c in zip(prompts, completions, strict=True)]


def mean_scores(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """How much the readers like each completion on average: what one policy for all can be good at."""
    read = [parse(p, c) for p, c in zip(prompts, completions, strict=True)]
    return [sum(taste.of(headline) for taste in TASTES.values()) / len(TASTES) for headline in read]
