"""The rule on collapse: on texts that have collapsed, and on texts that only look as if."""

from __future__ import annotations

import random

import pytest

from pipeline.tasks.random_walks import GOAL, Task
from pipeline.texts.collapse import collapse
from pipeline.texts.diversity import Common, Diversity, Effective, diversity, ngram_count, patterns_of
from pipeline.texts.patterns import frame_words

PEOPLE = ("My friends", "My sister", "The neighbours", "Our dog", "Everybody", "The guests", "I", "You", "They")
VERBS = (
    "loved it",
    "hated it",
    "saw it",
    "sold it",
    "broke it",
    "kept it",
    "gave it away",
    "forgot it",
    "took it",
)
THINGS = ("The lid", "The cup", "The price", "The box", "The colour", "The handle", "The sound", "The smell")
KINDS = ("superb", "awful", "plain", "loud", "soft", "broken", "cheap", "odd", "perfect", "dull")


def reviews(favourite: float, seed: int, n: int = 240, more: int = 2) -> list[str]:
    """Reviews of ``more`` sentences and a last one, which is the same in a share of ``favourite``."""
    rng = random.Random(seed)

    def other() -> str:
        return f"{rng.choice(THINGS)} was {rng.choice(KINDS)}."

    def last() -> str:
        return "My friends loved it." if rng.random() < favourite else f"{rng.choice(PEOPLE)} {rng.choice(VERBS)}."

    return [" ".join([*(other() for _ in range(more)), last()]) for _ in range(n)]


def compared(before: list[str], now: list[str], per_prompt: int = 2) -> tuple[Diversity, Diversity]:
    at = min(ngram_count(before), ngram_count(now)) or None
    groups, frame = [i // per_prompt for i in range(len(before))], frame_words(before)
    sides = [(texts, patterns_of(texts, frame)) for texts in (before, now)]
    patterns_at = min(sum(map(len, forms)) for _, forms in sides)
    first, second = (diversity(texts, groups, None, at, frame, patterns_at) for texts, _ in sides)
    return first, second


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("favourite", [0.6, 0.9, 1.0])
def test_a_favourite_last_sentence_is_a_collapse(favourite: float, seed: int) -> None:
    found = collapse(*compared(reviews(0, seed), reviews(favourite, 100 + seed)))
    assert found is not None
    assert found.place == "end"
    assert found.text == "My friends loved it."
    assert found.share == pytest.approx(favourite, abs=0.12)
    assert found.before > 60
    assert '"My friends loved it."' in str(found)


def test_a_favourite_first_sentence_is_one_too() -> None:
    before = [" ".join(reversed(text.split(". "))) for text in reviews(0, 0, more=1)]
    now = [f"Great question! {text}" for text in reviews(0, 1, more=0)]
    found = collapse(*compared(before, now))
    assert found is not None
    assert found.place == "begin"
    assert str(found).endswith('begin with "Great question!", 3 % in the most common one before')


def test_all_empty_is_a_collapse() -> None:
    found = collapse(*compared(reviews(0, 0), [""] * 240))
    assert found is not None
    assert found.text == ""
    assert "100 % are empty" in str(found)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("favourite", [0.0, 0.15])
def test_as_varied_as_the_base_is_none(favourite: float, seed: int) -> None:
    assert collapse(*compared(reviews(0, seed), reviews(favourite, 100 + seed))) is None


# Half of the base's sentences are blame: a policy that leaves out all of them says half as much, as it should.
def test_leaving_out_what_is_bad_is_none() -> None:
    rng = random.Random(0)
    base = [
        f"{rng.choice(PEOPLE)} {rng.choice(VERBS)}. {rng.choice(PEOPLE)} {rng.choice(VERBS)}." for _ in range(400)
    ]
    good = [
        f"{rng.choice(PEOPLE)} {rng.choice(VERBS[:5])}. {rng.choice(PEOPLE)} {rng.choice(VERBS[:5])}."
        for _ in base
    ]
    assert collapse(*compared(base, good)) is None


# A long text whose last line was asked for varies as before everywhere else.
def test_a_signature_is_none() -> None:
    before, now = reviews(0, 0, more=12), [f"{text} Yours, the shop." for text in reviews(0, 1, more=12)]
    assert collapse(*compared(before, now)) is None


def test_a_base_that_was_uniform_is_none() -> None:
    before, now = reviews(1.0, 0), reviews(1.0, 1)
    assert collapse(*compared(before, now)) is None
    labels = [random.Random(i).choice(["yes", "no"]) for i in range(200)]
    assert collapse(*compared(labels, ["yes"] * 200)) is None  # of two kinds there is no less than half
    assert collapse(*compared(labels, labels[::-1])) is None


# Every prompt has its own shortest walk: within a prompt nothing varies any more, and that is the optimum.
def test_the_optimum_of_a_task_with_one_answer_to_a_prompt_is_none() -> None:
    task, rng = Task(), random.Random(0)
    prompts = task.prompts("test", None, 0)

    def walk(prompt: str, shortest: bool) -> str:
        node, steps = prompt.split()[-1], []
        while node != GOAL and len(steps) < task.completion_tokens - 1:
            nearer = [n for n in task.edges[node] if task.shortest[n] == task.shortest[node] - 1]
            node = nearer[0] if shortest else rng.choice(task.edges[node])
            steps.append(node)
        return " ".join(steps)

    before, now = compared(
        [walk(p, False) for p in prompts for _ in range(2)], [walk(p, True) for p in prompts for _ in range(2)]
    )
    assert now.similar_within == 1
    assert now.closings.value < before.closings.value / 5
    assert collapse(before, now) is None


# Catches: no limit on the share, by which every policy that answers in few words would have collapsed.
def test_answers_that_are_one_of_a_few_are_none() -> None:
    rng = random.Random(0)
    before = [f"It is {rng.choice(KINDS)} and {rng.choice(KINDS)}." for _ in range(400)]
    now = [f"It is {rng.choice(KINDS[:6])}." for _ in range(400)]
    first, second = compared(before, now)
    assert second.closings.value < first.closings.value / 10
    assert second.closing.share > 2 * first.closing.share
    assert collapse(first, second) is None


def forms(kinds: int, seed: int, n: int = 240, sentences: int = 3, wide: int = 300) -> list[str]:
    """Texts of sentences of ``kinds`` forms, each with names that hardly any other has."""
    rng = random.Random(seed)

    def name() -> str:
        return f"{rng.choice('bdfgklmnprstvz')}{rng.choice('aeiou')}{rng.randrange(wide)}"

    words = ["the", "a", "was", "in", "of", "and", "it", "to", "had", "with", "for", "on"]
    frames = [words[i : i + 2] + words[i + 3 : i + 4] for i in range(8)]

    def sentence() -> str:
        first, second, third = frames[rng.randrange(kinds)]
        return f"{first.title()} {name()} {second} {name()} {third} {name()}."

    return [" ".join(sentence() for _ in range(sentences)) for _ in range(n)]


# The policy whose 599 closings were of one pattern. Mutations caught: the rule asks for closings, or for n-grams;
# no frame of the base's (each side's own); no limit on sentences.
def test_new_sentences_of_one_form_are_a_collapse() -> None:
    first, second = compared(forms(8, 0), forms(1, 1))
    assert second.closings.value > 0.9 * first.closings.value
    found = collapse(first, second)
    assert found is not None
    assert found.place == "pattern"
    assert (found.text, found.share) == ("… a … in …", 1)
    assert "8.0 before" in str(found)
    assert '100 % of all sentences are "… a … in …"' in str(found)
    for kinds in (8, 5):
        assert collapse(*compared(forms(8, 0), forms(kinds, 1))) is None
    # Answers in one form are what a task may ask for.
    assert collapse(*compared(forms(8, 0), forms(1, 1, sentences=1))) is None


def test_too_little_to_say() -> None:
    assert collapse(diversity(["A b."]), diversity(["C d."])) is None
    assert collapse(*compared(reviews(0, 0, 8), reviews(1, 0, 8))) is not None


def side(share: float, closings: float, groups: int) -> Diversity:
    """240 completions, of which this share end in one sentence."""
    common, varied = Common("It is.", round(240 * share), 240), Effective(100.0, 240, 0.05, 1.0)
    ends = Effective(closings, 240, 0.05, 1.0)
    rare = Common("So.", 2, 240)
    return Diversity(240, groups, ends, varied, None, varied, common, rare, common, rare, None, None, 0.0)


# Mutations caught: any rise of the share; completions counted instead of prompts. By hand: a rise from .1 to .3 is
# sure beyond 1.645 sqrt((.09 + .21) / prompts), which is .2015 of 20 prompts and .142 of 40.
@pytest.mark.parametrize(("prompts", "collapsed"), [(20, False), (40, True)])
def test_the_share_has_risen_by_more_than_prompts_differ(prompts: int, collapsed: bool) -> None:
    found = collapse(side(0.1, 80.0, prompts), side(0.3, 20.0, prompts))
    assert (found is not None) == collapsed
