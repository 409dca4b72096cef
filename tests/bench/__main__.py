"""``make bench``: every stage against the library's own call, in one process, in interleaved rounds.

``STAGE=reward`` measures one of the stages below, or several with commas between; ``STAGE=ppo PART=trunk`` a part
of PPO. ``QUICK=1`` takes smaller shapes and one round, leaves memory to PPO and ``smollm2`` out. A sample during
which others used the cores is dropped. Memory is the peak of a process of its own. ``WRITE=1`` writes the tables
of docs/speed.md. The last line is one JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.harness import QUICK, ROUNDS, measure_peak, processor, say
from tests.bench.speed_page import write_page
from tests.bench.targets import print_targets

STAGES = {
    "ppo": "ppo", "smollm2": "smollm2", "reward": "reward", "sft": "sft", "collect": "collect",
    "evaluate": "evaluate", "store": "store", "startup": "startup", "label": "labelling", "reading": "reading",
}  # fmt: skip
"""The module of each."""
WRITE = os.environ.get("WRITE", "") not in ("", "0")


def main() -> int:
    if sys.argv[1:2] == ["peak"]:
        measure_peak(*sys.argv[2:4])
        return 0
    named = [s for s in os.environ.get("STAGE", "").split(",") if s]
    chosen = named or [s for s in STAGES if not (QUICK and s == "smollm2")]
    if unknown := [s for s in chosen if s not in STAGES]:
        print(f"error: STAGE={','.join(unknown)} is no stage. Known: {', '.join(STAGES)}.", file=sys.stderr)
        return 2
    machine = processor()
    result: dict[str, Any] = {"rounds": ROUNDS, "quick": QUICK, "processor": machine}
    say(f"{machine['name']}, {machine['cores']} cores, {' '.join(machine['instructions'])}")
    if QUICK:
        say("QUICK: smaller shapes and one round. Full shapes have other ratios, and the targets are theirs.")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        for i, stage in enumerate(chosen, 1):
            say(f"\n[{i}/{len(chosen)}] {stage}, after {time.monotonic() - started:.0f} s")
            figures = importlib.import_module(f"tests.bench.{STAGES[stage]}").bench(Path(out))
            result |= figures
            if WRITE:
                write_page({stage: figures}, machine, QUICK)
    result |= versions() | {"wall_seconds": round(time.monotonic() - started)}
    say("")
    result["met"] = print_targets(result)
    print(json.dumps(result))
    return 0


def versions() -> dict[str, Any]:
    import torch
    import transformers
    import trl

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    return {"threads": torch.get_num_threads(), **versions}


if __name__ == "__main__":
    sys.exit(main())
