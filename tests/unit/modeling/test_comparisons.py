"""Comparisons sampled for somebody to judge: every pair once, and the same ones however they are asked for."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.modeling.comparisons import Sampling
from pipeline.modeling.decoding import generation
from tests.conftest import tiny_gpt2, tiny_tokenizer

PROMPTS = ["w1 w2", "w3", "w4 w5 w6", "w7", "w8 w9", "w3"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    tiny_gpt2().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def sampling(base: Path, **changes: Any) -> Sampling:
    settings = {"per_prompt": 3, "temperature": 1.0, "batch_size": 4, "seed": 0, "completion_tokens": 3}
    return Sampling((str(base), None), None, PROMPTS, **{**settings, **changes})


def test_asking_for_them_in_pieces_changes_nothing(base: Path) -> None:
    # Mutations caught: randomness drawn anew for each piece; pieces that are no whole batches.
    whole, pieces = sampling(base), sampling(base, at_a_time=5)
    assert list(whole) == list(pieces)
    assert whole.report() == pieces.report()
    assert list(sampling(base, seed=1)) != list(whole)


def test_each_sample_beside_an_opponent_in_turn(base: Path) -> None:
    # Mutations caught: the samples beside each other; the same opponent for all; always on the same side.
    alone = [sorted((c.completion_a, c.completion_b)) for _, c in sampling(base)]
    opponents = [[f"first {i}", f"second {i}"] for i in range(len(PROMPTS))]
    some = sampling(base, opponents=opponents)
    drawn = list(some)
    assert some.report()["sampled"] == 3 * len(PROMPTS)
    sides = Counter[str]()
    samples: dict[int, list[str]] = {}
    for index, comparison in drawn:
        both = (comparison.completion_a, comparison.completion_b)
        (brought,) = [text for text in both if text in opponents[index]]
        sides[brought.split()[0] + "ab"[both.index(brought)]] += 1
        samples.setdefault(index, []).append(both[1 - both.index(brought)])
        assert comparison.prompt == PROMPTS[index]
    assert sides["firsta"] + sides["firstb"] == 2 * (sides["seconda"] + sides["secondb"])
    assert min(sides.values()) > 0
    assert sorted(alone) == sorted(sorted(pair) for texts in samples.values() for pair in combinations(texts, 2))


def test_the_report_says_in_which_precision_they_were_sampled(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes: list[set[torch.dtype]] = []
    sample = generation.generate
    monkeypatch.setattr(
        generation,
        "generate",
        lambda model, *args, **more: (
            dtypes.append({p.dtype for p in model.parameters()}),
            sample(model, *args, **more),
        )[1],
    )
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        some = sampling(base, dtype=dtype)
        assert len(list(some)) > 6
        assert some.report()["precision"] == name
        assert dtypes.pop() == {dtype}


def test_the_first_comes_before_the_last_is_sampled(base: Path) -> None:
    some = sampling(base, at_a_time=4)
    next(iter(some))
    assert int(some.report()["sampled"]) < len(PROMPTS)


def test_every_two_completions_of_a_prompt_are_compared_once(base: Path) -> None:
    some = sampling(base)
    found = list(some)
    assert all(PROMPTS[i] == c.prompt for i, c in found)
    for i in range(len(PROMPTS)):
        texts = dict.fromkeys(t for j, c in found if j == i for t in (c.completion_a, c.completion_b))
        pairs = [(c.completion_a, c.completion_b) for j, c in found if j == i]
        assert pairs == [p for p in combinations(texts, 2) if p in pairs]
    report = some.report()
    assert report["sampled"] == len(PROMPTS) * 3
    assert (
        int(report["sampled"]) - int(report["identical_or_repeated"])
        == len(found)
        == len({c.id for _, c in found})
    )


def test_equal_completions_are_left_out(base: Path) -> None:
    # At temperature 0 all completions of a prompt are equal.
    some = sampling(base, temperature=0.0)
    assert list(some) == []
    assert some.report()["identical_or_repeated"] == len(PROMPTS) * 3
