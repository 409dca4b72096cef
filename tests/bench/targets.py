"""What the figures of ``make bench`` should reach: ratios to the library's own call unless the name says else."""

from __future__ import annotations

from typing import Any

from tests.bench.harness import say

AT_LEAST: dict[str, float] = {
    "speedup_bf16": 8.0,
    "speedup_natural_lengths": 10.0,
    "speedup_trunk_bf16": 12.0,
    "memory_ratio_fp32": 5.0,
    "memory_ratio_bf16": 8.0,
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


def print_targets(result: dict[str, Any]) -> dict[str, bool]:
    """Print the target of every figure that was measured; whether each was met."""
    met: dict[str, bool] = {}
    for sign, targets in ((">=", AT_LEAST), ("<=", AT_MOST)):
        for key, target in targets.items():
            if key in result:
                met[key] = result[key] >= target if sign == ">=" else result[key] <= target
                say(f"{key:30}{result[key]:8.2f}   target {sign} {target:4}   {'met' if met[key] else 'missed'}")
    return met
