"""The grammar of local news: topics, what happens in them, and how a headline is put. All of it is made up.

A headline is an optional lead, a subject, what it does, and up to three details: ``Breaking: night train arrives
early after months of work, on Monday.`` Each part is known by its words alone, so a headline can be parsed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

Tone = Literal["good", "bad", "plain"]
TONES: tuple[Tone, ...] = get_args(Tone)
Lead = Literal["none", "urgent", "question", "explainer"]


@dataclass(frozen=True)
class Topic:
    """Subjects of a topic, and what they do, by tone."""

    subjects: tuple[str, ...]
    deeds: dict[Tone, tuple[str, ...]]


def _topic(subjects: str, good: str, bad: str, plain: str) -> Topic:
    listed = {"good": good, "bad": bad, "plain": plain}
    return Topic(tuple(subjects.split("; ")), {tone: tuple(listed[tone].split("; ")) for tone in TONES})


TOPICS = {
    "gardens": _topic(
        "rose garden; allotment club; old orchard; seed library; school greenhouse; herb garden",
        "wins first prize for tulips; doubles its harvest; blooms two weeks early; gives away its seedlings",
        "loses its oldest tree; is ruined by slugs; shuts its gates; runs out of water",
        "moves to the north wall; plants winter beans; counts its bees; prints a new map of beds",
    ),
    "trains": _topic(
        "night train; harbour tram; valley line; station clock; ticket office; ferry bus",
        "arrives early all week; gets new seats; carries a record number of children; reopens with free rides",
        "breaks down again; leaves passengers in the rain; is cancelled until summer; loses its brakes",
        "changes its timetable; tests a blue light; stops at platform four; gets a longer tunnel",
    ),
    "weather": _topic(
        "spring sun; sea breeze; warm front; first snow; morning fog; autumn rain",
        "brings a perfect weekend; saves the hay; ends the long drought; paints the hills gold",
        "floods the lower road; tears off three roofs; freezes the pipes; spoils the summer fair",
        "moves towards the coast; stays until noon; is measured at the pier; turns to the east",
    ),
    "sport": _topic(
        "women's eleven; rowing crew; chess team; cycling club; swimming relay; junior team",
        "wins the regional cup; breaks its own record; comes back from three down; earns a golden whistle",
        "loses the final; is disqualified; sinks to the last place; misses the semi-final by a second",
        "trains on the new field; picks a captain; plays away; changes its colours",
    ),
    "food": _topic(
        "corner bakery; soup kitchen; cheese market; noodle stall; village mill; honey fair",
        "bakes a prize loaf; feeds three hundred guests; shares its secret recipe; sells out in an hour",
        "burns its last batch; is shut by inspectors; serves sour milk; loses its ovens in a fire",
        "tries rye flour; opens at six; weighs its largest pumpkin; moves next to the pump",
    ),
    "science": _topic(
        "tide laboratory; star society; fossil museum; robot workshop; bird observatory; science kitchen",
        "finds a new comet; cures a sick elm; builds a bridge of paper; solves a puzzle of ninety years",
        "loses a year of data; withdraws its claim; floods its own cellar; misplaces a meteorite",
        "measures the salt marsh; tags forty owls; lends out a telescope; repeats an old experiment",
    ),
    "money": _topic(
        "town budget; savings club; bus fund; parish roof fund; fishing harbour; wool exchange",
        "ends the year in profit; cuts its fees by half; pays back its debts; finds a forgotten fortune",
        "is short by a million; raises its fees; goes bankrupt; loses half its members",
        "publishes its accounts; moves to a new bank; votes on a loan; counts its coins",
    ),
    "music": _topic(
        "brass band; lunch choir; organ school; drum circle; street opera; string quartet",
        "plays to a cheering hall; restores a lost waltz; fills the square with song; is invited to tour",
        "cancels its season; loses its drums; is booed off the stage; splits after a quarrel",
        "tunes for the winter; rehearses at the dock; tries a slow march; looks for a third tenor",
    ),
}

LEADS: dict[Lead, tuple[str, ...]] = {
    "urgent": ("Breaking", "Just in", "Latest"),
    "question": ("Did you see it? The", "Heard already? The", "Would you believe it? The"),
    "explainer": ("Explained, how the", "Inside story, how the", "Step by step, how the"),
}
DETAILS = (
    *("after months of work", "after a long night", "after a vote by show of hands"),
    *("with the help of forty volunteers", "with a little luck", "with the doors wide open"),
    *("for the third year in a row", "for the first time since the war", "for one day only"),
    *("in front of a small crowd", "to the surprise of the neighbours", "before the end of the month"),
    *("as the council looks on", "while the bells ring", "despite the cold"),
)
PLACES = (
    *("Harrow Bay", "Lower Wick", "Tallow Hill", "Marsh End", "Pine Harbour", "Northgate", "Elder Bridge"),
    *("Stone Quay", "Little Fenby", "Upper Moss", "Crane Point", "Windle", "Oak Landing", "Saltmere"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EDITIONS = ("morning", "noon", "evening", "late")
PAGES = range(1, 13)


def prompt_of(place: str, day: str, edition: str, page: int) -> str:
    """Where a headline will stand; it says nothing of what it is about."""
    return f"{place}, {day} {edition}, page {page}:"


def all_prompts() -> list[str]:
    """Every place, day, edition and page."""
    return [prompt_of(p, d, e, n) for p in PLACES for d in DAYS for e in EDITIONS for n in PAGES]


def place_of(prompt: str) -> str:
    """The place of a prompt."""
    return prompt.partition(",")[0]


def headline(rng: random.Random, place: str) -> str:
    """One headline; its topic, tone, lead and length are independent of each other and of the prompt."""
    topic = TOPICS[rng.choice(list(TOPICS))]
    deed = rng.choice(topic.deeds[rng.choice(TONES)])
    subject = rng.choice(topic.subjects)
    details = rng.sample(DETAILS, rng.choice((0, 0, 1, 1, 2)))
    if rng.random() < 0.25:
        details.insert(rng.randrange(len(details) + 1), f"in {place}")
    lead = rng.choice((None, None, None, *LEADS))
    start = subject[0].upper() + subject[1:]
    if lead is not None:
        start = f"{rng.choice(LEADS[lead])}{':' if lead == 'urgent' else ''} {subject}"
    return f"{start} {deed}{''.join(f', {detail}' for detail in details)}."


def article_line(rng: random.Random) -> str:
    """A prompt with its headline: a text of the corpus."""
    place = rng.choice(PLACES)
    prompt = prompt_of(place, rng.choice(DAYS), rng.choice(EDITIONS), rng.choice(PAGES))
    return f"{prompt} {headline(rng, place)}"
