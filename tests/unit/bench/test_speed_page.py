"""The tables of docs/speed.md: of the stages measured, with the processor of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import speed_page
from tests.bench.targets import AT_LEAST

MACHINE: dict[str, Any] = {"name": "A processor", "cores": 2, "instructions": ["avx512_bf16"]}
OTHER: dict[str, Any] = {"name": "Another", "cores": 1, "instructions": []}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(speed_page, "FIGURES", tmp_path / "speed.json")
    monkeypatch.setattr(speed_page, "PAGE", tmp_path / "speed.md")
    (tmp_path / "speed.md").write_text(f"before\n{speed_page.BEGIN}\nold\n{speed_page.END}\nafter\n")
    return tmp_path


def test_stages_are_kept_with_the_processor_of_their_own_run(written: Path) -> None:
    speed_page.write_page({"reward": {"reward_speedup": 1.234, "memory_ratio_reward": 3.5}}, MACHINE, quick=False)
    speed_page.write_page({"sft": {"sft_speedup": 1.0}}, OTHER, quick=True)
    text = (written / "speed.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| `reward` | prompts as long as completions | 1.23 (of 2) |  | 3.5 (of 3) |  |" in text
    assert "| `sft` | LoRA | 1 (of 1.5) |  |  |  |" in text
    assert "`ppo`" not in text
    assert "`reward`: A processor (avx512_bf16), 2 cores." in text
    assert "`sft`: Another (), 1 core, at the quick shapes." in text
    assert json.loads((written / "speed.json").read_text())["reward"]["reward_speedup"] == 1.234


def test_a_part_joins_what_was_measured_at_the_same_place(written: Path) -> None:
    speed_page.write_page({"ppo": {"speedup_fp32": 2.5}}, MACHINE, quick=False)
    speed_page.write_page({"ppo": {"speedup_trunk_fp32": 3.0}}, MACHINE, quick=False)
    kept = json.loads((written / "speed.json").read_text())["ppo"]
    assert (kept["speedup_fp32"], kept["speedup_trunk_fp32"]) == (2.5, 3.0)
    for place in ((OTHER, False), (MACHINE, True)):
        speed_page.write_page({"ppo": {"speedup_trunk_fp32": 3.5}}, *place)
        # Mutation caught: figures of one processor beside another's name.
        assert "speedup_fp32" not in json.loads((written / "speed.json").read_text())["ppo"]


def test_every_target_has_its_figure_and_verdict(written: Path) -> None:
    figures = {"reward_speedup": 1.7, "reward_speedup_short": 1.5}
    speed_page.write_page({"reward": figures, "startup": {"startup_check_s": 0.09}}, MACHINE, quick=False)
    text = (written / "speed.md").read_text()
    assert "| `reward_speedup` | >= 2 | 1.7 | missed |" in text
    # Mutation caught: a figure at its target called missed.
    assert "| `reward_speedup_short` | >= 1.5 | 1.5 | met |" in text
    # Mutation caught: seconds held to be the better the more there are.
    assert "| `startup_check_s` | <= 0.1 | 0.09 | met |" in text
    assert "| `speedup_bf16` | >= 8 |  | not measured |" in text


def test_every_target_of_a_ratio_has_a_place() -> None:
    shown = {key for _, _, *keys in speed_page.ROWS for key in keys}
    assert set(AT_LEAST) <= shown
