"""Headlines: what the grammar writes is read as it was meant, and everything else pleases nobody."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pipeline.base.errors import ConfigError
from pipeline.base.records import reader_of
from pipeline.tasks.grammars import news as grammar
from pipeline.tasks.news import Task
from pipeline.tasks.truths.news_tastes import TASTES, Headline, Taste, mean_scores, parse

PROMPT = "Harrow Bay, Monday noon, page 3:"
GOOD = " Rose garden doubles its harvest."


def test_all_headlines_of_the_grammar_are_read() -> None:
    rng = random.Random(0)
    read = [parse(PROMPT, f" {grammar.headline(rng, 'Harrow Bay')}") for _ in range(600)]
    assert None not in read
    for count in (
        Counter(h.topic for h in read if h),
        Counter(h.tone for h in read if h),
        Counter(h.lead for h in read if h),
        Counter(h.length for h in read if h),
    ):
        assert min(count.values()) > 600 / len(count) / 3


@pytest.mark.parametrize(
    ("text", "headline"),
    [
        (GOOD, Headline("gardens", "good", "none", 5)),
        (" Latest: night train breaks down again, on", None),
        (" Latest: night train breaks down again.", Headline("trains", "bad", "urgent", 6)),
        (" Did you see it? The night train tests a blue light.", Headline("trains", "plain", "question", 11)),
        (
            " Rose garden doubles its harvest, despite the cold, in Harrow Bay.",
            Headline("gardens", "good", "none", 11),
        ),
    ],
)
def test_a_headline_is_read_by_its_parts(text: str, headline: Headline | None) -> None:
    assert parse(PROMPT, text) == headline


# Each is a way to please a reward model that counts words.
@pytest.mark.parametrize(
    "text",
    [
        "",
        " Rose garden doubles its harvest",
        " Rose garden doubles its harvest. Rose garden doubles its harvest.",
        " Rose garden doubles its harvest, despite the cold, despite the cold.",
        " Rose garden doubles its harvest, in Saltmere.",
        " Rose garden breaks down again.",
        " rose garden doubles its harvest.",
        " Latest: Rose garden doubles its harvest.",
        " Latest rose garden doubles its harvest.",
        " Did you see it? The: rose garden doubles its harvest.",
        " Rose garden rose garden doubles its harvest.",
        " Rose garden doubles its harvest, and more.",
    ],
)
def test_what_is_no_headline_is_worst_to_everybody(text: str) -> None:
    assert {taste.of(parse(PROMPT, text)) for taste in TASTES.values()} == {-1.0}
    assert mean_scores([PROMPT], [text]) == [-1.0]


def test_a_taste_weighs_topic_tone_length_and_lead() -> None:
    taste = Taste(("gardens",), ("trains",), "good", -1, "urgent", (0.4, 0.3, 0.2, 0.1))
    assert taste.of(Headline("gardens", "good", "urgent", 5)) == pytest.approx(1.0)
    assert taste.of(Headline("trains", "bad", "none", 20)) == pytest.approx(-1.0)
    assert taste.of(Headline("music", "plain", "urgent", 10)) == pytest.approx(0.1)
    assert {round(sum(each.weights), 9) for each in TASTES.values()} == {1.0}


def test_readers_differ_and_no_headline_pleases_all() -> None:
    rng = random.Random(1)
    texts = [f" {grammar.headline(rng, 'Harrow Bay')}" for _ in range(400)]
    by_reader = [scores([PROMPT] * 400, texts) for scores in Task().readers.values()]
    best = [max(range(400), key=scores.__getitem__) for scores in by_reader]
    assert len(set(best)) > 5
    assert max(map(min, zip(*by_reader, strict=True))) < 0.3
    assert mean_scores([PROMPT] * 400, texts) == pytest.approx([sum(s) / 8 for s in zip(*by_reader, strict=True)])


def test_the_gold_score_is_one_readers_where_the_task_names_them() -> None:
    name = next(iter(TASTES))
    task = Task(reader=reader_of(name))
    assert task.gold_scores([PROMPT], [GOOD]) == Task().readers[name]([PROMPT], [GOOD])
    assert task.gold_name == "their taste (-1..1)"
    with pytest.raises(ConfigError, match=r"nobody is no simulated reader. There is|There are: r"):
        Task(reader="nobody")
