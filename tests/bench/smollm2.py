"""One PPO update of SmolLM2-135M's shape: ours against TRL 1.12's own trainer, on the same random Llama.

The sizes are those of configs/smollm2.yaml: 32 completions of 40 tokens, prompts of 30, two epochs; both with LoRA
on the attention's q and v of every block, and ours once more on the upper third alone, as that config has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.harness import QUICK, Case, compare, peaks
from tests.bench.models import Size
from tests.bench.ppo import Ours, Theirs

SMOLLM2 = Size(
    "smollm2-135m",
    {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    },
    rows=32, micro=8, prompt=30, completion=40, epochs=2, family="llama",
)  # fmt: skip
TRUNK = 20
"""Of its 30 blocks, those without LoRA in configs/smollm2.yaml."""
if QUICK:
    SMOLLM2 = replace(SMOLLM2, rows=8, micro=4)


def bench(out: Path) -> dict[str, Any]:
    """Speedups and ratios of memory."""
    makers = cases(SMOLLM2, out)
    if QUICK:
        del makers["trunk"]
    title = (
        f"ppo, {SMOLLM2.name}: {SMOLLM2.rows} completions of {SMOLLM2.completion} tokens, {SMOLLM2.epochs} epochs"
    )
    timings = compare(title, makers, amount=(SMOLLM2.rows, "completions"))
    result: dict[str, Any] = {
        "smollm2_speedup": timings["fp32"].ratio,
        "smollm2_speedup_bf16": timings["bf16"].ratio,
        "smollm2_seconds": {name: timing.seconds for name, timing in timings.items()},
    }
    if QUICK:
        return result
    result["smollm2_speedup_trunk"] = timings["trunk"].ratio
    memory = peaks("smollm2", "trl", "fp32", "bf16")
    result["smollm2_memory_ratio"] = round(memory["trl"] / memory["fp32"], 2)
    result["smollm2_memory_ratio_bf16"] = round(memory["trl"] / memory["bf16"], 2)
    return result | {"smollm2_peak_gb": memory}


def cases(size: Size, out: Path) -> dict[str, Callable[[], Case]]:
    return {
        "trl": lambda: Theirs(size, out),
        "fp32": lambda: Ours(size, out),
        "bf16": lambda: Ours(size, out, bf16=True),
        "trunk": lambda: Ours(size, out, trunk_layers=TRUNK),
    }


def peak_cases(out: Path) -> dict[str, Callable[[], Case]]:
    return cases(replace(SMOLLM2, rows=16), out)
