"""Diversity against hand counts, brute force, and simulated texts of known variety."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from pipeline.texts import similarity as alike
from pipeline.texts.diversity import (
    Diversity,
    diversity,
    effective,
    effective_number,
    entropy_at,
    most_common_sentence,
    ngram_count,
)


def test_effective_number_by_hand() -> None:
    assert effective_number([5]) == 1
    assert effective_number([7, 7, 7, 7]) == pytest.approx(4)
    # H of (1/2, 1/4, 1/4) is 1.5 ln 2; exp of that 2^1.5.
    assert effective_number(Counter("aabc").values()) == pytest.approx(2**1.5)
    assert effective_number([4, 0, 4]) == pytest.approx(2)
    for counts, at in (([], None), ([0], None), ([3, -1], None), ([3], 4), ([3], 0)):
        with pytest.raises(ValueError, match="counts of"):
            effective_number(counts, at)


# Catches: draws with replacement for draws without, a wrong range of k.
@pytest.mark.parametrize("at", [1, 2, 4, 6, 7])
def test_rarefaction_is_the_mean_over_every_sample(at: int) -> None:
    kinds = [0] * 4 + [1] * 2 + [2]
    each = [
        -sum(k / at * math.log(k / at) for k in Counter(sample).values()) for sample in combinations(kinds, at)
    ]
    assert entropy_at([4, 2, 1], at) == pytest.approx(float(np.mean(each)), abs=1e-12)


# The bias with sample size, as documented: 100 sentences, equally frequent, of 64 completions look like 43, of
# 800 like 94. At equal size two sides fall short alike, so equal variety is never told apart.
def test_known_variety_at_several_sizes() -> None:
    rng = np.random.default_rng(0)

    def shown(kinds: int, n: int) -> float:
        return float(np.mean([effective_number(np.bincount(rng.integers(kinds, size=n))) for _ in range(40)]))

    assert shown(100, 64) == pytest.approx(43, abs=2)
    assert shown(100, 800) == pytest.approx(94, abs=1)
    assert shown(100, 8000) == pytest.approx(100, abs=1)
    large = np.bincount(rng.integers(100, size=800))
    assert effective_number(large, 64) == pytest.approx(43, abs=2)
    # A collapse from 100 to 5 shows as 43 to 5: understated, never overstated.
    assert shown(5, 64) / shown(100, 64) > 5 / 100


# Catches: an error over completions where those of one prompt go together; a wrong influence function.
@pytest.mark.parametrize("per_prompt", [1, 2])
def test_the_standard_error_is_the_scatter_of_repeated_samples(per_prompt: int) -> None:
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, 21)
    weights /= weights.sum()
    logs, errors = [], []
    for _ in range(300):
        drawn = rng.choice(20, size=150, p=weights)
        items = [[int(kind)] for kind in np.repeat(drawn, per_prompt)]
        found = effective(items, np.repeat(np.arange(150), per_prompt))
        logs.append(math.log(found.value))
        errors.append(found.error)
    assert float(np.mean(errors)) == pytest.approx(float(np.std(logs)), rel=0.15)


def test_a_set_of_completions_by_hand() -> None:
    texts = ["A b c d. The end.", "X y. the end!", "", "one"]
    found = diversity(texts, ["p", "p", "q", "q"])
    assert (found.n, found.groups) == (4, 2)
    # Closings: the end (2), nothing, one; openings all differ.
    assert found.closings.value == pytest.approx(2**1.5)
    assert found.closings.coverage == 0.5
    assert found.openings.value == pytest.approx(4)
    assert (found.closing.text, found.closing.count, found.closing.share) == ("The end.", 2, 0.5)
    # Trigrams: 6 of "a b c d . the end ." and 4 of "x y . the end !"; only ". the end" is in both.
    assert ngram_count(texts) == 6 + 4
    assert found.ngrams is not None
    assert found.ngrams.n == 10
    assert found.ngrams.value == pytest.approx(effective_number([2, *[1] * 8]))
    half = diversity(texts, ngrams_at=5).ngrams
    assert half is not None
    assert half.n == 5
    assert half.value == pytest.approx(effective_number([2, *[1] * 8], 5))


def test_texts_that_are_no_prose() -> None:
    empty = diversity(["", "", ""])
    assert empty.closings.value == 1
    assert empty.ngrams is None
    assert empty.closing.text == ""
    assert empty.closing.share == 1
    assert empty.similar_across == 1
    words = diversity(["yes", "no", "Yes.", "maybe"])
    assert words.closings.value == pytest.approx(2**1.5)
    assert words.ngrams is None
    code = diversity(["def f(x):\n    return x\n", "def g(x):\n    return x\n"])
    assert code.closing.text == "return x"
    assert code.closings.value == 1
    chinese = diversity(["很好。我喜欢。", "不好。我喜欢！"])
    assert chinese.closing.text == "我喜欢。"
    assert chinese.characters == 1
    with pytest.raises(ValueError, match="no completions"):
        diversity([])
    with pytest.raises(ValueError, match="groups"):
        diversity(["a"], ["p", "q"])


# Catches: a sentence that one completion repeats counted as often; its rare spelling shown.
def test_the_most_common_sentence() -> None:
    texts = ["Nice. Nice. Nice. Nice.", "Good. It works.", "it works! Good.", "It works. Fine."]
    common = most_common_sentence(texts)
    assert (common.text, common.count, common.n) == ("It works.", 3, 4)


def test_similarity_by_hand() -> None:
    # Pairs of "a b c": ^a ab bc c$; of "a b d": ^a ab bd d$. Two of four and four.
    assert alike.similarity("a b c", "A b d") == 0.5
    assert alike.similarity("", "") == 1
    assert alike.similarity("yes", "Yes") == 1
    assert alike.similarity("yes", "no") == 0


# Catches: pairs of a text with itself; within and across exchanged.
def test_mean_similarity_is_that_of_every_pair() -> None:
    texts = ["a b c", "a b d", "x y", "a b", "x y", ""]
    groups = np.array([0, 0, 1, 1, 2, 2])
    table = alike.pairwise_similarity(texts)
    pairs = {(i, j): alike.similarity(texts[i], texts[j]) for i, j in combinations(range(6), 2)}
    assert {p: float(table[p]) for p in pairs} == pytest.approx(pairs)
    within, across = alike.mean_similarity(texts, groups)
    assert within == pytest.approx(np.mean([v for (i, j), v in pairs.items() if groups[i] == groups[j]]))
    assert across == pytest.approx(np.mean([v for (i, j), v in pairs.items() if groups[i] != groups[j]]))
    assert alike.mean_similarity(["a", "b"], [0, 1])[0] is None
    assert alike.mean_similarity(["a", "b"], [0, 0])[1] is None


def test_of_very_many_completions_whole_groups_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MOST_COMPARED", 20)
    texts = [f"{i // 2} same" for i in range(100)]
    within, across = alike.similarity_by_group(texts, np.arange(100) // 2)
    assert len(within) == 10
    assert within.tolist() == pytest.approx([1.0] * 10)
    assert len(across) == 10


# Texts of a grammar of known variety: 20 first sentences, 20 in the middle, `closings` at the end.
def grammar(closings: int, n: int = 400, seed: int = 0) -> Diversity:
    rng = np.random.default_rng(seed)
    drawn = zip(*(rng.integers(kinds, size=n).tolist() for kinds in (20, 20, closings)), strict=True)
    return diversity([f"It is part {a}. We saw it on day {b}. Number {c} is {c * 7} now." for a, b, c in drawn])


@pytest.mark.parametrize("kinds", [1, 4, 12, 60])
def test_the_variety_of_a_grammar_is_found_again(kinds: int) -> None:
    found = grammar(kinds)
    # Of 400 completions the largest of these falls short by 7 %: (kinds - 1) / 2n nats (Miller 1955).
    assert found.closings.value * math.exp((kinds - 1) / 800) == pytest.approx(kinds, rel=0.02)
    assert found.openings.value == pytest.approx(20, rel=0.05)
