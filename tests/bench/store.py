"""The store beside plain pyarrow: publishing, listing, resolving and verifying, with many versions and many rows.

Plain means what a script without versions would do: write the rows to one Parquet file and flush it, read the JSON
beside every version, hash the files. Ratios are the store's time over the plain one, so less is better.
``VERSIONS`` (10,000; 500 with ``QUICK=1``) and ``ROWS`` (10,000,000; 200,000) set the sizes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store import refs
from pipeline.store.store import Store
from pipeline.store.version import Version
from tests.bench.harness import QUICK, Timing, Work, compare, peaks, say

VERSIONS = int(os.environ.get("VERSIONS") or (500 if QUICK else 10_000))
ROWS = int(os.environ.get("ROWS") or (200_000 if QUICK else 10_000_000))
FEW = 100
"""Rows of each of the many versions."""
SCHEMA = {"id": "string", "prompt": "string", "chosen": "string", "rejected": "string"}
COLUMNS = pa.schema([(name, pa.string()) for name in SCHEMA])
GROUP = 10_000


def bench(out: Path) -> dict[str, Any]:
    """Milliseconds and ratios with many versions, seconds and ratios with many rows, ratios of memory."""
    result: dict[str, Any] = {"store_versions": VERSIONS, "store_rows": ROWS}
    result |= many_versions(out)
    result |= many_rows(out)
    memory = peaks("store", "pyarrow", "store")
    return result | {"store_peak_gb": memory, "store_memory_ratio": round(memory["store"] / memory["pyarrow"], 2)}


def peak_cases(out: Path) -> dict[str, Any]:
    return {
        "pyarrow": lambda: Work(lambda: plain_write(out / "rows.parquet", rows(ROWS))),
        "store": lambda: Work(lambda: publish(Store(out / "data"), "rows", rows(ROWS))),
    }


def many_versions(out: Path) -> dict[str, Any]:
    """What a command waits for in a name with this many versions; publishing also into an empty one."""
    store, plain = Store(out / "data"), out / "plain"
    plain.mkdir(exist_ok=True)
    say(f"making {VERSIONS:,} versions of {FEW} rows")
    home = build(store, "many", VERSIONS)
    names = itertools.count()
    few = list(rows(FEW))

    def fresh() -> None:
        publish(store, f"fresh{next(names)}", few)

    result: dict[str, Any] = {}

    def measured(key: str, title: str, usual: Any, ours: Any) -> None:
        found = compare(f"store, {title}", makers(usual, ours, least=0.3), rounds=3)
        result[f"store_{key}_ms"] = round(found["store"].seconds * 1000, 2)
        result[f"store_{key}_ratio"] = over(found)

    def write() -> None:
        plain_write(plain / f"{next(names)}.parquet", few)

    measured("publish", f"publish {FEW} rows under a new name", write, fresh)
    measured("publish_nth", f"publish version {VERSIONS + 1:,}", write, lambda: publish(store, "many", few))
    manifests = [home / "versions" / refs.spell(n + 1) / "manifest.json" for n in range(VERSIONS)]
    measured("list", "list all versions", lambda: read_all(manifests), lambda: store.versions("many"))
    measured("resolve", "resolve the latest", lambda: read_all(manifests[-1:]), lambda: store.resolve("many"))
    measured("find", "look for finished work that is not there", lambda: read_all(manifests), lambda: find(store))
    middle = store.resolve(f"many@v{VERSIONS // 2}")
    measured("verify", f"verify a version of {FEW} rows", lambda: hash_all(middle), middle.verify)
    return result


def find(store: Store) -> None:
    if store.find("many", "no such key") is not None:
        raise RuntimeError("a version has the key that none was given")


def many_rows(out: Path) -> dict[str, Any]:
    """Publishing, verifying and reading one version of :data:`ROWS` rows."""
    store, plain, names = Store(out / "data"), out / "rows.parquet", itertools.count()
    rounds = 1 if ROWS > 1_000_000 else 3
    result: dict[str, Any] = {}

    def measured(key: str, title: str, usual: Any, ours: Any) -> None:
        # So long that nothing is left to warm up.
        pair = makers(usual, ours, cold=rounds == 1)
        found = compare(f"store, {title} {ROWS:,} rows", pair, rounds, (ROWS, "rows"))
        result[f"store_rows_{key}_s"] = round(found["store"].seconds, 3)
        result[f"store_rows_{key}_ratio"] = over(found)

    def write() -> None:
        plain_write(plain, rows(ROWS))

    measured("publish", "publish", write, lambda: publish(store, f"rows{next(names)}", rows(ROWS)))
    version = store.resolve("rows0")
    shards = version.shards()
    measured("verify", "verify", lambda: hash_all(version), version.verify)
    measured("read", "read", lambda: read_rows(shards), lambda: sum(1 for _ in version.iter_rows()))
    return result


def makers(usual: Any, ours: Any, **how: Any) -> dict[str, Any]:
    return {"plain": lambda: Work(usual, **how), "store": lambda: Work(ours, **how)}


def over(found: dict[str, Timing]) -> float:
    """The store's time over the plain one."""
    return round(1 / found["store"].ratio, 2) if found["store"].ratio else float("inf")


def rows(count: int) -> Iterator[dict[str, str]]:
    """Preferences of 8 and 16 words, the same in every row group, so that making them costs next to nothing."""
    texts = [" ".join(f"word{(i * 7 + k * 13) % 5000}" for k in range(16)) for i in range(GROUP)]
    group = [
        {"id": f"{i:016x}", "prompt": text[: len(text) // 2], "chosen": text, "rejected": texts[-1 - i]}
        for i, text in enumerate(texts)
    ]
    return itertools.islice(itertools.cycle(group), count)


def publish(store: Store, name: str, content: Any, key: str | None = None) -> Version:
    with store.draft(name, kind="preferences", stage="bench", key=key) as draft:
        draft.write_rows("train", content, schema=SCHEMA)
    return draft.version


def plain_write(path: Path, content: Any) -> None:
    stream = iter(content)
    with path.open("wb") as f:
        with pq.ParquetWriter(f, COLUMNS, compression="zstd") as writer:
            while group := list(itertools.islice(stream, GROUP)):
                writer.write_table(pa.Table.from_pylist(group, COLUMNS))
        f.flush()
        os.fsync(f.fileno())


def build(store: Store, name: str, count: int) -> Path:
    """A name with ``count`` versions, each with a manifest and a card of its own; all share one file of rows."""
    first = publish(store, name, list(rows(FEW)), "key 1")
    home = store.home(name)
    for number in range(2, count + 1):
        path = refs.version_path(home, number)
        (path / "data").mkdir(parents=True)
        for file in first.manifest.files:
            (path / file.path).hardlink_to(first.path / file.path)
        (path / "README.md").hardlink_to(first.path / "README.md")
        manifest = replace(first.manifest, version=number, key=f"key {number}")
        (path / "manifest.json").write_text(manifest.to_json())
    refs.move_head(home, count, first.id)
    return home


def read_all(paths: list[Path]) -> None:
    for path in paths:
        json.loads(path.read_text())


def hash_all(version: Version) -> None:
    for file in version.manifest.files:
        with (version.path / file.path).open("rb") as f:
            hashlib.file_digest(f, "sha256")


def read_rows(shards: list[Path]) -> int:
    return sum(len(batch.to_pylist()) for path in shards for batch in pq.ParquetFile(path).iter_batches(1000))
