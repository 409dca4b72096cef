"""``tests/gpu/run.sh``: what one card does, as one JSON file with the card's name, in at most nine minutes.

Each part runs in a process of its own, so that one that fails or takes too long costs no other its figures, and
the file is written again after every part. Parts that no longer fit the time are named in it as skipped. All is in
bf16: TRL gets weights in bf16 and autocast, transformers' ``generate`` once its growing cache and once its
``StaticCache``, which it compiles.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.harness import Timing, compare, say
from tests.bench.models import Size, base

BUDGET = 540
"""Seconds for everything."""
LEAST = 20
"""Seconds that a part needs at least; with less left it is skipped."""
NO_GPU = 2
LLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
"""The shape of Llama 3.2 1B: 1.24 billion parameters."""
SIZES = {
    "124m": Size("gpt2-124m", {}, rows=64, micro=32, prompt=64, completion=128),
    "1b": Size("llama-1b", LLAMA_1B, rows=32, micro=16, prompt=64, completion=128, family="llama"),
}
TINY = {
    "124m": Size(
        "tiny gpt2",
        {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64},
        4, 2, prompt=5, completion=6, epochs=1,
    ),
    "1b": Size(
        "tiny llama",
        {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 64,
        },
        4, 2, prompt=5, completion=6, epochs=1, family="llama",
    ),
}  # fmt: skip
LIMITS = {"tests": 100, "ppo_124m": 110, "decode_124m": 90, "ppo_1b": 150, "decode_1b": 120}
"""Most seconds of each part, in order; together more than the budget, which the later ones share."""
TARGETS = {"ppo_124m_speedup": 10.0, "ppo_1b_speedup": 3.0}


def main(argv: list[str]) -> int:
    args = parsed(argv)
    if args.part:
        print(json.dumps(run_part(args.part, args.device, args.tiny)))
        return 0
    if args.device == "cuda" and not has_card():
        print(
            "error: tests/gpu/run.sh: torch sees no CUDA device. Run it on a machine with a GPU and a CUDA build "
            "of torch; --device cpu --tiny tries the script without one.",
            file=sys.stderr,
        )
        return NO_GPU
    place = out_path(os.environ.get("OUT") or "build/gpu.json")
    result = {"device": args.device, "tiny": args.tiny} | machine(args.device) | {"parts": {}}
    write(place, result)
    failed = measure_all(place, result, args)
    print(json.dumps(result))
    return 1 if failed else 0


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="models of two narrow layers: tries the script")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for everything (%(default)s)")
    parser.add_argument("--part", choices=tuple(LIMITS), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def has_card() -> bool:
    import torch

    return torch.cuda.is_available()


def out_path(text: str) -> Path:
    """The file of results: the path itself, or gpu.json in it where it is a directory."""
    path = Path(text)
    return path / "gpu.json" if path.is_dir() else path


def measure_all(place: Path, result: dict[str, Any], args: argparse.Namespace) -> bool:
    """Run every part that fits the time, adding its figures to the file; whether one failed."""
    started, failed = time.monotonic(), False
    for name, limit in LIMITS.items():
        left = args.budget - (time.monotonic() - started)
        if left < LEAST:
            result["parts"][name] = f"skipped: {left:.0f} s of {args.budget:.0f} s were left"
        else:
            say(f"{name}, at most {min(limit, left):.0f} s")
            status, figures = in_process(name, min(limit, left), args)
            result["parts"][name] = status
            result |= figures
            failed |= status.startswith("failed")
        say(f"{name}: {result['parts'][name]}")
        write(place, result | {"seconds": round(time.monotonic() - started, 1)})
    result["seconds"] = round(time.monotonic() - started, 1)
    result["met"] = {key: result[key] >= target for key, target in TARGETS.items() if key in result}
    write(place, result)
    return failed


def in_process(name: str, seconds: float, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run one part in a process of its own: how it went, and its figures."""
    command = [sys.executable, "-m", "tests.gpu.measure", "--part", name, "--device", args.device]
    command += ["--tiny"] if args.tiny else []
    started = time.monotonic()
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"failed: not done in {seconds:.0f} s", {}
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
        return f"failed: {lines[-1][:300]}", {}
    return f"done in {time.monotonic() - started:.0f} s", json.loads(done.stdout.splitlines()[-1])


def run_part(name: str, device: str, tiny: bool) -> dict[str, Any]:
    """The figures of one part."""
    kind, _, model = name.partition("_")
    if kind == "tests":
        return gpu_tests()
    size = (TINY if tiny else SIZES)[model]
    with tempfile.TemporaryDirectory() as out:
        figures = ppo_figures(size, Path(out), device) if kind == "ppo" else decode_figures(size, device)
    return {f"{name}_{key}": value for key, value in figures.items()}


def gpu_tests() -> dict[str, Any]:
    """Counts of the tests that need a card."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-v", "--no-header"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit((done.stdout + done.stderr)[-3000:])
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout.strip().splitlines()[-1])
    return {"tests": {what: int(count) for count, what in counts}}


def ppo_figures(size: Size, out: Path, device: str) -> dict[str, Any]:
    """One update against TRL's."""
    from tests.bench import ppo

    os.environ["ACCELERATE_MIXED_PRECISION"] = (
        "bf16"  # as its launcher does: TRL's PPO has autocast by no other way
    )
    found = compare(
        f"ppo, {size.name}: {size.rows} completions of {size.completion} tokens",
        {
            "trl": lambda: ppo.Theirs(size, out, bf16=True, device=device),
            "growing": lambda: ppo.Ours(size, out, bf16=True, device=device),
            **(
                {"graphs": lambda: ppo.Ours(size, out, bf16=True, device=device, cuda_graph_decoding=True)}
                if device == "cuda"
                else {}
            ),
        },
        busy=1.0,
    )
    best = max((t.ratio for name, t in found.items() if name != "trl"), default=0.0)
    return {"speedup": best, "speedups": ratios(found), "seconds": seconds(found)}


def decode_figures(size: Size, device: str) -> dict[str, Any]:
    """Sampling: our growing cache, our static one with CUDA graphs, and both of transformers."""
    import torch

    from pipeline.modeling.loading import fuse_activations
    from tests.bench.collect import Ours, Theirs

    model = fuse_activations(base(size, device=device).to(torch.bfloat16))
    found = compare(
        f"sampling, {size.name}: {size.rows} completions of {size.completion} tokens",
        {
            "generate": lambda: Theirs(size, model, natural=False),
            "generate static": lambda: Theirs(size, model, natural=False, cache_implementation="static"),
            "growing": lambda: Ours(size, model, natural=False),
            "graphs": lambda: Ours(size, model, natural=False, cuda_graphs=True),
        },
        amount=(size.rows * size.completion, "tokens"),
        busy=1.0,
    )
    graphs = found["graphs"].seconds
    return {
        "speedup": found["graphs"].ratio,
        "speedup_growing": found["growing"].ratio,
        "graphs_over_growing": round(found["growing"].seconds / graphs, 2),
        "graphs_over_transformers_static": round(found["generate static"].seconds / graphs, 2),
        "seconds": seconds(found),
    }


def ratios(found: Mapping[str, Timing]) -> dict[str, float]:
    return {name: timing.ratio for name, timing in found.items()}


def seconds(found: Mapping[str, Timing]) -> dict[str, float]:
    return {name: timing.seconds for name, timing in found.items()}


def machine(device: str) -> dict[str, Any]:
    """The card, its memory and the libraries."""
    import torch
    import transformers
    import trl

    figures: dict[str, Any] = {"card": "none"}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        figures = {
            "card": card.name,
            "memory_gb": round(card.total_memory / 1e9, 1),
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
        }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    return figures | versions


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
