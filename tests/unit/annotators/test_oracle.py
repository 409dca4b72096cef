"""The oracle: frequencies and flip rate against binomial intervals, and where its noise comes from."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.annotators import Annotator, Context, load_annotator
from pipeline.base.errors import ConfigError
from pipeline.base.records import Abstention, Annotation, Comparison

N = 4000


def length(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    return [float(len(completion)) for completion in completions]


def shortness(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    return [-score for score in length(prompts, completions)]


def oracle(gold: Callable[..., Any] = length, seed: int = 0, **options: Any) -> Annotator:
    context = Context(gold, seed, "configs/x.yaml", {"brief": shortness})
    annotator = load_annotator("oracle", options, context)
    assert isinstance(annotator, Annotator)
    return annotator


def comparisons(n: int = N, a: int = 2, b: int = 1) -> list[Comparison]:
    """``n`` comparisons whose gold scores are ``a`` and ``b``."""
    return [Comparison(f"prompt {i}", "x" * a, "y" * b) for i in range(n)]


def judge(annotator: Annotator, some: Sequence[Comparison]) -> list[Annotation]:
    judged = list(annotator.annotate_all(some))
    assert all(isinstance(j, Annotation) for j in judged)
    return [j for j in judged if isinstance(j, Annotation)]


def share_of_a(annotator: Annotator, a: int = 2, b: int = 1) -> float:
    return sum(j.choice == "a" for j in judge(annotator, comparisons(a=a, b=b))) / N


def near(share: float, p: float) -> bool:
    """Within 3.3 standard deviations of Binomial(N, p): one seed in a thousand is out, and seeds are fixed."""
    return abs(share - p) <= 3.3 * math.sqrt(p * (1 - p) / N)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("temperature", "a", "b"), [(1.0, 2, 1), (1.0, 1, 2), (0.5, 2, 1), (2.0, 4, 1), (1.0, 2, 2)]
)
def test_bradley_terry_frequencies(temperature: float, a: int, b: int) -> None:
    # Catches: temperature multiplied instead of divided, a and b swapped, the 1/2 in tanh forgotten.
    share = share_of_a(oracle(temperature=temperature, flip=0.0), a, b)
    assert near(share, sigmoid((a - b) / temperature))


@pytest.mark.parametrize("flip", [0.05, 0.1, 0.4])
def test_flip_rate(flip: float) -> None:
    # Catches: flipping at 1 - flip, or only choices of a.
    assert near(share_of_a(oracle(temperature=0.0, flip=flip)), 1 - flip)
    assert near(share_of_a(oracle(temperature=0.0, flip=flip), a=1, b=2), flip)


def test_flips_are_independent_of_the_noise() -> None:
    # P(a) = p(1 - f) + (1 - p)f. Catches: one draw used for both (P(a) would be p - f or p).
    p = sigmoid(1.0)
    assert near(share_of_a(oracle(temperature=1.0, flip=0.2)), p * 0.8 + (1 - p) * 0.2)


def test_temperature_zero_without_flips_is_the_truth() -> None:
    exact = oracle(temperature=0.0, flip=0.0)
    assert share_of_a(exact) == 1.0
    assert share_of_a(exact, a=1, b=2) == 0.0
    assert near(share_of_a(exact, a=2, b=2), 0.5)  # equal gold: a coin


def test_a_view_of_its_own() -> None:
    # Catches: the gold score used whatever the view, for the choice or for what is recorded.
    contrary = oracle(view="brief", temperature=0.0, flip=0.0, margin=True)
    assert share_of_a(contrary) == 0.0
    (judged,) = judge(contrary, comparisons(1, a=3, b=5))
    assert (judged.choice, judged.score_a, judged.score_b, judged.margin) == ("a", -3.0, -5.0, 2.0)
    assert share_of_a(oracle(view="gold", temperature=0.0, flip=0.0)) == 1.0


def test_a_view_needs_no_gold() -> None:
    assert share_of_a(oracle(lambda p, c: None, view="brief", temperature=0.0, flip=0.0)) == 0.0


def test_views_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match=r'^configs/x\.yaml: .*view "brie" is not known.*gold, brief') as caught:
        oracle(view="brie")
    assert "\n" not in str(caught.value)


def test_order_batches_and_restarts_do_not_matter() -> None:
    # Catches: a random generator that is shared between comparisons.
    some = comparisons(700)
    whole = {j.comparison_id: j for j in judge(oracle(), some)}
    shuffled = random.Random(1).sample(some, len(some))
    assert {j.comparison_id: j for j in judge(oracle(), shuffled)} == whole
    again = oracle()
    assert all(again.annotate(c) == whole[c.id] for c in some[:50])
    assert [j.comparison_id for j in judge(oracle(), some)] == [c.id for c in some]


def test_seeds_are_independent() -> None:
    some = comparisons()
    one, two = (judge(oracle(seed=seed, temperature=0.0, flip=0.3), some) for seed in (0, 1))
    same = sum(a.choice == b.choice for a, b in zip(one, two, strict=True)) / N
    assert near(same, 0.7**2 + 0.3**2)


def test_scores_are_recorded_and_the_margin_is_not() -> None:
    (judged,) = judge(oracle(temperature=0.0, flip=0.0), comparisons(1, a=3, b=5))
    assert (judged.choice, judged.score_a, judged.score_b, judged.margin) == ("b", 3.0, 5.0, None)
    (judged,) = judge(oracle(margin=True), comparisons(1, a=3, b=5))
    assert judged.margin == 2.0


@pytest.mark.parametrize(("tie_margin", "tie"), [(None, False), (0.0, False), (0.5, False), (1.0, True)])
def test_tie_margin(tie_margin: float | None, tie: bool) -> None:
    (judged,) = judge(oracle(tie_margin=tie_margin), comparisons(1))
    assert (judged.choice == "tie") is tie
    (judged,) = judge(oracle(tie_margin=tie_margin), comparisons(1, a=1, b=1))
    assert (judged.choice == "tie") is (tie_margin is not None)


@pytest.mark.parametrize(("words_a", "words_b"), [(4, 1), (1, 3), (2, 2)])
def test_a_taste_for_length(words_a: int, words_b: int) -> None:
    # Catches: the bias by characters, of the wrong sign, outside the temperature, or in the recorded scores.
    biased = oracle(lambda p, c: [0.5] * len(c), temperature=0.5, flip=0.0, length_bias=0.25)
    for long, ab in (("long ", "ab "), ("长", "短")):  # of Chinese, a character is a word
        some = [Comparison(f"prompt {i}", long * words_a, ab * words_b) for i in range(N)]
        judged = judge(biased, some)
        share = sum(j.choice == "a" for j in judged) / N
        assert near(share, sigmoid(0.25 * (words_a - words_b) / 0.5))
        assert {(j.score_a, j.score_b) for j in judged} == {(0.5, 0.5)}


def test_extreme_differences_do_not_overflow() -> None:
    assert share_of_a(oracle(temperature=1e-300, flip=0.0)) == 1.0


def test_gold_that_is_not_a_number_is_an_abstention() -> None:
    annotator = oracle(lambda p, c: [math.nan] * len(c))
    assert annotator.annotate(comparisons(1)[0]) == Abstention(
        comparisons(1)[0].id, "oracle", "gold score is not a number"
    )


def test_a_task_without_gold() -> None:
    with pytest.raises(ConfigError, match=r"^configs/x\.yaml: .*none.*view: vader") as caught:
        oracle(lambda p, c: None)
    assert "\n" not in str(caught.value)


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'Did you mean "collect\.annotator_args\.temperature"'):
        oracle(temprature=1)


# Mutations caught: a draw by the comparison, so that a completion is liked beside one and not beside another; a
# flip of the pair.
def test_votes_on_single_completions() -> None:
    annotator = oracle(like_above=1.5, temperature=0.5, flip=0.1)
    p_like = {n: 0.9 * sigmoid((n - 1.5) / 0.5) + 0.1 * sigmoid((1.5 - n) / 0.5) for n in (1, 2)}
    judged = judge(annotator, comparisons())
    shares = {choice: sum(j.choice == choice for j in judged) / N for choice in ("a", "b", "tie", "both_bad")}
    assert near(shares["a"], p_like[2] * (1 - p_like[1]))
    assert near(shares["b"], p_like[1] * (1 - p_like[2]))
    assert near(shares["tie"], p_like[1] * p_like[2])
    assert {(j.score_a, j.score_b) for j in judged} == {(2.0, 1.0)}
    beside_another = judge(annotator, comparisons(a=2, b=3))
    liked = [j.choice in ("a", "tie") for j in judged]
    assert liked == [j.choice in ("a", "tie") for j in beside_another]
    assert getattr(annotator, "votes_singly", False)
    assert not getattr(oracle(), "votes_singly", True)


def test_single_votes_compare_nothing() -> None:
    with pytest.raises(ConfigError, match="like_above judges completions one by one"):
        oracle(like_above=1.0, tie_margin=0.1)
