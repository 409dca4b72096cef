"""What reading and looking at a big file costs, beside ``datasets.load_dataset`` of the same file.

``python -m tests.bench.reading [ROWS]`` (1,000,000; 50,000 with ``QUICK=1``) writes the same preferences as CSV,
JSON lines and Parquet, and measures each way in a process of its own, in interleaved rounds: processor seconds
without loading the library, the least of the rounds; and the most memory. ``load_dataset`` starts with an empty
cache each time; ``its_rows`` goes through what it gives too, as reading does. It prints one JSON object.
"""

from __future__ import annotations

import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.harness import QUICK, ROUNDS, say

KINDS = {"csv": "csv", "jsonl": "json", "parquet": "parquet"}
ROWS = 50_000 if QUICK else 1_000_000
WAYS = ("load_dataset", "read", "look") if QUICK else ("load_dataset", "its_rows", "read", "look")
TARGET = 2.0
"""Reading should cost at most so many times what ``load_dataset`` does."""


def bench(out: Path) -> dict[str, Any]:
    """The figures as ``reading``, and the largest ratio of reading as ``read_ratio``."""
    del out  # a directory of its own, which ends first
    rows = ROWS
    say(f"reading and looking: {rows:,} rows in {', '.join(KINDS)}, beside load_dataset")
    figures = reading(rows)
    for kind in KINDS:
        seconds = ", ".join(f"{way} {figures[kind][way]['seconds']:.2f} s" for way in WAYS)
        say(f"  {kind:8}{seconds}: read {figures[kind]['read_ratio']}, look {figures[kind]['look_ratio']}")
    return {"reading": figures, "read_ratio": max(figures[kind]["read_ratio"] for kind in KINDS)}


def reading(rows: int) -> dict[str, Any]:
    """Seconds and megabytes of each way and kind of file, and the ratios of reading and looking."""
    result: dict[str, Any] = {"rows": rows, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as text:
        write(Path(text), rows)
        for kind in KINDS:
            samples = [{way: measured(Path(text), kind, way) for way in WAYS} for _ in range(ROUNDS)]
            found = {
                way: {
                    "seconds": round(min(s[way]["seconds"] for s in samples), 2),
                    "mb": max(s[way]["mb"] for s in samples),
                }
                for way in WAYS
            }
            usual = found["load_dataset"]["seconds"]
            ratios = {f"{way}_ratio": round(found[way]["seconds"] / usual, 2) for way in ("read", "look")}
            result[kind] = {**found, **ratios}
    return result


def preferences(rows: int) -> Iterator[tuple[str, str, str]]:
    """Prompts of 8 words and completions of 16."""
    pace = random.Random(0)
    words = [f"word{i}" for i in range(5000)]
    for i in range(rows):
        prompt, chosen, rejected = (" ".join(pace.choices(words, k=n)) for n in (8, 16, 16))
        yield f"{i} {prompt}", f" {chosen}", f" {rejected}"


def write(directory: Path, rows: int) -> None:
    """The same rows in each kind of file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("prompt", "chosen", "rejected")
    schema = pa.schema([(name, "string") for name in names])
    with (
        (directory / "rows.jsonl").open("w") as lines,
        (directory / "rows.csv").open("w", newline="") as table,
        pq.ParquetWriter(directory / "rows.parquet", schema) as writer,
    ):
        cells = csv.writer(table)
        cells.writerow(names)
        batch: list[dict[str, str]] = []
        for i, row in enumerate(preferences(rows), 1):
            cells.writerow(row)
            batch.append(dict(zip(names, row, strict=True)))
            lines.write(json.dumps(batch[-1]) + "\n")
            if len(batch) == 10_000 or i == rows:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []


def measured(directory: Path, kind: str, way: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.reading", str(directory), kind, way]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def once(directory: Path, kind: str, way: str) -> int:
    """Read one file in one way: the rows it found."""
    path = str(directory / f"rows.{kind}")
    if way in ("load_dataset", "its_rows"):
        import datasets

        datasets.disable_progress_bars()
        with tempfile.TemporaryDirectory(dir=directory) as cache:
            loaded: Any = datasets.load_dataset(KINDS[kind], data_files=path, split="train", cache_dir=cache)
            return len(loaded) if way == "load_dataset" else sum(1 for _ in loaded)
    if way == "read":
        from pipeline.sources.row_sources import located_rows

        return sum(1 for _ in located_rows(path, where="bench"))
    from pipeline.formats.inspection import look
    from pipeline.formats.read_options import JudgedSet

    return look(JudgedSet(path), "bench").rows


def main() -> None:
    if len(sys.argv) > 2:
        if sys.argv[3] in ("load_dataset", "its_rows"):
            import datasets  # noqa: F401 - loading the library is no reading
        started = time.process_time()
        rows = once(Path(sys.argv[1]), *sys.argv[2:])

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({"rows": rows, "seconds": time.process_time() - started, "mb": most}))
    else:
        print(json.dumps(reading(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)))


if __name__ == "__main__":
    main()
