"""The gold score of short replies: what a reader wants raises it, and no word or list of words does alone."""

from __future__ import annotations

import pytest

from pipeline.tasks.truths.clear_reply import clear_reply, plainness, syllables

REQUEST = "How do I keep ants out of the kitchen?"
GOOD = "Keep the kitchen dry and wipe up every crumb. Then the ants find no food and stay away."


def test_a_clear_reply_has_nearly_all():
    assert clear_reply(REQUEST, GOOD) > 0.95


@pytest.mark.parametrize(
    ("worse", "most"),
    [
        ("", 0.0),
        ("Yes.", 0.0),
        ("!!! 1. 2. 3.", 0.0),
        ("Yes. Yes. Yes. Yes. Yes. Yes. Yes. Yes.", 0.0),
        (GOOD.removesuffix(" away."), 0.7),  # cut by the limit
        (
            "Wash all of your shoes and brush them. Then the colour will look new for a long time.",
            0.7,
        ),  # another thing
        (REQUEST, 0.1),  # the request again says nothing
        ("Kitchen ants crumb food wipe dry sugar water clean floor.", 0.3),  # a list of keywords
        (f"{GOOD} {GOOD} {GOOD}", 0.8),  # what comes again
        (
            "Implementation of preventative sanitation procedures necessitates meticulous elimination of residual "
            "contamination, thereby discouraging the kitchen's ants.",
            0.7,
        ),
        ("Ants in the kitchen: 1. Wipe up all the crumbs and keep the food in a box. 2.", 0.7),  # an item begins
    ],
)
def test_what_is_not_a_clear_reply(worse: str, most: float):
    assert clear_reply(REQUEST, worse) <= most


def test_words_of_the_request_count_in_another_form_and_only_twice():
    planting = "When should I plant tulips?"
    assert (
        clear_reply(planting, "Planting a tulip is easy in a cold garden, so take a spade one autumn day.") > 0.9
    )
    more = "Kitchen ants keep to the kitchen, as ants do, and eat crumbs, sugar, honey and jam."
    assert clear_reply(REQUEST, more) < clear_reply(REQUEST, GOOD)


def test_plainness_is_fleschs():
    # 6 words in 1 sentence, 6 syllables: 206.835 - 1.015 * 6 - 84.6 = 116; above 90 it is 1
    assert plainness("The cat sat on the mat.") == 1.0
    # 5 words in 1 sentence, 8 syllables: 206.835 - 5.075 - 135.36 = 66.4, of 30..90
    assert plainness("The little kitten is sleeping.") == pytest.approx((66.4 - 30) / 60)
    assert plainness("...") == 0.0


@pytest.mark.parametrize(
    ("word", "number"),
    [("cat", 1), ("make", 1), ("table", 2), ("banana", 3), ("makes", 1), ("roses", 2), ("coffee", 2), ("hmm", 1)],
)
def test_syllables(word: str, number: int):
    assert syllables(word) == number
