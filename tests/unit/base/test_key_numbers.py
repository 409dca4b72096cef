"""Numbers of keys, sets of texts and columns, against dicts, sets and lists."""

from __future__ import annotations

import math
import random
from array import array
from typing import Any

import numpy as np
import pytest

from pipeline.base.key_numbers import Column, KeyNumbers, Tally, TextSet


# Mutations caught: a slot compared by one half of the key; a table that loses keys when it doubles (``lost`` not
# moved on); numbers given by last instead of first occurrence.
def test_keys_get_the_numbers_that_a_dict_gives_them() -> None:
    draw = random.Random(0)
    # Equal halves, so that all look for one slot; and keys that differ in one half alone.
    keys = [2 * draw.randbytes(8) for _ in range(60)]
    keys += [draw.randbytes(8) + bytes(8) for _ in range(60)] + [bytes(8) + draw.randbytes(8) for _ in range(60)]
    keys += [draw.randbytes(16) for _ in range(3000)]
    numbers, by_dict = KeyNumbers(), dict[bytes, int]()
    for _ in range(8000):
        key = draw.choice(keys)
        new = key not in by_dict
        assert (key in numbers) is not new
        assert numbers.add(key) == (by_dict.setdefault(key, len(by_dict)), new)
    assert len(numbers) == len(by_dict)
    assert [numbers.key(n) for n in by_dict.values()] == list(by_dict)
    assert all((key in numbers) == (key in by_dict) for key in keys)


_Array: Any = array


class Counted(_Array):
    """Counts how often a number is read."""

    reads = 0

    def __getitem__(self, place: Any) -> Any:
        Counted.reads += 1
        return super().__getitem__(place)


# Seen failing with: slots by the second half alone, which a person's votes with one choice have in common: each
# looked at all before it.
@pytest.mark.parametrize("half", [0, 1])
def test_keys_with_one_half_alike_are_found_at_once(half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, numbers = random.Random(0), KeyNumbers()
    numbers._second = Counted("Q")
    monkeypatch.setattr(Counted, "reads", 0)
    for _ in range(5000):
        own, same = draw.randbytes(8), b"same one"
        numbers.add(own + same if half else same + own)
    assert Counted.reads < 5 * 5000


def test_numbers_are_ordered_by_their_keys_as_bytes() -> None:
    draw = random.Random(1)
    numbers = KeyNumbers()
    keys = [draw.randbytes(16) for _ in range(50)] + [bytes(15) + b"\x01", b"\x01" + bytes(15), b"\xff" * 16]
    draw.shuffle(keys)
    for key in keys:
        numbers.add(key)
    some = np.arange(0, len(keys), 2)
    assert [numbers.key(int(n)) for n in numbers.in_order(some)] == sorted(keys[::2])


def test_a_set_of_texts() -> None:
    texts = TextSet(["a", "b", "a", "\ud800"])
    assert len(texts) == 3
    assert "a" in texts
    assert "\ud800" in texts
    assert "c" not in texts
    assert None not in texts
    assert not TextSet()


@pytest.mark.parametrize("usual", [1.0, math.nan])
def test_a_column_takes_memory_from_its_first_unusual_value_on(usual: float) -> None:
    column = Column("d", usual)
    for _ in range(5):
        column.append(usual)
    assert column._values is None
    np.testing.assert_equal(column.numpy(), [usual] * 5)
    for value in (2.0, usual, 3.0):
        column.append(value)
    np.testing.assert_equal(list(column), [usual] * 5 + [2.0, usual, 3.0])
    np.testing.assert_equal(column.numpy(), list(column))
    assert len(column) == 8


def test_a_tally_counts_what_differs() -> None:
    tally = Tally()
    assert tally.distinct() == 0
    for thing in ("a", "b", "a", ("a", "b")):
        tally.add(thing)
    assert tally.distinct() == 3
