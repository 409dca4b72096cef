"""``tests/gpu/run.sh`` without a GPU: refused, and tried on a CPU with tiny shapes."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import measure


def test_without_a_gpu_it_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "has_card", lambda: False)
    monkeypatch.setenv("OUT", str(tmp_path / "gpu.json"))
    assert measure.main([]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: tests/gpu/run.sh: torch sees no CUDA device.")
    assert len(output.err.splitlines()) == 1
    assert not output.out
    assert not list(tmp_path.iterdir())


def test_figures_are_kept_part_by_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One part fails, one is not done in time, one finds no time left; the others' figures are in the file."""
    answers = iter([("done in 5 s", {"a": 1}), ("failed: it broke", {}), ("done in 9 s", {"ppo_1b_speedup": 2.0})])
    clock = iter([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 95.0, 95.0, 95.0, 95.0, 95.0])
    monkeypatch.setattr(measure, "in_process", lambda *_: next(answers))
    monkeypatch.setattr(measure.time, "monotonic", lambda: next(clock))
    place = tmp_path / "build" / "gpu.json"
    args = argparse.Namespace(device="cuda", tiny=False, budget=100.0)
    result: dict[str, Any] = {"card": "a card", "parts": {}}
    assert measure.measure_all(place, result, args)
    kept = json.loads(place.read_text())
    assert kept == result
    assert list(kept["parts"].values()) == [
        "done in 5 s", "failed: it broke", "done in 9 s", *["skipped: 5 s of 100 s were left"] * 2,
    ]  # fmt: skip
    assert (kept["card"], kept["a"], kept["met"]) == ("a card", 1, {"ppo_1b_speedup": False})


def test_a_part_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **_: Any) -> Any:
        assert command[-5:] == ["--part", "ppo_1b", "--device", "cpu", "--tiny"]
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(measure.subprocess, "run", run)
    args = argparse.Namespace(device="cpu", tiny=True)
    assert measure.in_process("ppo_1b", 7.0, args) == ("failed: not done in 7 s", {})


def test_the_result_goes_into_a_directory_or_a_file(tmp_path: Path) -> None:
    assert measure.out_path(str(tmp_path)) == tmp_path / "gpu.json"
    assert measure.out_path(str(tmp_path / "x.json")) == tmp_path / "x.json"


def test_the_parts_fit_nine_minutes() -> None:
    assert measure.BUDGET <= 540
    assert sum(list(measure.LIMITS.values())[:3]) < measure.BUDGET


@pytest.mark.thorough
@pytest.mark.parametrize("part", ["ppo_124m", "decode_1b"])
def test_a_part_at_a_tiny_size(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.harness.ROUNDS", 1)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # put back afterwards
    figures = measure.run_part(part, "cpu", tiny=True)
    assert figures[f"{part}_speedup"] > 0
    assert all(seconds > 0 for seconds in figures[f"{part}_seconds"].values())
    if part == "decode_1b":
        assert {f"{part}_graphs_over_growing", f"{part}_graphs_over_transformers_static"} <= set(figures)
