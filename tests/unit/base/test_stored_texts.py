"""Stored texts, in memory and beyond, against a list."""

from __future__ import annotations

import os
import random
from array import array

import numpy as np
import pytest

from pipeline.base import stored_texts
from pipeline.base.stored_texts import StoredTexts, in_order

DRAW = random.Random(0)
TEXTS = ["".join(DRAW.choice("aß水\ud800\n") for _ in range(DRAW.randrange(20))) for _ in range(400)]


# Mutations caught: a tail that is not read once there is a file; bytes for characters; a read that ends in a text.
@pytest.mark.parametrize(("held", "read"), [(10**6, 1 << 20), (100, 1 << 20), (100, 37), (0, 1)])
def test_they_are_the_list(held: int, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_texts, "IN_MEMORY", held)
    monkeypatch.setattr(stored_texts, "_READ", read)
    texts = StoredTexts(TEXTS)
    assert list(texts) == TEXTS
    assert texts == TEXTS
    assert TEXTS == texts  # noqa: SIM300  # a list asks its other side
    assert texts != TEXTS[:-1]
    assert texts != [*TEXTS[:-1], "other"]
    assert [texts[i] for i in range(len(TEXTS))] == TEXTS
    assert texts[-3:] == TEXTS[-3:]
    assert texts + ["more"] == [*TEXTS, "more"]  # noqa: RUF005
    with pytest.raises(IndexError):
        texts[len(TEXTS)]
    texts.append("last")
    assert texts[-1] == "last"
    assert not StoredTexts()


def test_some_of_them_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_texts, "IN_MEMORY", 100)
    texts = StoredTexts(TEXTS)
    some = in_order(texts, np.array([5, 3, 399, 3]))
    assert list(some) == [TEXTS[i] for i in (5, 3, 399, 3)]
    assert list(in_order(some, np.array([2, 0]))) == [TEXTS[399], TEXTS[5]]
    assert list(texts.at(array("I", [1, 0]))) == [TEXTS[1], TEXTS[0]]
    assert in_order(TEXTS, np.array([5, 3])) == [TEXTS[5], TEXTS[3]]


# Mutations caught: a read from the first place asked for; one that goes on into what is not written; no limit.
@pytest.mark.parametrize(("held", "read"), [(10**6, 1 << 20), (100, 1 << 20), (100, 37), (3000, 1 << 20)])
def test_some_of_them_one_after_another(held: int, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_texts, "IN_MEMORY", held)
    monkeypatch.setattr(stored_texts, "_READ", read)
    monkeypatch.setattr(stored_texts, "_TOGETHER", 7)
    texts = StoredTexts(TEXTS)
    for places in (range(0, 400, 3), range(399, -1, -1), [5, 5, 0, 0, 399, 1], []):
        assert list(texts.at(np.array(places, np.uint32))) == [TEXTS[i] for i in places]


# Mutation caught: a place that is asked for twice.
def test_whether_they_are_known_to_differ() -> None:
    texts = StoredTexts(["a", "b", "c"], distinct=True)
    assert texts.at(array("I", [2, 0])).distinct
    assert not texts.at(array("I", [2, 0, 2])).distinct
    assert not StoredTexts(["a", "b"]).at(array("I", [1, 0])).distinct


def test_a_forked_process_does_not_move_the_place_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_texts, "IN_MEMORY", 0)
    texts = StoredTexts(TEXTS)
    here = iter(texts)
    read = [next(here) for _ in range(5)]
    if (child := os.fork()) == 0:
        os._exit(0 if texts[300] == TEXTS[300] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [*read, *here] == TEXTS
