"""What the figures of ``make bench`` should reach: ratios to the library's own call unless the name says else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.bench.harness import say

AT_LEAST: dict[str, float] = {
    "speedup_bf16": 8.0,
    "speedup_natural_lengths": 10.0,
    "speedup_trunk_bf16": 12.0,
    "memory_ratio_fp32": 5.0,
    "memory_ratio_bf16": 8.0,
    "smollm2_speedup": 3.0,
    "smollm2_memory_ratio": 4.0,
    "collect_speedup_fp32": 2.0,
    "collect_speedup_bf16": 3.0,
    "collect_speedup_natural_fp32": 3.0,
    "collect_speedup_natural_bf16": 5.0,
    "reward_speedup": 2.0,
    "reward_speedup_bf16": 4.0,
    "reward_speedup_short": 1.5,
    "reward_speedup_short_bf16": 3.0,
    "memory_ratio_reward": 3.0,
    "sft_speedup": 1.5,
}
AT_MOST: dict[str, float] = {
    "floor_ratio_fp32": 1.1,
    "floor_ratio_bf16": 1.2,
    "label_next_ms": 50.0,
    "startup_second_make_s": 0.5,
    "startup_check_s": 0.1,
    "read_ratio": 2.0,
}


@dataclass(frozen=True)
class Target:
    """What a figure should reach: at least or at most a number."""

    key: str
    number: float
    least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {self.number:g}"

    def met_by(self, figure: float) -> bool:
        return figure >= self.number if self.least else figure <= self.number


TARGETS = [Target(k, n, True) for k, n in AT_LEAST.items()] + [Target(k, n, False) for k, n in AT_MOST.items()]


def print_targets(result: dict[str, Any]) -> dict[str, bool]:
    """Print the target of every figure that was measured; whether each was met."""
    met = {t.key: t.met_by(result[t.key]) for t in TARGETS if t.key in result}
    for target in TARGETS:
        if (key := target.key) in met:
            say(f"{key:30}{result[key]:8.2f}   target {target!s:>7}   {'met' if met[key] else 'missed'}")
    return met
