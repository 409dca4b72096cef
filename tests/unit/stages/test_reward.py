"""The reward stage's limit on length: the base's positions at most, and a line that blames the length."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.base.errors import DataError
from pipeline.stages import reward
from pipeline.trainers.reward import Pairs


@pytest.mark.parametrize(
    ("asked", "positions", "used", "says"),
    [
        (1024, 64, 64, True),
        (None, 64, 64, True),
        (32, 64, 32, False),
        (64, 64, 64, False),
        (1024, None, 1024, False),
    ],
)
def test_the_smaller_of_max_length_and_the_positions(
    asked: int | None, positions: int | None, used: int, says: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    args = SimpleNamespace(max_length=asked)
    reward.limit_length(args, SimpleNamespace(max_position_embeddings=positions))
    assert args.max_length == used
    said = capsys.readouterr().out
    assert (f"max_length is {positions}, the base's positions" in said) == says


def split(**kept_and_dropped: tuple[int, int]) -> dict[str, Pairs]:
    return {
        name: Pairs([], [], None, list(range(kept)), dropped, longest=210)
        for name, (kept, dropped) in kept_and_dropped.items()
    }


def test_nothing_left_blames_the_length() -> None:
    with pytest.raises(
        DataError, match=r"split train: all 54 rows .*reward\.max_length = 64 tokens \(the longest 210\)"
    ):
        reward.require_kept(split(train=(0, 54), test=(0, 6)), 64)
    with pytest.raises(DataError, match="split test: all 6 rows"):
        reward.require_kept(split(train=(50, 5), test=(0, 6)), 64)
    reward.require_kept(split(train=(50, 5), test=(6, 0)), 64)
