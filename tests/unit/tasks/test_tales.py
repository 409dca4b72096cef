"""Tales: what the grammar writes fits, and every single thing that does not is told."""

from __future__ import annotations

import random

import pytest

from pipeline.tasks.tales import Task, all_openings, continuation, fits

OPENING = "The queen found a kite by the river."
GOOD = " She flew the kite at once. She was very proud. Later she gave the kite to the miller."


def test_what_the_grammar_writes_fits_its_opening_alone():
    rng = random.Random(0)
    openings = rng.sample(all_openings(), 300)
    written = [continuation(rng, opening) for opening in openings]
    assert all(fits(opening, text) for opening, text in zip(openings, written, strict=True))
    elsewhere = [fits(openings[i - 1], text) for i, text in enumerate(written)]
    assert sum(elsewhere) < 30


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD.replace("She flew", "He flew"),  # the hero
        GOOD.replace("flew", "lit"),  # what is done with it
        GOOD.replace("the kite to", "the lamp to"),  # the thing
        GOOD.replace("She was", "She were"),  # the number
        GOOD.replace("gave the kite to the miller", "went back to the market"),  # the place
        GOOD.replace("Later she", "Later they"),  # who, in the end
        GOOD.removesuffix("."),  # it breaks off
        GOOD + " She was tired.",  # it goes on after its end
        GOOD.replace(" She was very proud.", " She was very proud." * 2),  # it says it twice
        GOOD.replace(" Later", "  Later"),
        "",
    ],
)
def test_one_thing_that_does_not_fit(wrong: str):
    assert fits(OPENING, GOOD)
    assert fits(OPENING, GOOD.replace(" She was very proud.", ""))
    assert not fits(OPENING, wrong)
    assert Task().gold_scores([OPENING, OPENING], [GOOD, wrong]) == [1.0, 0.0]


def test_one_tale_copied_everywhere_is_worth_next_to_nothing():
    openings = all_openings()
    for seed in range(20):
        rng = random.Random(seed)
        copied = continuation(rng, rng.choice(openings))
        scores = Task().gold_scores(openings, [copied] * len(openings))
        assert 0 < sum(scores) / len(scores) < 0.05


def test_no_base_is_trained_on_a_test_opening_or_on_peoples_texts():
    task = Task(corpus_size=3000)
    corpus, people = task.corpus(0), task.written(0)
    test = task.prompts("test", None, 0)
    assert not any(text.startswith(tuple(test)) for text in corpus)
    assert sum(text.startswith(tuple(test)) for text in people) > 200
    assert len(set(corpus) & set(people)) < 60
    assert fits("no opening", GOOD) is False


def share_that_fits(texts: list[str]) -> float:
    halves = [text.partition(". ") for text in texts]
    return sum(fits(f"{opening}.", f" {rest}") for opening, _, rest in halves) / len(texts)


def test_of_the_corpus_a_share_is_careless_and_of_peoples_texts_none():
    # Mutation caught: a sentence exchanged for one that fits as well.
    assert abs(share_that_fits(Task(corpus_size=2000).corpus(0)) - 0.4) < 0.04
    assert share_that_fits(Task(corpus_size=500, careless=0).corpus(0)) == 1
    assert share_that_fits(Task(corpus_size=500, careless=1).corpus(0)) == 0
    assert share_that_fits(Task(corpus_size=500).written(0)) == 1
    with pytest.raises(ValueError, match="careless from 0 to 1"):
        Task(careless=1.5)
