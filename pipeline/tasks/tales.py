"""A task for telling a person's text from a generated one: very short tales whose parts refer to each other.

A tale is an opening, which is the prompt, what its hero did with the thing that was found there, how that felt,
and an end. All of it has to fit: the pronoun the hero, the thing the opening, the use the thing, the verb the
number. So no completion fits more than a few of the prompts, and a policy that copies one tale is wrong nearly
everywhere.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.tasks import Split
from pipeline.tasks._pool import PromptPool, pool_by_hash

HEROES = {
    "She": ("queen", "aunt", "girl"),
    "He": ("king", "uncle", "boy"),
    "They": ("twins", "children", "sailors"),
}
USES = {
    "apple": ("washed", "shared"),
    "bell": ("rang", "polished"),
    "boat": ("painted", "rowed"),
    "drum": ("played", "tuned"),
    "hat": ("wore", "brushed"),
    "kite": ("flew", "mended"),
    "lamp": ("lit", "dusted"),
    "letter": ("opened", "answered"),
    "seed": ("planted", "watered"),
}
GOT = ("found", "bought")
PLACES = {
    "in the garden": "garden",
    "at the station": "station",
    "on the beach": "beach",
    "at the market": "market",
    "by the river": "river",
    "on the bridge": "bridge",
    "behind the mill": "mill",
}
MANNERS = ("slowly", "gladly", "at once", "at night", "outside", "alone")
FEELINGS = ("happy", "tired", "proud", "hungry", "curious", "calm", "surprised", "busy")
TIMES = ("Later", "Then", "In May", "On Monday")
FRIENDS = ("baker", "teacher", "doctor", "painter", "miller", "captain")
HIDING = ("under the bed", "behind the stove", "in a box", "on the shelf")
TRUTH_NAME = "fits throughout (0 or 1)"


@dataclass
class Task:
    """Tales; prompts are openings such as ``The queen found a kite by the river.``

    Args:
        corpus_size: tales to train a base on, and as many more that people's are taken from.
        completion_tokens: most tokens in a completion; a whole one has 10 to 22.
        careless: share of the corpus's tales in which something does not fit. A base learns to write such,
            and people write none: that is what there is to gain.
        test_share: share of the openings that are test prompts; no tale of the corpus begins with one.
    """

    corpus_size: int = 6000
    completion_tokens: int = 28
    careless: float = 0.6
    test_share: float = 0.15
    gold_name: str | None = field(init=False, default=TRUTH_NAME)

    def __post_init__(self) -> None:
        if self.corpus_size < 1 or self.completion_tokens < 1 or not 0 <= self.careless <= 1:
            raise ValueError("corpus_size and completion_tokens should be 1 or more, careless from 0 to 1.")

    def corpus(self, seed: int) -> list[str]:
        """Tales of train openings, some of them careless."""
        rng, openings = random.Random(f"corpus {seed}"), list(self._pool.train)
        tales = _tales(rng, openings, self.corpus_size)
        return [_spoilt(rng, tale, openings) if rng.random() < self.careless else tale for tale in tales]

    def written(self, seed: int) -> list[str]:
        """Tales of all openings, which no base is trained on."""
        return _tales(random.Random(f"written {seed}"), [*self._pool.train, *self._pool.test], self.corpus_size)

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`."""
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """1 where the completion, as it is, is one that the grammar has for this opening; else 0."""
        return [float(fits(prompt, completion)) for prompt, completion in zip(prompts, completions, strict=True)]

    @cached_property
    def _pool(self) -> PromptPool:
        return pool_by_hash(all_openings(), self.test_share, "task tales")


def all_openings() -> list[str]:
    """Every combination of a hero, a verb, a thing and a place."""
    heroes = [hero for of_pronoun in HEROES.values() for hero in of_pronoun]
    combinations = itertools.product(heroes, GOT, USES, PLACES)
    return [f"The {hero} {got} {_a(thing)} {place}." for hero, got, thing, place in combinations]


def continuation(rng: random.Random, opening: str) -> str:
    """A completion of an opening; the sentence on how it felt is there every second time."""
    pronoun, thing, place = _read(opening)
    sentences = [f"{pronoun} {rng.choice(USES[thing])} the {thing} {rng.choice(MANNERS)}."]
    if rng.random() < 0.5:
        sentences.append(f"{pronoun} {_was(pronoun)} {rng.choice(('', 'very '))}{rng.choice(FEELINGS)}.")
    ending = rng.choice(_endings(thing, place))
    sentences.append(f"{rng.choice(TIMES)} {pronoun.lower()} {rng.choice(ending)}.")
    return "".join(f" {sentence}" for sentence in sentences)


def fits(opening: str, completion: str) -> bool:
    """Whether a completion is one that :func:`continuation` can write after this opening."""
    try:
        pronoun, thing, place = _read(opening)
    except ValueError:
        return False
    return _completion(pronoun, thing, place).fullmatch(completion) is not None


@functools.cache
def _completion(pronoun: str, thing: str, place: str) -> re.Pattern[str]:
    endings = [text for group in _endings(thing, place) for text in group]
    return re.compile(
        rf" {pronoun} {_one_of(USES[thing])} the {thing} {_one_of(MANNERS)}\."
        rf"( {pronoun} {_was(pronoun)} (very )?{_one_of(FEELINGS)}\.)?"
        rf" {_one_of(TIMES)} {pronoun.lower()} {_one_of(endings)}\."
    )


def _endings(thing: str, place: str) -> list[list[str]]:
    """What may end a tale, in groups that are equally likely."""
    return [
        [f"gave the {thing} to the {friend}" for friend in FRIENDS],
        [f"hid the {thing} {where}" for where in HIDING],
        [f"went back to the {PLACES[place]}", f"dreamt of the {PLACES[place]}"],
        [f"took the {thing} home", f"lost the {thing}"],
    ]


def _read(opening: str) -> tuple[str, str, str]:
    """(pronoun, thing, place) of an opening. Raises ValueError: it is none."""
    match = _opening().fullmatch(opening)
    if match is None:
        raise ValueError(opening)
    hero, thing, place = match.group("hero", "thing", "place")
    return next(pronoun for pronoun, heroes in HEROES.items() if hero in heroes), thing, place


@functools.cache
def _opening() -> re.Pattern[str]:
    heroes = [hero for of_pronoun in HEROES.values() for hero in of_pronoun]
    hero, thing, place = ("|".join(names) for names in (heroes, USES, PLACES))
    return re.compile(rf"The (?P<hero>{hero}) {_one_of(GOT)} an? (?P<thing>{thing}) (?P<place>{place})\.")


def _tales(rng: random.Random, openings: Sequence[str], n: int) -> list[str]:
    drawn = (rng.choice(openings) for _ in range(n))
    return [opening + continuation(rng, opening) for opening in drawn]


def _spoilt(rng: random.Random, tale: str, openings: Sequence[str]) -> str:
    """The tale with a sentence of another, without an end, with a sentence twice, or going on after its end."""
    opening, *sentences = _sentences(tale)
    while True:
        spoilt = list(sentences)
        match rng.choice(("another", "no end", "twice", "goes on")):
            case "another":
                at = rng.choice((0, -1))
                spoilt[at] = _sentences(continuation(rng, rng.choice(openings)).lstrip())[at]
            case "no end":
                del spoilt[-1]
            case "twice":
                spoilt.insert(0, spoilt[0])
            case _:
                spoilt.append(_sentences(continuation(rng, opening).lstrip())[0])
        completion = "".join(f" {sentence}" for sentence in spoilt)
        if not fits(opening, completion):
            return opening + completion


def _sentences(text: str) -> list[str]:
    return text.replace(". ", ".\n").split("\n")


def _one_of(texts: Sequence[str]) -> str:
    return f"({'|'.join(map(re.escape, texts))})"


def _a(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def _was(pronoun: str) -> str:
    return "were" if pronoun == "They" else "was"
