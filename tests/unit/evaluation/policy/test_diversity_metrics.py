"""Diversity with intervals: against simulated texts of known variety, brute force, and what may not be claimed."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.policy.diversity_best_of_n import best_of_n_diversity, expected_entropy, pattern_chances
from pipeline.evaluation.policy.diversity_metrics import compare_diversity, effective_number
from pipeline.evaluation.policy.policy_metrics import Sampled
from pipeline.results.diversity import Diversity
from pipeline.results.stats import to_json
from pipeline.statistics.bootstrap import Resampling
from pipeline.texts import diversity as measured

FEWER = Resampling(resamples=200)


def texts(kinds: int, n: int, seed: int, middle: int = 30) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        f"Part {a} is here. It ends as number {b}."
        for a, b in zip(rng.integers(middle, size=n), rng.integers(kinds, size=n), strict=True)
    ]


def side(completions: list[str]) -> Sampled:
    return Sampled(completions, [5] * len(completions), [True] * len(completions))


def compared(base: list[str], policy: list[str], per_prompt: int = 2, **more: Any) -> Diversity:
    return compare_diversity(side(base), side(policy), per_prompt, FEWER, **more)


def test_known_variety_is_found_with_its_ratio() -> None:
    found = compared(texts(60, 400, 0), texts(6, 400, 1))
    assert (found.completions, found.prompts) == (400, 200)
    assert found.closings.at == 400
    assert found.closings.base.value == pytest.approx(60 * math.exp(-59 / 800), rel=0.04)
    assert found.closings.policy.value == pytest.approx(6, rel=0.02)
    ratio = found.closings.ratio
    assert ratio.low < ratio.value < ratio.high < 0.13
    assert ratio.value == pytest.approx(found.closings.policy.value / found.closings.base.value)
    assert found.collapse is None  # no sentence is on a quarter of the completions
    assert found.openings.ratio.low < 1 < found.openings.ratio.high
    json.dumps(to_json(found), allow_nan=False)


# Catches: the shares of one side as the other's; an interval over completions.
def test_the_most_common_sentences_are_named_with_both_shares() -> None:
    base = ["Fine. It works."] * 2 + [f"Fine. Day {i}." for i in range(38)]
    policy = ["Fine. It works!"] * 30 + [f"Fine. Day {i}." for i in range(10)]
    found = compared(base, policy)
    assert found.closing["policy"].text == "It works!"
    assert found.closing["policy"].share.value == 0.75
    assert found.closing["policy"].share.n == 20
    assert found.closing["policy"].share_of_other.value == 0.05
    assert found.sentence["policy"].share.value == 1
    first = found.common[0]
    assert first.text in ("It works.", "It works!")
    assert (first.base.value, first.policy.value) == (0.05, 0.75)
    assert found.collapse.place == "end"
    assert found.collapse.text == "It works!"


# Catches: n-grams of a longer side counted beyond the shorter one's number.
def test_longer_texts_are_no_more_varied_for_their_length() -> None:
    rng = np.random.default_rng(0)

    def of_length(n: int) -> list[str]:
        return [" ".join(f"w{i}" for i in rng.integers(6, size=n)) for _ in range(200)]

    found = compared(of_length(6), of_length(18))
    assert found.ngrams.at == 200 * 4
    assert found.ngrams.ratio.value == pytest.approx(1, abs=0.04)


# Catches: an interval over completions, of which two go together here, or of an unpaired difference.
def test_the_interval_of_the_ratio_holds_the_truth() -> None:
    held, groups = 0, np.repeat(np.arange(200), 2)
    for seed in range(80):
        rng = np.random.default_rng(seed)
        base, policy = ([[k] for k in np.repeat(rng.integers(n, size=200), 2).tolist()] for n in (20, 8))
        ratio = effective_number({"base": base, "policy": policy}, groups, None, FEWER).ratio
        # Of 200 draws both fall short by (kinds - 1) / 2n nats, which the interval knows nothing of.
        held += ratio.low <= 8 / 20 * math.exp((19 - 7) / 400) <= ratio.high
    assert held >= 70


def test_similarity_within_and_across_prompts() -> None:
    base = [f"word{i} other{i}" for i in range(40)]
    policy = [f"word{i // 2} other{i // 2}" for i in range(40)]
    found = compared(base, policy)
    assert found.similar_within.policy.value == 1
    assert found.similar_within.base.value == 0
    assert found.similar_across.policy.value == 0
    assert compared(base, policy, per_prompt=1).similar_within is None


# Catches: a table of embeddings that is not of the texts; a missing difference.
def test_a_model_of_embeddings_says_what_is_alike_in_meaning() -> None:
    def embed(completions: Any) -> Any:
        angles = [0.0 if "good" in text or "fine" in text else math.pi / 2 for text in completions]
        return np.array([[math.cos(a), math.sin(a)] for a in angles], np.float32)

    found = compared(["good", "bad"] * 20, ["good", "fine"] * 20, embed=embed)
    assert found.by_meaning.embedding_within.base.value == pytest.approx(0, abs=1e-6)
    assert found.by_meaning.embedding_within.policy.value == pytest.approx(1)
    assert found.by_meaning.embedding_across.policy.value == pytest.approx(1)
    assert compared(["a"] * 4, ["b"] * 4).by_meaning is None


def test_texts_without_sentences() -> None:
    found = compared([""] * 20, ["", "yes"] * 10)
    assert found.ngrams is None
    assert found.closings.base.value == 1
    assert found.closing["base"].text == ""
    assert compared(["很好。"] * 20, ["不好。"] * 20).words.startswith("Words are single characters")


# Catches: the binomial for the Poisson binomial, an expectation of counts for one of entropies.
def test_expected_entropy_is_the_mean_over_every_outcome() -> None:
    chances = [{"a": 0.5, "b": 0.5}, {"a": 0.25, "c": 0.75}, {"b": 1.0}, {"a": 0.1, "b": 0.2, "c": 0.7}]
    expected = 0.0
    for outcome in itertools.product(*(row.items() for row in chances)):
        chance = math.prod(p for _, p in outcome)
        expected += chance * math.log(measured.effective_number(Counter(kind for kind, _ in outcome).values()))
    assert expected_entropy(chances) == pytest.approx(expected)


# Catches: weights of ranks given to the wrong samples; the base looking more varied for its many samples.
def test_best_of_n_closes_with_what_the_proxy_likes() -> None:
    rng = np.random.default_rng(0)
    prompts, samples = 40, 16
    ends = rng.integers(30, size=(prompts, samples))
    scores = np.where(ends == 0, 5.0, rng.normal(size=ends.shape))
    closings = [[f"End {k}." for k in row] for row in ends]
    policy = [["End 0.", "end 0!"] for _ in range(prompts)]
    found = best_of_n_diversity(scores, closings, [2, 16], policy, FEWER)
    assert [row.n for row in found.rows] == [1, 2, 16]
    base, _, best = found.rows
    # One of each prompt: what a sample of 40 shows of 30 kinds, not of 640.
    shown = [
        measured.effective_number(
            np.bincount([row[i] for row, i in zip(ends, rng.integers(samples, size=prompts), strict=True)])
        )
        for _ in range(400)
    ]
    assert math.log(base.closings.value) == pytest.approx(float(np.log(shown).mean()), abs=0.03)
    assert base.ratio.value == 1
    top = [row[int(np.argmax(s))] for row, s in zip(ends, scores, strict=True)]
    assert best.closings.value == pytest.approx(measured.effective_number(np.bincount(top)))
    assert best.closing.text == "End 0."
    assert best.closing.share == pytest.approx(np.mean(np.array(top) == 0))
    assert found.policy.closings.value == pytest.approx(1)
    assert found.policy.closing.share == pytest.approx(1)


# Catches: patterns by each side's own frequent words; shares of completions; a ratio at unequal numbers.
def test_patterns_are_compared_by_the_words_of_the_base() -> None:
    names = [f"n{i}" for i in range(400)]
    base = [f"The {a} and this. A {a} and the {a}." for a in names]
    policy = [
        f"The {a} now." if i % 4 else f"The {a} now. The {a} now, now now. So now, now."
        for i, a in enumerate(names)
    ]
    found = compared(base, policy)
    assert (found.patterns.at, found.patterns.base.value) == (600, pytest.approx(2, abs=0.01))
    assert found.pattern["policy"].text == "the …"  # "now" is frequent in the policy's texts alone
    assert found.pattern["policy"].share.value == pytest.approx(500 / 600)
    assert found.pattern["policy"].share_of_other.value == 0
    assert found.pattern["policy"].count == 500
    assert found.pattern["base"].share.value == 0.5


# Catches: all sentences of a long completion counted, by which long texts would weigh more.
def test_best_of_n_shows_one_sentence_of_each_completion() -> None:
    frame = frozenset({"a", "b", "c"})
    scores, texts = [[0.0, 1.0], [1.0, 0.0]], [["A x. B x.", "A y. A z. B z. C x."], ["C x.", "B y."]]
    held = [pattern_chances(row, frame) for row in texts]
    assert held[0] == [{"a …": 0.5, "b …": 0.5}, {"a …": 0.5, "b …": 0.25, "c …": 0.25}]
    found = best_of_n_diversity(scores, texts, [2], [["A."], ["A."]], FEWER, (held, [[{"a …": 1.0}]] * 2))
    base, best = found.rows
    expected = expected_entropy([{"a …": 0.5, "b …": 0.25, "c …": 0.25}, {"c …": 1.0}])
    assert math.log(best.patterns.value) == pytest.approx(expected)
    assert best.pattern.text == "c …"
    assert best.pattern.share == pytest.approx(0.625)
    assert best.patterns_ratio.value == pytest.approx(best.patterns.value / base.patterns.value)
    assert found.policy.patterns.value == pytest.approx(1)


def test_equal_scores_share_their_chances() -> None:
    found = best_of_n_diversity([[1.0, 1.0, 0.0]] * 3, [["A.", "B.", "C."]] * 3, [3], [["A."]] * 3, FEWER)
    assert math.log(found.rows[1].closings.value) == pytest.approx(expected_entropy([{"a": 0.5, "b": 0.5}] * 3))
