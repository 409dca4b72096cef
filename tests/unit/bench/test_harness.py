"""How works are measured beside each other; no time is asserted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.bench import __main__ as command
from tests.bench import harness
from tests.bench.harness import Case, Timing, Work, compare, processor, timed
from tests.bench.targets import AT_LEAST, AT_MOST, print_targets


class Fixed(Case):
    """Takes the seconds that it is given, one after another."""

    def __init__(self, seconds: list[float], calls: list[str], name: str) -> None:
        self.seconds, self.calls, self.name = iter(seconds), calls, name

    def run(self) -> float:
        self.calls.append(self.name)
        return next(self.seconds)

    def warm(self) -> None:
        self.calls.append(f"warm {self.name}")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_busy", lambda: 0.0)


def others(monkeypatch: pytest.MonkeyPatch, shares: Iterator[float]) -> None:
    """Let others use these shares of the cores, one for each sample."""

    def measured(work: Callable[[], float | None]) -> tuple[float, float]:
        return work() or 0.0, next(shares)

    monkeypatch.setattr(harness, "timed", measured)


@pytest.mark.usefixtures("quiet")
def test_rounds_are_interleaved_and_ratios_are_taken_round_by_round() -> None:
    calls: list[str] = []
    found = compare(
        "a title",
        {
            "trl": lambda: Fixed([8.0, 3.0, 2.0], calls, "trl"),
            "ours": lambda: Fixed([2.0, 1.0, 2.0], calls, "ours"),
        },
        rounds=3,
    )
    assert calls == ["warm trl", "warm ours", *["trl", "ours"] * 3]
    # Ratios 4, 3 and 1: the median is 3, the ratio of medians would be 1.5 (seen with the median outside).
    assert found == {"trl": Timing(2.0, 1.0), "ours": Timing(1.0, 3.0)}


def test_a_round_in_which_others_used_the_cores_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others(monkeypatch, iter([0.0, 0.5, 0.0, 0.05]))
    found = compare("", {"a": lambda: Fixed([9, 1], [], "a"), "b": lambda: Fixed([1, 2], [], "b")}, rounds=1)
    assert found["b"] == Timing(2.0, 0.5)
    assert "dropped: others used 50% of the cores" in capsys.readouterr().out


def test_cores_that_are_never_free_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    others(monkeypatch, iter([1.0] * 20))
    with pytest.raises(SystemExit, match="the cores were never free"):
        compare("", {"a": lambda: Fixed([1.0] * 20, [], "a")}, rounds=1)


def test_only_our_own_cores_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9\ncpu0 100 0 0 0 0 0 0 0 0 0\ncpu1 700 0 0 0 0 0 0 0 0 0\n")
    monkeypatch.setattr(harness, "Path", lambda _: stat)
    monkeypatch.setattr(harness, "cores", lambda: {1})
    monkeypatch.setattr(harness.os, "sysconf", lambda _: 100)
    assert harness._busy() == 7.0


@pytest.mark.usefixtures("quiet")
def test_what_a_work_counts_itself_is_its_time() -> None:
    assert timed(lambda: 1234.5) == (1234.5, 0.0)


def test_a_short_work_is_repeated_and_a_cold_one_not_warmed() -> None:
    runs: list[int] = []
    Work(lambda: runs.append(1), least=0.01).run()
    assert len(runs) > 1
    Work(runs.clear, cold=True).warm()
    assert runs


def test_the_processor_is_named_with_what_its_speed_hangs_on() -> None:
    machine = processor()
    assert set(machine) == {"name", "cores", "instructions"}
    assert set(machine["instructions"]) <= set(harness.INSTRUCTIONS)


def test_targets_are_met_or_missed(capsys: pytest.CaptureFixture[str]) -> None:
    met = print_targets({"reward_speedup": 2.0, "floor_ratio_fp32": 1.2, "unknown": 1.0})
    assert met == {"reward_speedup": True, "floor_ratio_fp32": False}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["met", "missed"]
    assert not set(AT_LEAST) & set(AT_MOST)


def test_the_last_line_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stage: Any = ModuleType("tests.bench.reward")
    stage.bench = lambda out: {"reward_speedup": 1.5}
    monkeypatch.setitem(sys.modules, "tests.bench.reward", stage)
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setenv("STAGE", "reward")
    assert command.main() == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["reward_speedup"] == 1.5
    assert result["met"] == {"reward_speedup": False}
    assert {"rounds", "quick", "processor", "threads", "torch", "wall_seconds"} <= set(result)


def test_an_unknown_stage_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setenv("STAGE", "rewards")
    assert command.main() == 2
    assert "STAGE=rewards is no stage. Known: ppo, " in capsys.readouterr().err
