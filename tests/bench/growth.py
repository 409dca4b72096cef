"""How time and memory of each stage grow: ``python -m tests.bench.growth [STAGE ...]``.

From one point, GPT-2 124M with prompts and completions of 64 tokens in a batch of 4, one quantity is changed at a
time: tokens of the prompt, tokens of the completion, rows of the batch, parameters of the model; of the store, its
rows and its versions. Every point is one run in fp32, without a warm-up, in a process of its own. Seconds are of
processor time, so other work on the machine matters little; memory is what the work adds. The points are kept in
docs/growth.json. docs/growth.png and the table in docs/speed.md are drawn from all that it holds; ``--draw`` only
draws.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.store.store import Store
from tests.bench import collect, evaluate, ppo, reward, sft, step_clock
from tests.bench.harness import Case, Work, processor, say
from tests.bench.models import Size
from tests.bench.store import build, find, publish, rows

POINTS = Path("docs/growth.json")
START = Size("gpt2-124m", {}, rows=4, micro=4, prompt=64, completion=64, epochs=1, steps=1)
LENGTHS = (32, 128, 448)
BATCHES = (2, 4, 8, 16)
MODELS: dict[str, dict[str, Any]] = {
    "the demo's": {"n_layer": 4, "n_embd": 192, "n_head": 4, "vocab_size": 1024},
    "30M": {"n_layer": 6, "n_embd": 384, "n_head": 6},
    "124M": {},
    "355M": {"n_layer": 24, "n_embd": 1024, "n_head": 16},
}
AXES = {
    "prompt": "prompt tokens", "completion": "completion tokens", "batch": "batch", "model": "parameters",
    "rows": "rows", "versions": "versions",
}  # fmt: skip
MADE: dict[str, Callable[[Size, Path], Case]] = {
    "sft": lambda size, out: sft.Ours(size, out, adapt=True),
    "collect": lambda size, out: collect.cases(size, out, natural=False)["fp32"](),
    "reward": reward.Ours,
    "ppo": ppo.Ours,
    "evaluate": lambda size, out: evaluate.Ours(size),
}


LIBRARIES = (
    "pipeline.trainers.ppo.trainer", "pipeline.trainers.reward", "pipeline.trainers.sft",
    "pipeline.modeling.decoding.generation", "pipeline.scoring.reward_adapter", "peft",
    "pyarrow.parquet", "transformers.models.gpt2.modeling_gpt2",
)  # fmt: skip
"""What a measured process finds imported, so that imports are in neither its time nor its memory."""


@dataclass(frozen=True)
class Point:
    """One measured run: processor seconds, and the megabytes that it added to the process at its peak."""

    stage: str
    axis: str
    x: float
    seconds: float
    mb: float


def plan(stage: str) -> list[tuple[str, float, Callable[[Path], Case]]]:
    """(axis, value, maker) of every point of a stage."""
    if stage == "store":
        return [
            *(("rows", n, published(n)) for n in (10_000, 100_000, 1_000_000)),
            *(("versions", n, searched(n)) for n in (100, 1_000, 10_000)),
        ]
    sizes: list[tuple[str, float, Size]] = []
    if stage != "sft":  # its texts have no prompt
        sizes += [("prompt", n, replace(START, prompt=n)) for n in LENGTHS]
    sizes += [("completion", n, replace(START, completion=n)) for n in LENGTHS]
    sizes += [("batch", n, replace(START, rows=n, micro=n)) for n in BATCHES]
    sizes += [("model", parameters(s), replace(START, name=n, shape=s)) for n, s in MODELS.items()]
    if stage == "sft":
        sizes = [(axis, x, replace(size, prompt=0)) for axis, x, size in sizes]
    make = MADE[stage]
    return [(axis, x, lambda out, size=size: make(size, out)) for axis, x, size in sizes]


def parameters(shape: dict[str, Any]) -> int:
    """Of a GPT-2, its output embedding being its input one."""
    layers, width = shape.get("n_layer", 12), shape.get("n_embd", 768)
    block = 12 * width**2 + 13 * width
    return (shape.get("vocab_size", 50257) + 1024) * width + layers * block + 2 * width


def published(count: int) -> Callable[[Path], Case]:
    """Publish a version of so many rows."""
    return lambda out: Work(lambda: publish(Store(out / "data"), "rows", rows(count)))


def searched(count: int) -> Callable[[Path], Case]:
    """Look, among so many versions, for finished work that is not there."""

    def make(out: Path) -> Case:
        build(Store(out / "data"), "many", count)
        return Work(lambda: find(Store(out / "data")))

    return make


def measure(stage: str) -> list[Point]:
    """Every point of the plan."""
    for library in LIBRARIES:
        importlib.import_module(library)
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as text:
        for i, (axis, x, make) in enumerate(plan(stage)):
            out = Path(text) / str(i)
            out.mkdir()
            seconds, mb = in_child(make, out)
            points.append(Point(stage, axis, x, round(seconds, 4), round(mb, 1)))
            say(f"{stage}, {AXES[axis]} {x:,}: {seconds:.3g} s, {mb:,.0f} MB")
    return points


def in_child(make: Callable[[Path], Case], out: Path) -> tuple[float, float]:
    """Processor seconds of one run, and the memory of making and running it, in a fork that finds all imported."""
    fork = multiprocessing.get_context("fork")
    reader, writer = fork.Pipe(duplex=False)

    def work() -> None:
        before = status_kb("VmRSS")  # where the peak of a fork begins
        step_clock.clock = time.process_time
        case = make(out)
        started = time.process_time()
        counted = case.run()
        # A Work counts by the wall clock, and counts all that it does.
        seconds = counted if isinstance(case, step_clock.TrainerCase) else time.process_time() - started
        writer.send((seconds, (status_kb("VmHWM") - before) / 1e3))

    child = fork.Process(target=work)
    child.start()
    writer.close()
    try:
        return reader.recv()
    except EOFError:
        raise SystemExit("error: the measured process ended early (out of memory?)") from None
    finally:
        child.join()


def status_kb(name: str) -> int:
    line = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert line is not None
    return int(line[1])


def exponent(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """The slope of log y over log x by least squares, and its standard error."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    n = len(logs)
    mean_x, mean_y = (sum(side) / n for side in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in logs)
    return slope, math.sqrt(left / (n - 2) / spread)


def curves(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """The points of each stage and axis, in order of x."""
    out: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda p: p.x):
        out.setdefault((point.stage, point.axis), []).append(point)
    return out


def table(points: Sequence[Point]) -> str:
    """A Markdown table: of each stage and axis the first and the last point, and the exponents."""
    lines = [
        "| stage | grows | from, to | seconds | exponent | megabytes | exponent |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    by_axis = curves(points)
    for stage in (*MADE, "store"):
        for axis, name in AXES.items():
            curve = by_axis.get((stage, axis))
            if curve is None:
                continue
            xs = [p.x for p in curve]
            cells = [f"{spelt(xs[0])}, {spelt(xs[-1])}"]
            for ys, digits in (([p.seconds for p in curve], 2), ([max(p.mb, 0.1) for p in curve], 0)):
                slope, error = exponent(xs, ys)
                cells += [f"{ys[0]:,.{digits}f}, {ys[-1]:,.{digits}f}", f"{slope:.2f} ± {error:.2f}"]
            lines.append(f"| `{stage}` | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spelt(x: float) -> str:
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if x >= size:
            return f"{x / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{x:,.0f}"


def main(argv: list[str]) -> int:
    from tests.bench.growth_page import draw

    stages = [a for a in argv if a != "--draw"] or ([] if "--draw" in argv else [*MADE, "store"])
    if unknown := [s for s in stages if s not in (*MADE, "store")]:
        print(f"error: {', '.join(unknown)} is no stage. Known: {', '.join((*MADE, 'store'))}.", file=sys.stderr)
        return 2
    for stage in stages:
        points = measure(stage)
        kept = [p for p in read() if p.stage != stage]
        content = {"processor": processor(), "points": [vars(p) for p in (*kept, *points)]}
        POINTS.write_text(json.dumps(content, indent=1) + "\n")
    draw(read(), json.loads(POINTS.read_text())["processor"])
    return 0


def read() -> list[Point]:
    """The points measured so far."""
    return [Point(**p) for p in json.loads(POINTS.read_text())["points"]] if POINTS.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
