"""Exponents, and points measured in a process of their own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.bench.growth import MADE, MODELS, Point, exponent, in_child, parameters, plan, spelt, table
from tests.bench.growth_page import figure
from tests.bench.harness import Work


def test_an_exponent_by_hand() -> None:
    assert exponent([1, 2, 4], [3, 12, 48]) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-9))
    # log2: x 0, 1, 2 and y 0, 2, 1: slope 1/2, residuals -.5, 1, -.5, so its variance is 1.5 / 1 / 2.
    slope, error = exponent([1, 2, 4], [1, 4, 2])
    assert (slope, error) == (pytest.approx(0.5), pytest.approx(math.sqrt(0.75)))


def test_parameters_are_those_of_gpt2() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    for shape in (MODELS["the demo's"], {"n_layer": 3, "n_embd": 32, "n_head": 2}):
        assert parameters(shape) == sum(p.numel() for p in GPT2LMHeadModel(GPT2Config(**shape)).parameters())
    assert parameters(MODELS["124M"]) == 124_439_808
    assert parameters(MODELS["355M"]) == 354_823_168


def test_a_point_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    held: list[bytes] = []
    seconds, mb = in_child(lambda _: Work(lambda: held.append(b"x" * 50_000_000)), tmp_path)
    assert not held
    assert seconds > 0
    # Fails where what the process held before is counted: all libraries.
    assert 45 < mb < 120


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    import os

    with pytest.raises(SystemExit, match="ended early"):
        in_child(lambda _: Work(lambda: os._exit(1)), tmp_path)


def test_every_stage_has_three_points_of_each_quantity() -> None:
    for stage in (*MADE, "store"):
        counts: dict[str, set[float]] = {}
        for axis, x, _ in plan(stage):
            counts.setdefault(axis, set()).add(x)
        assert counts
        assert all(len(xs) >= 3 for xs in counts.values())


def test_the_table_and_the_picture() -> None:
    points = [Point("ppo", "prompt", x, x / 10, 10.0 * x**2) for x in (32, 128, 448)]
    (row,) = table(points).splitlines()[2:]
    assert (
        row == "| `ppo` | prompt tokens | 32, 448 | 3.20, 44.80 | 1.00 ± 0.00 | 10,240, 2,007,040 | 2.00 ± 0.00 |"
    )
    assert len(figure(points).axes) == 8
    assert [spelt(x) for x in (32, 10_000, 124_439_808, 1e6)] == ["32", "10k", "124M", "1M"]
