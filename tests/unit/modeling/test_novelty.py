"""Rewards for novelty within a batch, against counts made by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch

from pipeline.modeling.novelty import closings, common_sentences, trigrams
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.scorer import Samples

Novelty = Callable[[Sequence[str]], list[float]]

BATCH = [
    "The soup was cold. I would go again.",
    "Lovely rooms! I would go again.",
    "The soup was cold. We left early.",
    "I would go again",  # the same sentence, without its dot
    "",
]


# Seen failing with: the text itself counted among the others, shares of five instead of four, sentences compared
# with their end marks.
def test_by_hand() -> None:
    # "I would go again" ends three of five: for each of them two of the other four.
    assert closings(BATCH) == [-2 / 4, -2 / 4, 0.0, -2 / 4, 0.0]
    # "The soup was cold" is in two; the third text has it as its most common sentence.
    assert common_sentences(BATCH) == [-2 / 4, -2 / 4, -1 / 4, -2 / 4, 0.0]


def test_trigrams_by_hand() -> None:
    # "a b c" and "b c d" of the first, of which the second holds "b c d" too, and "c d e".
    assert trigrams(["a b c d", "b c d e", "x"]) == [-0.25, -0.25, 0.0]
    # Mutation caught: an n-gram counted as often as a text repeats it.
    assert trigrams(["a a a a a", "a a a", "b b b"]) == [-0.5, -0.5, 0.0]


def test_a_cut_text_ends_with_its_last_whole_sentence() -> None:
    # Mutation caught: a stump, which is always new, as a way to be called novel.
    assert closings(["It works. I like it.", "It broke. I like it. The han"]) == [-1.0, -1.0]


@pytest.mark.parametrize("novelty", [closings, common_sentences, trigrams])
def test_bounds(novelty: Novelty) -> None:
    assert novelty([]) == []
    assert novelty(["The only one of its kind."]) == [0.0]
    assert novelty(["All of us say so."] * 7) == [-1.0] * 7
    assert novelty([f"Text {i} has words that are {i} its own{i}." for i in range(9)])[0] > -0.5
    assert novelty(["", " ", "\n"]) == [0.0] * 3


@pytest.mark.parametrize("novelty", [closings, common_sentences])
def test_the_mean_does_not_depend_on_the_batch(novelty: Novelty) -> None:
    """Mutation caught: the text itself counted, which makes small batches look less novel."""
    rng = random.Random(0)
    drawn = [rng.choice(["Yes it is.", "No it is not.", "Who knows.", "Ask again."]) for _ in range(4096)]

    def mean(size: int) -> float:
        parts = [novelty(drawn[i : i + size]) for i in range(0, len(drawn), size)]
        return sum(map(sum, parts)) / len(drawn)

    assert mean(8) == pytest.approx(-0.25, abs=0.02)
    assert mean(512) == pytest.approx(-0.25, abs=0.02)


class Letters:
    """A tokenizer of one character each."""

    eos_token_id = 0
    pad_token_id = 1

    def decode(self, ids: Sequence[int], **_: object) -> str:
        return "".join(chr(i) for i in ids)


def samples(texts: Sequence[str]) -> Samples:
    return Samples([[65]] * len(texts), [[ord(c) for c in text] for text in texts], Letters(), ["A"] * len(texts))


def test_beside_another_reward() -> None:
    config = [
        {"function": "tests.unit.modeling.test_novelty:length"},
        {"function": "pipeline.modeling.novelty:closings", "weight": 0.5},
    ]
    scorer = build(config, ScorerContext("x.yaml", "cpu", lambda _: None))
    texts = ["So it is.", "So it is.", "No."]
    assert torch.equal(scorer(samples(texts)), torch.tensor([9.0 - 0.25, 9.0 - 0.25, 3.0]))
    # The same text among others. Mutation caught: scores kept by text.
    assert torch.equal(scorer(samples(texts[1:])), torch.tensor([9.0, 3.0]))


def length(completions: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in completions]
