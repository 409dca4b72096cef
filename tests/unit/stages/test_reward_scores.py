"""A reward model at chance is explained, from pairs and from single completions; a good one is left alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs, reward_metrics
from pipeline.evaluation.reward.pointwise_metrics import Completions, pointwise_metrics
from pipeline.stages import reward_scores
from pipeline.stages.reward_scores import (
    explain_chance,
    explain_chance_of_labels,
    held_out,
    held_out_labelled,
    pair_scores,
    training_rows,
    training_texts,
)
from pipeline.trainers.pointwise import Labelled
from pipeline.trainers.reward import Pairs

DRAWN = random.Random(3)


@pytest.fixture(scope="module")
def model() -> Any:
    """A sequence classifier with its head at zero: every score is 0, and no pair is right."""
    from peft import get_peft_model

    from pipeline.modeling.lora import lora_config

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "num_labels": 1,
        "n_layer": 1,
        "n_embd": 32,
        "n_head": 2,
        "n_positions": 16,
        "vocab_size": 20,
    }
    plain = GPT2ForSequenceClassification(
        GPT2Config(**shape, pad_token_id=0, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
    )
    plain.score.weight.data.zero_()
    config = lora_config(plain, r=2, alpha=4, dropout=0.0, target_modules=None, task_type="SEQ_CLS")
    return get_peft_model(plain, config).eval()


def text(good: bool) -> list[int]:
    """Six tokens; a good one ends in 7, which a linear probe of the states sees."""
    return [*(DRAWN.randint(1, 19) for _ in range(5)), 7 if good else 8]


def split(n: int) -> Pairs:
    chosen, rejected = ([text(good) for _ in range(n)] for good in (True, False))
    return Pairs(chosen, rejected, None, list(range(n)), 0)


def test_pairs_that_only_the_training_missed(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {"train": split(60), "test": split(40)}
    scores = pair_scores(model, pairs["test"].chosen_ids, pairs["test"].rejected_ids)
    metrics = reward_metrics(ScoredPairs(*scores, ["x"] * 40, ["y"] * 40))
    told = explain_chance(model, metrics, pairs)
    assert told.chance is not None
    assert (told.chance.cause, told.chance.learnt.value) == ("training", 0.0)
    assert told.chance.probe.value > 0.9
    assert told.notes[-1] == told.chance.sentence
    assert "probing the base's states" in capsys.readouterr().out
    good = replace(metrics, accuracy=replace(metrics.accuracy, value=0.8, low=0.7, high=0.9))
    assert explain_chance(model, good, pairs) is good


def test_single_completions(model: Any) -> None:
    liked = {s: [i % 2 == 0 for i in range(n)] for s, n in (("train", 60), ("test", 40))}
    labelled = {
        s: Labelled([text(g) for g in labels], labels, list(range(len(labels))), 0, 6)
        for s, labels in liked.items()
    }
    train, test = (Completions(liked[s], ["p"] * len(liked[s]), ["x"] * len(liked[s])) for s in ("train", "test"))
    told = explain_chance_of_labels(model, pointwise_metrics([0.0] * 40, 0.0, test, train), labelled)
    assert told.chance is not None
    assert (told.chance.cause, told.chance.learnt.value) == ("training", 0.5)
    assert told.chance.probe.value > 0.9
    assert "has an AUC of" in told.chance.sentence


# Catches: all rows of a long split, tokens of one side alone, no row of a single long one.
def test_few_rows_of_long_texts_are_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_scores, "PROBED", 5)
    monkeypatch.setattr(reward_scores, "PROBED_TOKENS", 100)
    short, long = [[i] * 5 for i in range(9)], [[i] * 20 for i in range(9)]
    assert len(set(reward_scores.probed(short))) == 5
    assert len(reward_scores.probed(long, short)) == 4
    assert len(reward_scores.probed([[1] * 200], [[1] * 200])) == 1
    assert reward_scores.probed(short) == reward_scores.probed(short, short)


# Mutations caught: tokens by the number of a row among all; baselines that learn from what was dropped.
def test_completions_and_tokens_of_what_was_kept_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [i for i in range(40) if i % 3]
    rows = [{"id": f"id {i}"} for i in range(40)]
    labelled = Labelled([[i] for i in kept], [True for _ in kept], kept, 40 - len(kept))
    for most in (1000, 9):
        monkeypatch.setattr(reward_scores, "MOST", most)
        held = held_out_labelled(iter(rows), labelled)
        assert [row["id"] for row in held.rows] == [f"id {ids[0]}" for ids in held.ids]
        assert (len(held.rows), held.of) == (min(most, len(kept)), len(kept))
        assert training_rows(iter(rows), kept, "completions") == held.rows
    assert reward_scores.sampled(9, 9, "pairs") == []
    assert reward_scores.sampled(9, 27, "pairs")[0].startswith("Measured on 9 of the 27 held-out pairs")


def numbered(n: int, kept: list[int]) -> tuple[list[dict[str, Any]], Pairs]:
    """Rows, and the pairs that some of them became."""
    rows = [{"id": f"id {i}", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(n)]
    return rows, Pairs([[i] for i in kept], [[-i] for i in kept], None, kept, n - len(kept))


# Mutations caught: rows counted among all instead of among the kept ones; a sample in the order of its hashes.
def test_rows_and_tokens_of_what_was_kept_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [i for i in range(40) if i % 3]
    rows, pairs = numbered(40, kept)
    whole = held_out(iter(rows), pairs)
    assert [row["id"] for row in whole.rows] == [f"id {i}" for i in kept]
    assert whole.chosen_ids == [[i] for i in kept]
    assert whole.of == len(whole.rows)
    assert training_texts(iter(rows), pairs) == [(f"c{i}", f"r{i}") for i in kept]
    monkeypatch.setattr(reward_scores, "MOST", 9)
    some = held_out(iter(rows), pairs)
    assert len(some.rows) == 9
    assert some.of == len(kept)
    numbers = [int(row["id"].removeprefix("id ")) for row in some.rows]
    assert numbers == sorted(numbers)
    assert some.rejected_ids == [[-i] for i in numbers]
    assert training_texts(iter(rows), pairs) == [(f"c{i}", f"r{i}") for i in numbers]
    # The same ones of the same rows in another order.
    turned, backwards = numbered(40, [39 - i for i in kept][::-1])
    assert {row["id"] for row in held_out(reversed(turned), backwards).rows} == {row["id"] for row in some.rows}
