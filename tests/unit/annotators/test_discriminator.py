"""The discriminator's annotator: a person's text wins, whoever stands where, and the sides of pairs it brings."""

from __future__ import annotations

import pytest

from pipeline.annotators import Annotator, Context, Opponent, load_annotator
from pipeline.annotators.discriminator import Discriminator
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import Abstention, Annotation, Comparison

TEXTS = [
    "A cat sleeps.",
    "A cat sat down.",
    "A cat is here, and it is a long tale of it.",
    "A catalogue.",
    "雨が降る。",
]


def discriminator(texts: list[str] | None = None, seed: int = 0, **options: object) -> Discriminator:
    context = Context(lambda *_: None, seed, "x.yaml", written=lambda _: TEXTS if texts is None else texts)
    made = load_annotator("discriminator", options, context)
    assert isinstance(made, Discriminator)
    return made


def test_it_brings_the_texts_that_begin_with_the_prompt():
    # Mutations caught: a prompt that ends inside a word ("A catalogue"); a prompt without a text, filled up.
    assert isinstance(discriminator(), Opponent)
    assert isinstance(discriminator(), Annotator)
    cats, nothing, rain = discriminator().opponents(["A cat", "A dog", "雨"])
    assert sorted(cats) == [" is here, and it is a long tale of it.", " sat down.", " sleeps."]
    assert nothing == []
    assert rain == ["が降る。"]
    assert sorted(discriminator(max_words=2).opponents(["A cat"])[0]) == [" sat down.", " sleeps."]


def test_a_prompt_that_comes_again_begins_with_the_next_text():
    first, second, third, fourth = discriminator().opponents(["A cat"] * 4)
    assert len({first[0], second[0], third[0]}) == 3
    assert fourth == first
    orders = {tuple(discriminator(seed=seed).opponents(["A cat"])[0]) for seed in range(20)}
    assert len(orders) > 2, "the order is the seed's"


def choice(a: str, b: str, seed: int = 0) -> str:
    answer = discriminator(seed=seed).annotate(Comparison("A cat", a, b))
    assert isinstance(answer, Annotation)
    return answer.choice


def test_the_person_wins():
    assert choice(" sleeps.", " flies well.") == "a"
    assert choice(" flies well.", " sleeps.") == "b"
    neither = discriminator().annotate(Comparison("A cat", " flies.", " swims."))
    assert isinstance(neither, Abstention)
    assert neither.reason == "neither is a person's text"


def test_where_the_policy_wrote_a_persons_text_it_is_a_toss_up():
    texts = [f"A cat {i}." for i in range(60)]
    pairs = [Comparison("A cat", f" {i}.", f" {i + 1}.") for i in range(0, 60, 2)]
    answers = [a.choice for a in discriminator(texts).annotate_all(pairs) if isinstance(a, Annotation)]
    assert len(answers) == 30
    assert 6 < answers.count("a") < 24


def test_without_texts_or_without_fitting_ones_it_says_so():
    with pytest.raises(ConfigError, match="compares samples with people's texts, and this task has none"):
        discriminator([])
    with pytest.raises(DataError, match="none of 5 texts of people begins with one of the 1 prompts"):
        discriminator().opponents(["Nobody"])
