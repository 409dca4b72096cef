"""The grammar of the embedded task: its sentences, the mood of each, and the generator of reviews.

One latent polarity per review determines its sentences and its closing line: with independent sentences a base
model has no reason to represent sentiment, and the reward model learns a closing phrase instead of an opinion.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Literal

Mood = Literal["good", "bad", "mixed"]

FILM_OPENINGS = (
    "I watched this film last night.",
    "I saw this movie on a rainy evening.",
    "We went to the cinema on Friday.",
    "My sister told me about this film.",
    "I saw it at a small festival.",
    "This was on television at the weekend.",
    "I had read the book before I saw the film.",
    "We watched it with the whole family.",
    "It runs for two hours and ten minutes.",
    "This is the second film in the series.",
    "A colleague lent me the disc.",
    "I knew nothing about it before it started.",
    "The trailer did not say much.",
    "It is set in a small town in the north.",
    "I have now seen it twice.",
    "It was filmed in three countries.",
)
PRODUCT_OPENINGS = (
    "I bought this {thing} in June.",
    "The {thing} arrived on Monday.",
    "I have used this {thing} for two weeks.",
    "We needed a new {thing} for the flat.",
    "My brother gave me this {thing}.",
    "I ordered the {thing} online.",
    "This {thing} replaced an older one.",
    "I use the {thing} every morning.",
    "I took this {thing} on a long trip.",
    "After a month with this {thing}, here are my notes.",
    "I chose this {thing} because of its size.",
    "The {thing} came in a plain box.",
)
THINGS = ("kettle", "phone", "lamp", "camera", "backpack", "radio", "tablet", "blender", "keyboard", "tent")
FILM_PARTS = (
    *("The plot", "The acting", "The music", "The ending", "The dialogue", "The camera work", "The story"),
    *("The lead actor", "The first half", "The script", "The cast", "The final scene", "The editing"),
)
PRODUCT_PARTS = (
    *("The battery", "The screen", "The handle", "The design", "The material", "The manual", "The sound"),
    *("The packaging", "The finish", "The lid", "The price", "The customer service", "The weight"),
)
VERBS = ("was", "is", "felt", "seemed", "looked")

GOOD_WORDS = (
    *("wonderful", "great", "brilliant", "charming", "excellent", "beautiful"),
    *("superb", "perfect", "lovely", "good", "nice"),
)
BAD_WORDS = (
    *("terrible", "boring", "awful", "dull", "bad", "horrible"),
    *("weak", "ugly", "annoying", "useless", "dreadful"),
)
PLAIN_WORDS = ("long", "short", "quiet", "simple", "modern", "average", "ordinary", "slow", "plain", "small")
DEGREES = ("", "", "", "really ", "quite ", "very ", "rather ", "so ", "truly ", "a bit ")
LINKS_SAME = (", and", " and")
LINKS_TURN = (", but", ", yet", ", although")

GOOD_SENTENCES = (
    "I enjoyed every minute of it.",
    "It made me smile more than once.",
    "My friends loved it too.",
    "It is a pleasure from start to finish.",
    "I was surprised by how well it works.",
    "There is a lot of care in the details.",
    "I laughed and I was happy for days.",
)
BAD_SENTENCES = (
    "I hated nearly every minute of it.",
    "It made me angry more than once.",
    "My friends disliked it too.",
    "It is a mess from start to finish.",
    "I was annoyed by how badly it works.",
    "There is no care in the details.",
    "I was bored and I was sad about the money.",
)
PLAIN_SENTENCES = (
    "It is about what the label says.",
    "There are three colours to choose from.",
    "Some parts are longer than others.",
    "It took a while to get used to it.",
    "I read the other reviews before this one.",
    "It comes from a small company.",
)
GOOD_CLOSINGS = (
    "I recommend it to everyone.",
    "I would choose it again.",
    "It is worth every penny.",
    "Five stars from me.",
    "You will love it.",
    "What a joy.",
)
BAD_CLOSINGS = (
    "I want my money back.",
    "I would avoid it.",
    "It is a waste of money.",
    "One star from me.",
    "You will regret it.",
    "What a failure.",
)
PLAIN_CLOSINGS = ("That is all I can say.", "Maybe I will try again next year.", "Judge for yourself.")

LEAN = {"good": 0.97, "bad": 0.03, "mixed": 0.5}
"""Probability that one opinion in a review of this mood is good."""


def review(rng: random.Random, parts_again: bool = False) -> str:
    """One review: an opening, one to three opinions and usually a closing line, all of one mood.

    Args:
        parts_again: draw parts with replacement.
    """
    film = rng.random() < 0.5
    mood: Mood = rng.choices(("good", "bad", "mixed"), (3, 3, 1))[0]
    every = FILM_PARTS if film else PRODUCT_PARTS
    part = partial(rng.choice, every) if parts_again else rng.sample(every, 6).pop
    sentences = [_opening(rng, film)]
    sentences += [_opinion(rng, mood, part) for _ in range(rng.choice((1, 2, 2, 3)))]
    if rng.random() < 0.35:
        good = rng.random() < LEAN[mood]
        sentences.append(rng.choice(GOOD_SENTENCES if good else BAD_SENTENCES))
    elif rng.random() < 0.15:
        sentences.append(rng.choice(PLAIN_SENTENCES))
    if rng.random() < 0.6:
        good = rng.random() < LEAN[mood]
        sentences.append(rng.choice(GOOD_CLOSINGS if good else BAD_CLOSINGS))
    elif rng.random() < 0.2:
        sentences.append(rng.choice(PLAIN_CLOSINGS))
    return " ".join(sentences)


def all_prompts() -> list[str]:
    """Every combination of an opening and the start of an opinion: ``... The plot was``."""
    films = [(o, FILM_PARTS) for o in FILM_OPENINGS]
    products = [(o.format(thing=t), PRODUCT_PARTS) for o in PRODUCT_OPENINGS for t in THINGS]
    return [f"{o} {part} {verb}" for o, parts in films + products for part in parts for verb in VERBS]


def _opening(rng: random.Random, film: bool) -> str:
    if film:
        return rng.choice(FILM_OPENINGS)
    return rng.choice(PRODUCT_OPENINGS).format(thing=rng.choice(THINGS))


def _opinion(rng: random.Random, mood: Mood, part: Callable[[], str]) -> str:
    """An opinion on one part, or on two."""
    good = rng.random() < LEAN[mood]
    text = f"{part()} {rng.choice(VERBS)} {rng.choice(DEGREES)}{_word(rng, good)}"
    if rng.random() < 0.4:
        second_good = rng.random() < LEAN[mood]
        link = rng.choice(LINKS_SAME if second_good == good else LINKS_TURN)
        second = part()
        text += f"{link} {second[0].lower()}{second[1:]} {rng.choice(VERBS)} {_word(rng, second_good)}"
    return text + "."


def _word(rng: random.Random, good: bool) -> str:
    if rng.random() < 0.15:
        return rng.choice(PLAIN_WORDS)
    return rng.choice(GOOD_WORDS if good else BAD_WORDS)
