"""Files of tokens: the rows and the order of training as from memory; a half-written one is written anew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset

from pipeline.base.stored_texts import StoredTexts
from pipeline.trainers import reward, sft, token_file
from pipeline.trainers.rank_batches import SameOrder
from pipeline.trainers.token_file import IDS, FileColumn, first_and_longest, of_rank, row_lengths, rows_at
from tests.conftest import tiny_tokenizer

DRAW = random.Random(0)
ROWS = [[DRAW.randrange(100) for _ in range(DRAW.randrange(1, 9))] for _ in range(57)]


# Mutation caught: the first of equal values, whatever the rank.
def test_ranks_are_those_of_a_stable_sort() -> None:
    values = np.array([DRAW.randrange(5) for _ in range(40)], np.int32)
    order = np.argsort(values, kind="stable").tolist()
    assert [of_rank(values, rank) for rank in range(40)] == order


def batches(figures: dict[str, int]) -> Iterator[dict[str, Any]]:
    figures["batches"] = 0
    for start in range(0, len(ROWS), 10):
        figures["batches"] += 1
        yield {"ids": ROWS[start : start + 10]}


def fail(figures: dict[str, int]) -> Iterator[dict[str, Any]]:
    yield from batches(figures)
    raise KeyboardInterrupt


@pytest.mark.parametrize("size", [1, 200, 10**9])
@pytest.mark.parametrize("named", [True, False])
def test_a_column_is_the_list(named: bool, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "BATCH_BYTES", size)
    path = tmp_path / "new" / "a.arrow" if named else None
    table, figures = token_file.token_file(path, {"ids": IDS}, batches)
    column = FileColumn(table, "ids", path)
    assert figures == {"batches": 6}
    assert column == ROWS
    assert [column[i] for i in (56, 0, 31)] == [ROWS[i] for i in (56, 0, 31)]
    assert column[3:5] == ROWS[3:5]
    for places in ([], [0], [2, 3, 31, 56], list(range(len(ROWS)))):
        assert rows_at(column, places) == rows_at(ROWS, places) == [ROWS[i] for i in places]
    assert row_lengths(column).tolist() == row_lengths(ROWS).tolist() == [len(row) for row in ROWS]
    parts = [table.select(range(5, 50)), table.select(range(5))]
    longest = max(ROWS[5:50] + ROWS[:5], key=len)
    assert first_and_longest(parts, "ids") == [ROWS[5], longest]
    mixed = table.shuffle(seed=1)
    assert first_and_longest([mixed], "ids") == [mixed[0]["ids"], max(mixed["ids"], key=len)]


# Mutation caught: the file renamed before its last batch, or taken without the mark that it is whole.
def test_a_whole_file_is_taken_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    with pytest.raises(KeyboardInterrupt):
        token_file.token_file(path, {"ids": IDS}, fail)
    assert not path.exists()
    for how in (batches, fail):  # which is not asked again
        table, figures = token_file.token_file(path, {"ids": IDS}, how)
        assert (FileColumn(table, "ids"), figures) == (ROWS, {"batches": 6})


# Mutations caught: batches that overlap; a row's number counted within its batch; margins used where one lacks.
def test_pairs_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    words = ["the", "cat", "sat", "on", "a", "mat", "very", "good"]
    rows = [
        {"prompt": " ".join(DRAW.choices(words, k=3)), "margin": DRAW.random()}
        | {side: " " + " ".join(DRAW.choices(words, k=DRAW.randrange(1, 9))) for side in ("chosen", "rejected")}
        for _ in range(23)
    ]
    shortest = min(rows, key=lambda row: len(str(row)))
    shortest["margin"] = None
    found = []
    for size in (1000, 4):
        monkeypatch.setattr(reward, "ROWS", size)
        pairs = reward.tokenize_pairs(tokenizer, iter(rows), 9, "eos", tmp_path / f"{size}.arrow")
        found.append(
            [list(pairs.chosen_ids), list(pairs.rejected_ids), list(pairs.kept), pairs.dropped, pairs.longest]
        )
        assert 0 < pairs.dropped < 23
        assert pairs.margin is None
        assert pairs.without_margin == 1
        assert pairs.dataset().column_names == ["chosen_ids", "rejected_ids"]
    assert found[0] == found[1]
    rows.remove(shortest)
    kept = reward.tokenize_pairs(tokenizer, rows, 10**9, "eos")
    assert list(kept.margin or ()) == [row["margin"] for row in rows]
    assert kept.dataset()["margin"] == [row["margin"] for row in rows]


def test_texts_on_the_disk_are_tokenised_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {i} of them" * (i % 5 + 1) for i in range(40)]
    whole = sft.tokenize_corpus(tiny_tokenizer(), texts, 12)
    monkeypatch.setattr(sft, "ROWS", 7)
    stored = sft.tokenize_corpus(tiny_tokenizer(), StoredTexts(texts), 12)
    assert (stored.rows, stored.replies, stored.cut) == (whole.rows, None, whole.cut)
    assert max(map(len, whole.rows)) == 12
    assert whole.cut
    assert stored.part(3, 9)["input_ids"] == list(whole.rows)[3:9]


# Mutation caught: an order drawn from a generator whose seed leaves the epoch out.
@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_the_order_is_that_of_accelerate(generator: torch.Generator | None) -> None:
    data = Dataset.from_dict({"x": list(range(20_000))})
    theirs, again = (SeedableRandomSampler(data, generator=generator, data_seed=3) for _ in range(2))
    ours = SameOrder(again)
    for _ in range(2):
        assert list(ours) == list(theirs)
    assert ours.epoch == theirs.epoch == 2
